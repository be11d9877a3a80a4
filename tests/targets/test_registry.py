"""Target names, options and validation."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.errors import InternalError, UsageError
from qcompiler.targets import get_target, known_targets
from qcompiler.targets.onnx.isa import ISAS, PAIR_PRODUCTS, host_isa


def test_known_targets_have_descriptions() -> None:
    assert {"onnx", "onnxruntime-cpu"} <= known_targets().keys()
    assert all(known_targets().values())


@pytest.mark.parametrize("isa", ISAS)
def test_isa_decides_the_weight_format(isa: str) -> None:
    target = get_target(f"onnxruntime-cpu:{isa}")
    assert target.name == f"onnxruntime-cpu:{isa}" and target.isa == isa
    assert target.can("int16_pair_products") is (isa in PAIR_PRODUCTS)


def test_without_an_isa_the_host_decides() -> None:
    assert get_target("onnxruntime-cpu").isa == host_isa()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("onxruntime-cpu", "unknown target.*known: onnx.*Did you mean 'onnxruntime-cpu'"),
        ("onnxruntime-cpu:avx3", "unknown instruction set.*Did you mean 'avx2'"),
        ("onnx:avx2", "takes no option"),
        ("", "unknown target"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_target(name)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("sse2 avx2", "avx2"),
        ("avx2 avx_vnni", "avx_vnni"),
        ("avx2 avx512bw", "avx512"),
        ("avx512bw avx512_vnni avx_vnni", "avx512_vnni"),
    ],
)
def test_cpu_flags(flags: str, expected: str, tmp_path: Path) -> None:
    if host_isa() == "arm64":
        expected = "arm64"
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    assert host_isa(info) == expected
    assert host_isa(tmp_path / "absent") == ("arm64" if expected == "arm64" else "avx2")


def test_capabilities_are_checked_by_name() -> None:
    with pytest.raises(InternalError, match="no capability"):
        get_target("onnx").can("fast")
