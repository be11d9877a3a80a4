"""Reading .pt2 files: whole ones, damaged ones, and ones that try to execute code."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from qcompiler.errors import QCError, UnsupportedError, UsageError
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.frontend import capture
from qcompiler.frontend.pt2 import is_plain_expression


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.scale = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.layer(values) * self.scale
        return {"halves": y[: values.shape[0] // 2], "all": y}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "small.pt2"
    shapes = ({0: torch.export.Dim.AUTO},)
    program = torch.export.export(Small().eval(), (torch.randn(6, 4),), dynamic_shapes=shapes, strict=False)
    torch.export.save(program, path)
    return path


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], extra: dict[str, bytes] | None = None) -> Path:
    """A copy of an archive with its records passed through `change`; None drops one."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = change(info.filename.partition("/")[2], old.read(info))
            if content is not None:
                new.writestr(info.filename, content)
        for name, content in (extra or {}).items():
            new.writestr(name, content)
    return target


class Trap:
    """Its unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_program_file(archive: Path) -> None:
    graph = capture(archive)
    assert graph.name == "small"
    assert [str(v.shape) for v in graph.inputs] == ["(batch, 4)"]
    assert graph.inputs[0].name == "values" and graph.output_names == ("halves", "all")
    program = torch.export.load(archive)
    for count in (6, 9):
        values = torch.randn(count, 4)
        got = TorchExecutor(graph).run([values])
        wanted = program.module()(values)
        for name, tensor in zip(graph.output_names, got, strict=True):
            np.testing.assert_allclose(tensor.numpy(), wanted[name].detach().numpy(), rtol=1e-6)


def test_a_decomposed_program(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.GELU(), torch.nn.MaxPool2d(2)).eval()
    program = torch.export.export(model, (torch.randn(1, 3, 8, 8),), strict=False).run_decompositions()
    torch.export.save(program, tmp_path / "decomposed.pt2")
    graph = capture(str(tmp_path / "decomposed.pt2"))
    image = torch.randn(1, 3, 8, 8)
    np.testing.assert_allclose(TorchExecutor(graph).run([image])[0], model(image).detach(), atol=1e-5)


def test_dynamic_shapes_belong_to_the_export(archive: Path) -> None:
    with pytest.raises(UsageError, match=r"torch\.export"):
        capture(archive, dynamic_shapes=({0: "batch"},))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_truncated(archive: Path, tmp_path: Path, share: float) -> None:
    content = archive.read_bytes()
    path = tmp_path / "cut.pt2"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match="truncated"):
        capture(path)


def test_flipped_bytes(archive: Path, tmp_path: Path) -> None:
    content = bytearray(archive.read_bytes())
    at = content.index(b"torch.ops.aten.linear")
    content[at] ^= 1
    path = tmp_path / "flipped.pt2"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="damaged"):
        capture(path)


def test_what_is_no_program(archive: Path, tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    plain = tmp_path / "plain.pt2"
    plain.write_bytes(pickle.dumps(Trap(witness)))
    checkpoint = tmp_path / "checkpoint.pt2"
    torch.save({"w": torch.ones(2), "trap": Trap(witness)}, checkpoint)
    script = tmp_path / "script.pt2"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(script))
    other = tmp_path / "other.pt2"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("letter.txt", "hello")
    (tmp_path / "empty.pt2").write_bytes(b"")
    (tmp_path / "text.pt2").write_text("weights")
    no_program = rewrite(archive, tmp_path / "headless.pt2", lambda name, c: None if name.startswith("models/") else c)
    expected = {
        plain: "pickle",
        checkpoint: r"torch\.save",
        script: "TorchScript",
        other: r"letter\.txt",
        tmp_path / "empty.pt2": "empty",
        tmp_path / "text.pt2": r"no \.pt2 archive",
        no_program: "no exported program",
    }
    for path, message in expected.items():
        with pytest.raises(UsageError, match=message):
            capture(path)
    assert not witness.exists()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model"):
        capture(tmp_path / "nothing.pt2")


def test_nothing_is_executed(archive: Path, tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    trap = pickle.dumps(Trap(witness))
    saved = io.BytesIO()
    torch.save((((torch.ones(6, 4), Trap(witness)),), {}), saved)
    code = f"__import__('pathlib').Path({str(witness)!r}).touch()"

    def sample(content: bytes) -> Callable[[str, bytes], bytes]:
        return lambda name, old: content if name.startswith("data/sample_inputs") else old

    def expression(name: str, old: bytes) -> bytes:
        return old.replace(b"Symbol('s", f"{code} or Symbol('s".encode(), 1) if name.startswith("models/") else old

    def target(name: str, old: bytes) -> bytes:
        return old.replace(b"torch.ops.aten.linear.default", b"torch.os.system") if name.startswith("models/") else old

    def payload(kind: str, **fields: object) -> Callable[[str, bytes], bytes]:
        def change(name: str, old: bytes) -> bytes:
            if not name.startswith(f"data/{kind}/"):
                return old
            if not name.endswith(".json"):
                return trap
            content = json.loads(old)
            for meta in content["config"].values():
                meta.update(fields)
            return json.dumps(content).encode()

        return change

    folder = "small/"
    attacks: dict[str, tuple[Callable[[str, bytes], bytes], dict[str, bytes]]] = {
        "sample inputs": (sample(saved.getvalue()), {}),
        "raw pickle": (sample(trap), {}),
        "expression": (expression, {}),
        "operator": (target, {}),
        "weights": (payload("weights", use_pickle=True), {}),
        "constants": (payload("constants", use_pickle=True), {}),
        "custom object": (payload("constants", path_name="custom_obj_0", use_pickle=True), {}),
        "opaque object": (payload("constants", path_name="opaque_obj_0"), {}),
        "legacy weights": (lambda name, old: old, {folder + "data/weights/model.pt": trap}),
        "library": (lambda name, old: old, {folder + "data/aotinductor/model/code.so": b"\x7fELF"}),
    }
    for name, (change, extra) in attacks.items():
        path = rewrite(archive, tmp_path / "attack.pt2", change, extra)
        with pytest.raises(QCError) as caught:
            capture(path)
        assert isinstance(caught.value, (UnsupportedError, UsageError)), name
        assert not witness.exists(), name


def test_an_archive_that_expands(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt2"
    rewrite(archive, path, lambda name, old: old)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("small/extra/zeros", bytes(30_000_000))
    with pytest.raises(UsageError, match="expands"):
        capture(path)


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s0', positive=True, integer=True)",
        "Add(FloorDiv(Symbol('s77', positive=True, integer=True), Integer(2)), Integer(1))",
        "2*s0 + 1",
        "Max(1, s0//2)",
        "Eq(s0, 4)",
    ],
)
def test_plain_expressions(text: str) -> None:
    assert is_plain_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__",
        "Symbol('os').system",
        "Symbol(__import__)",
        "S('1')",
        "sympify('1')",
        "(lambda: 1)()",
        "9**9**9**9",
        "[s0][0]",
        "f'{s0}'",
        "eval",
        "Integer('__import__(\"os\")')",
        "s0 if 1 else 2",
        "(" * 3000,
    ],
)
def test_other_expressions(text: str) -> None:
    assert not is_plain_expression(text)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A damaged directory of the archive: flagged as UTF-8, but no UTF-8."""
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("models/\u00e9.json", b"{}")
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xb3\xb3"))
    with pytest.raises(UsageError, match="no .pt2 archive|truncated"):
        capture(path)
