"""Damaged .onnx, .npz and .pt2 files: read, or refused with a message; no other error, no hang, nothing executed.

`python -m tests.frontend.onnx_import.test_mutants 1000` tries more of them.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from qcompiler.calibration import load_samples
from qcompiler.errors import QCError
from qcompiler.frontend import capture
from qcompiler.ir import DType, GraphBuilder, verify_graph

from .models import info, model, node
from .mutants import mutants

SECONDS = 20
"""For one file; the largest takes some hundredths."""


def _onnx(path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Shape", ["d"], ["sh"]),
        node("Gather", ["sh", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["to"], axis=0),
        node("Reshape", ["d", "to"], ["r"]),
        node("Gemm", ["r", "g"], ["y"], transB=1),
    ]
    weights = {
        "w": rng.normal(size=(4, 2, 3, 3)).astype(np.float32), "s": np.float32(0.1), "z": np.uint8(3), "zero": np.int64(0),
        "axes": np.array([0]), "rest": np.array([-1]), "g": rng.normal(size=(3, 144)).astype(np.float32),
    }  # fmt: skip
    onnx.save(model(nodes, [info("x", ["batch", 2, 6, 6], TensorProto.FLOAT)], ["y"], weights), path)


def _pt2(path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 1, 5, 5),)), path)


def _npz(path: Path) -> None:
    np.savez(path, x=np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))


def _read_model(path: Path) -> None:
    verify_graph(capture(str(path)))


def _read_data(path: Path) -> None:
    b = GraphBuilder()
    graph = b.build([b.op("relu", b.input("x", DType.float32, (1, 3)))])
    list(load_samples(str(path), graph))


FORMS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "onnx": (_onnx, _read_model),
    "npz": (_npz, _read_data),
    "pt2": (_pt2, _read_model),
}


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"no answer after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcomes(form: str, folder: Path, count: int, seed: int) -> Counter[str]:
    """How many damaged files were read, and how many were refused; any other error is raised."""
    make, read = FORMS[form]
    whole = folder / f"whole.{form}"
    make(whole)
    found: Counter[str] = Counter()
    for index, content in enumerate(mutants(whole.read_bytes(), count, seed)):
        path = folder / f"damaged.{form}"
        path.write_bytes(content)
        try:
            with _limit(SECONDS):
                read(path)
            found["read"] += 1
        except QCError as error:
            assert str(error) and error.exit_code in (2, 4), (index, repr(error))
            found["refused"] += 1
        except BaseException as error:
            raise AssertionError(f"{form} number {index} of seed {seed}: {type(error).__name__}: {error}") from error
    return found


@pytest.mark.parametrize(("form", "count"), [("onnx", 70), ("npz", 25), ("pt2", 5)])
def test_damaged_files(form: str, count: int, tmp_path: Path) -> None:
    found = outcomes(form, tmp_path, count, seed=0)
    assert found["refused"] > 0 and found.total() == count


if __name__ == "__main__":
    for name in FORMS:
        with tempfile.TemporaryDirectory() as place:
            print(name, dict(outcomes(name, Path(place), int(sys.argv[1]), seed=1)))
