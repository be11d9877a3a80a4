"""What the README and docs/ tell a reader to type: snippets run, commands parse, files and links are there."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.main import get_command

import qcompiler as qc
from qcompiler.cli import app
from qcompiler.frontend import capture
from qcompiler.ir import OPS
from qcompiler.recipe import load_recipe
from support.tools import requires_tool

ROOT = Path(__file__).parent.parent
PAGES = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


def snippet(page: str, language: str) -> str:
    """The only block of a language on a page, its indentation taken off."""
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", PAGES[page], re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"{page} has {len(blocks)} blocks of {language}"
    indent, text = blocks[0]
    return re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)).eval()


def images(count: int) -> list[tuple[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((1, 3, 8, 8)).astype(np.float32),) for _ in range(count)]


# -- Python


def test_every_python_block_is_python() -> None:
    for page in PAGES:
        for indent, text in re.findall(r"^( *)```python\n(.*?)^ *```$", PAGES[page], re.MULTILINE | re.DOTALL):
            ast.parse(re.sub(rf"^{indent}", "", text, flags=re.MULTILINE), page)


def test_readme_snippet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    samples = images(12)
    names: dict[str, Any] = {"model": network(), "example_inputs": (torch.from_numpy(samples[0][0]),), "samples": samples, "x": samples[0][0]}
    exec(snippet("README.md", "python"), names)
    assert np.array_equal(names["again"].run(names["x"])[0], names["compiled"].run(names["x"])[0])


def test_graph_text_snippet() -> None:
    exec(snippet("docs/concepts.md", "python"), {"graph": capture(network(), (torch.zeros(1, 3, 8, 8),))})


def test_pass_snippet() -> None:
    from qcompiler.ir import Graph, Node, Rewriter, Value, rewrite
    from qcompiler.passes.base import Context, Kind, Note, Pass, Result

    names: dict[str, Any] = dict(
        Graph=Graph, Node=Node, Rewriter=Rewriter, Value=Value, rewrite=rewrite, Context=Context, Kind=Kind, Note=Note, Pass=Pass,
        Result=Result,
    )  # fmt: skip
    exec("from __future__ import annotations\n" + snippet("docs/adding_a_pass.md", "python"), names)

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.neg(torch.neg(x)) + 1

    graph = capture(Model(), (torch.zeros(3),))
    result = names["DropDoubleNegative"]().run(graph, Context())
    assert [n.op for n in graph.nodes] == ["neg", "neg", "add"]
    assert [n.op for n in result.graph.nodes] == ["add"] and len(result.notes) == 1


def test_op_snippet() -> None:
    from qcompiler.ir.ops import elementwise

    row = eval(snippet("docs/adding_an_op.md", "python").strip(), vars(elementwise) | {})
    assert row.name not in OPS and row.category == OPS["sqrt"].category and row.operands == OPS["sqrt"].operands


def test_camera_snippet() -> None:
    names: dict[str, Any] = {"torch": torch}
    exec(snippet("docs/integer_programs.md", "python"), names)
    model = names["Camera"](network(), [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]).eval()
    rng = np.random.default_rng(0)
    data = [(rng.integers(0, 256, (1, 8, 8, 3)).astype(np.uint8),) for _ in range(12)]
    compiled = qc.compile(model, (torch.from_numpy(data[0][0]),), target="onnx", recipe="w8a8-int", calibration=data)
    assert compiled.run(data[0][0])[0].shape == (1, 3)


def test_arguments_of_compile_exist() -> None:
    known = set(inspect.signature(qc.compile).parameters)
    found = 0
    for page in PAGES:
        for indent, text in re.findall(r"^( *)```python\n(.*?)^ *```$", PAGES[page], re.MULTILINE | re.DOTALL):
            for node in ast.walk(ast.parse(re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "qc.compile":
                    assert {k.arg for k in node.keywords} <= known, page
                    found += 1
    assert found >= 2


# -- C, YAML


def test_c_snippet_compiles_against_a_projects_header(tmp_path: Path) -> None:
    requires_tool("gcc")
    samples = images(8)
    compiled = qc.compile(network(), (torch.from_numpy(samples[0][0]),), target="host-c", recipe="w8a8-int", calibration=samples)
    folder = compiled.save(tmp_path / "out")
    text = snippet("docs/cortex_m.md", "c").replace("    ...\n", "    (void)first;\n")
    (tmp_path / "application.c").write_text(text)
    done = subprocess.run(
        ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{folder}", tmp_path / "application.c"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_recipe_snippet() -> None:
    recipe = load_recipe(yaml.safe_load(snippet("docs/fpga_hls.md", "yaml")))
    assert recipe.weight_digits == 2 and len(recipe.rules) == 1
    recipe = load_recipe(yaml.safe_load(snippet("docs/tvm.md", "yaml")))
    assert recipe.int16_products == 4 and recipe.settings_for("classifier", "linear").int16_products == 1


# -- commands


def command_lines() -> list[tuple[str, str]]:
    """(page, arguments) of every complete `qcompiler` command: in blocks, in tables, in running text."""
    found = []
    for page, text in PAGES.items():
        blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) + re.findall(r"^    .*$", text, re.MULTILINE)
        lines = [line for block in blocks for line in re.findall(r"^ *(qcompiler [a-z-]+ .*)$", block, re.MULTILINE)]
        lines += re.findall(r"`(qcompiler [a-z-]+[^`\n]*)`", text)
        for line in lines:
            plain = re.split(r"  +|\t| \(| #", line.strip())[0].replace("\\|", "|")
            if not plain.endswith("..."):
                found.append((page, plain.removeprefix("qcompiler ")))
    return sorted(set(found))


NUMBERS = {"N": "8", "D": "0.01", "L": "5ms", "S": "4MB", "M": "sqnr"}
PROSE = {"compile --why-not PASS MODULE", "compile --why-not smooth_activations MODULE"}
"""An option that is mentioned alone."""


@pytest.mark.parametrize(("page", "line"), command_lines(), ids=lambda text: text.replace("/", "_"))
def test_commands_parse(page: str, line: str) -> None:
    """Options and arguments exist and have these types; nothing is run."""
    if line in PROSE:
        return
    name, *arguments = (NUMBERS.get(word, word) for word in shlex.split(line))
    root = get_command(app)
    parent = root.make_context("qcompiler", [name, "--help"], resilient_parsing=True)
    command = root.get_command(parent, name)  # type: ignore[attr-defined]
    assert command is not None, f"{page}: no command {name}"
    if arguments:  # else the command is only named
        command.make_context(name, list(arguments), parent=parent)


def test_arguments_have_the_names_of_the_readme() -> None:
    names = {a.metavar for c in get_command(app).commands.values() for a in c.params if a.param_type_name == "argument"}  # type: ignore[attr-defined]
    assert names == {"MODEL", "OUT", "MODEL|OUT"}


# -- names


def test_make_targets_modules_and_options_exist() -> None:
    rules = "\n".join(p.read_text() for p in (ROOT / "Makefile", *ROOT.glob("targets/*/project/Makefile.j2")))
    benches = "\n".join(p.read_text() for p in (ROOT / "benchmarks").rglob("*.py"))
    for page, text in PAGES.items():
        code = " ".join(re.findall(r"```.*?```|`[^`]+`|^    .*$", text, re.DOTALL | re.MULTILINE))
        for name in set(re.findall(r"(?<![\w-])make ([a-z-]+)", code)) - {"gcc"}:  # Debian packages `make gcc`
            assert re.search(rf"^{name}:", rules, re.MULTILINE), f"{page}: make {name}"
        for module in set(re.findall(r"python -m ([\w.]+)", code)):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), f"{page}: python -m {module}"
        for option in {o for given in re.findall(r'ARGS="([^"]*)"', code) for o in re.findall(r"--[a-z-]+", given)} - {"--update-golden"}:
            assert f'"{option}"' in benches, f"{page}: {option}"


def anchors(page: Path) -> set[str]:
    """Fragments of a page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_links_lead_somewhere() -> None:
    for page, text in PAGES.items():
        for link, fragment in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", text):
            target = (ROOT / page).parent / link if link else ROOT / page
            assert target.exists(), f"{page}: {link}"
            assert not fragment or fragment in anchors(target), f"{page}: {link}#{fragment}"
