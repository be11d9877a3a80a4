"""Rules for every test: threads, skips, golden files."""

from __future__ import annotations

import os
import re

# Before anything imports torch or NumPy: one thread per pytest-xdist worker.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from collections.abc import Callable, Generator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/ anew, compare nothing")


# -- a skip is a failure where everything must be there (QC_REQUIRE=all) ------------------------------------


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("QC_REQUIRE") != "all" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: skipped, and QC_REQUIRE=all allows no skip: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)  # a module that skips itself while it is imported
    return report


# -- golden files -------------------------------------------------------------------------------------------


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`golden(text)` compares with tests/golden/<test file>/<test name>.txt; `--update-golden` writes it.

    `golden(text, name)` keeps several texts of one test apart.
    """
    folder = TESTS / "golden" / Path(request.node.path).relative_to(TESTS).with_suffix("")

    def check(text: str, name: str = "") -> None:
        title = f"{request.node.name}-{name}" if name else request.node.name
        path = folder / (re.sub(r"[^\w.-]", "_", title) + ".txt")
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"no {path.relative_to(TESTS)}: run pytest --update-golden and read the file"
        assert text == path.read_text(encoding="utf-8"), "not the golden file; if meant: --update-golden"

    return check
