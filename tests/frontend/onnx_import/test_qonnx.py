"""Quant nodes as Brevitas and others write them: scales, widths and codes bit for bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from qcompiler.errors import UnsupportedError
from qcompiler.executors.reference import run_reference
from qcompiler.frontend.onnx import import_onnx
from qcompiler.imported import bring_in
from qcompiler.ir import DType, Graph
from qcompiler.passes.base import Context

from .models import info, model, node

DOMAIN = "qonnx.custom_op.general"


def _quant(x: str, y: str, scale: str, bits: str, zero: str = "zero", **attrs: object) -> onnx.NodeProto:
    given = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **attrs}
    return node("Quant", [x, scale, zero, bits], [y], domain=DOMAIN, **given)


def _model(nodes: list[onnx.NodeProto], weights: dict[str, object], shape: list[int], domain: str = DOMAIN) -> onnx.ModelProto:
    made = model(nodes, [info("x", shape)], ["y"], {"zero": np.float32(0), **weights})
    made.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    return made


def _formula(x: np.ndarray, scale: np.ndarray, bits: int, signed: bool, narrow: bool, zero: float = 0.0) -> np.ndarray:
    """The definition of Quant."""
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    return (np.rint(np.clip(x / scale + np.float32(zero), low, high)) - np.float32(zero)) * scale


KINDS = [(True, True, 0), (True, False, 0), (False, False, 0), (False, True, 2), (True, False, -2)]


@pytest.mark.parametrize(("bits", "kind"), [(b, k) for b in (2, 3, 4, 6, 8, 16) for k in KINDS if b < 16 or k[0]])
def test_activations(bits: int, kind: tuple[bool, bool, int]) -> None:
    signed, narrow, zero = kind
    scale = np.float32(0.37)
    weights = {"s": scale, "b": np.float32(bits), "z": np.float32(zero)}
    made = _model([_quant("x", "y", "s", "b", "z", signed=int(signed), narrow=int(narrow))], weights, [4000])
    graph = import_onnx(made)
    quantize = next(n for n in graph.nodes if n.op == "quantize")
    assert quantize.attrs["quant"].dtype is DType[f"{'' if signed else 'u'}int{bits}"] and quantize.attrs["quant"].scale == scale
    x = np.random.default_rng(0).uniform(-1.5, 1.5, 4000).astype(np.float32) * np.float32(2**bits * 0.37 / 2)
    assert np.array_equal(run_reference(graph, [x])[0], _formula(x, scale, bits, signed, narrow, zero))


@pytest.mark.parametrize("domain", [DOMAIN, "onnx.brevitas", "finn.custom_op.general"])
def test_a_layer_becomes_integers(domain: str) -> None:
    """Weights per channel and narrow, as Brevitas trains them; codes are those of the formula."""
    rng = np.random.default_rng(0)
    w, bias = rng.normal(size=(5, 3, 3, 3)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    scale = (np.abs(w).max((1, 2, 3), keepdims=True) / 7).astype(np.float32)
    nodes = [
        _quant("x", "a", "s", "b8", signed=0),
        _quant("w", "wq", "ws", "b4", narrow=1),
        node("Conv", ["a", "wq", "bias"], ["c"]),
        node("Relu", ["c"], ["r"]),
        _quant("r", "y", "s", "b8", signed=0),
    ]
    weights = {"s": np.float32(0.05), "w": w, "ws": scale, "b8": np.float32(8), "b4": np.float32(4), "bias": bias}
    for n in nodes:
        n.domain = domain if n.op_type == "Quant" else ""
    graph, _, _ = bring_in(import_onnx(_model(nodes, weights, [1, 3, 8, 8], domain)), Context(), None, True)
    assert [n.op for n in graph.nodes] == ["quantize", "conv", "requantize", "dequantize"]
    codes = graph.nodes[1].operands[1]
    assert codes.dtype is DType.int4 and np.array_equal(codes.quant.scale, scale.ravel())
    assert np.array_equal(codes.data, np.rint(np.clip(w / scale, -7, 7)))


def test_signs() -> None:
    w = np.array([[0.5, -0.2], [0.0, -3.0]], np.float32)
    nodes = [
        node("BipolarQuant", ["w", "s"], ["wq"], domain=DOMAIN),
        _quant("x", "a", "one", "b8"),
        node("MatMul", ["a", "wq"], ["y"]),
    ]
    graph = _imported(nodes, {"w": w, "s": np.float32(0.25), "one": np.float32(1), "b8": np.float32(8)}, [1, 2])
    weight = next(v for v in graph.constants() if v.quant is not None)
    assert weight.dtype is DType.int2 and np.array_equal(run_reference(graph, [np.array([[2, 3]], np.float32)])[0], [[1.25, -1.25]])


def _imported(nodes: list[onnx.NodeProto], weights: dict[str, object], shape: list[int]) -> Graph:
    return import_onnx(_model(nodes, weights, shape))


@pytest.mark.parametrize(
    ("attrs", "weights", "reason"),
    [
        ({"rounding_mode": "FLOOR"}, {}, "rounding_mode FLOOR"),
        ({}, {"b": np.float32(9)}, "9 bits"),
        ({}, {"b": np.float32(1.5)}, "bit width"),
        ({}, {"z": np.float32(0.5)}, "zero points are integers"),
        ({}, {"s": np.full((2, 2), 0.1, np.float32)}, "scales of shape"),
        ({}, {"s": np.float32(0)}, "zero"),
        ({"narrow": 1}, {"s": np.full((1, 2), 0.1, np.float32)}, "per channel"),
    ],
)
def test_what_is_not_read_is_named(attrs: dict[str, object], weights: dict[str, object], reason: str) -> None:
    given = {"s": np.float32(0.1), "b": np.float32(8), "z": np.float32(0), **weights}
    with pytest.raises(UnsupportedError, match=reason):
        _imported([_quant("x", "y", "s", "b", "z", **attrs)], given, [2, 2])
