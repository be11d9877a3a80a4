"""Ops of ONNX Runtime's own domain, against ONNX Runtime: weights in blocks, attention on codes, fused norms."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from qcompiler.errors import UnsupportedError
from qcompiler.executors.reference import run_reference
from qcompiler.frontend.onnx import import_onnx
from qcompiler.imported import bring_in
from qcompiler.ir import DType, Graph, Level, verify_graph
from qcompiler.passes.base import Context

from .models import info, model, node

MS = "com.microsoft"


def _theirs(made: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def _ours(made: onnx.ModelProto) -> Graph:
    imported = import_onnx(made)
    if imported.level is Level.FLOAT:
        return imported
    graph, _, _ = bring_in(imported, Context(), None, True)
    verify_graph(graph, Level.QUANTIZED)
    return graph


def _compare(made: onnx.ModelProto, feed: dict[str, np.ndarray], atol: float = 1e-5) -> Graph:
    graph = _ours(made)
    wanted = _theirs(made, feed)
    for got, theirs in zip(run_reference(graph, [feed[v.name] for v in graph.inputs]), wanted, strict=True):
        assert got.dtype == theirs.dtype
        np.testing.assert_allclose(got.astype(np.float32), theirs.astype(np.float32), rtol=0, atol=atol * max(1, np.abs(theirs).max()))
    return graph


def _pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """[..., n] to bytes, first code in the low bits."""
    per = 8 // bits
    parts = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % per)])
    parts = parts.reshape(*codes.shape[:-1], -1, per).astype(np.uint16)
    return (parts << (np.arange(per) * bits).astype(np.uint16)).sum(-1).astype(np.uint8)


def _nbits(bits: int, zero: str, level: int = 0, channels: int = 96, size: int = 32) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray, np.ndarray]:
    """(model, codes [N, K], scales [N, B], zero points [N, B]) with a bias."""
    rng, rows = np.random.default_rng(0), 5
    blocks = -(-channels // size)
    codes = rng.integers(0, 1 << bits, (rows, blocks * size)).astype(np.uint8)
    scale = rng.uniform(0.01, 0.1, (rows, blocks)).astype(np.float32)
    zeros = np.full((rows, blocks), 1 << (bits - 1)) if zero == "none" else rng.integers(0, 1 << bits, (rows, blocks))
    weights: dict[str, Any] = {
        "w": _pack(codes.reshape(rows, blocks, size), bits), "s": scale, "b": rng.normal(size=rows).astype(np.float32),
    }  # fmt: skip
    if zero == "packed":
        weights["z"] = _pack(zeros.astype(np.uint8), bits)
    elif zero == "real":
        weights["z"] = zeros.astype(np.float32)
    op = node(
        "MatMulNBits", ["x", "w", "s", "" if zero == "none" else "z", "", "b"], ["y"], domain=MS, K=channels, N=rows, bits=bits,
        block_size=size, accuracy_level=level,
    )  # fmt: skip
    return model([op], [info("x", [2, channels])], ["y"], weights), codes[:, :channels], scale, zeros


@pytest.mark.parametrize(("bits", "zero"), [(4, "none"), (4, "packed"), (4, "real"), (8, "none"), (8, "packed"), (2, "packed")])
@pytest.mark.parametrize("channels", [96, 80])
def test_weights_in_blocks(bits: int, zero: str, channels: int) -> None:
    made, codes, scale, zeros = _nbits(bits, zero, channels=channels)
    x = np.random.default_rng(1).normal(size=(2, channels)).astype(np.float32)
    graph = _ours(made)
    (layer,) = graph.nodes
    weight = layer.operands[1]
    assert layer.op == "weight_only_linear" and weight.quant.group_size == 32 and np.array_equal(weight.quant.scale, scale)
    offset = 1 << (bits - 1) if zero == "none" else 0
    assert weight.dtype is DType[f"{'int' if offset else 'uint'}{bits}"] and np.array_equal(weight.data.astype(int) + offset, codes)
    assert offset or np.array_equal(weight.quant.zero_point, zeros)
    real = (codes - np.repeat(zeros, 32, 1)[:, :channels]) * np.repeat(scale, 32, 1)[:, :channels]
    wanted = x.astype(np.float64) @ real.T + next(t for t in graph.constants() if t.name == "b").data
    np.testing.assert_allclose(run_reference(graph, [x])[0], wanted, atol=1e-4)
    if bits != 2:  # for which this runtime has no portable kernel
        _compare(made, {"x": x}, 1e-4)


def test_rounded_operands() -> None:
    """accuracy_level 4: int8 by row and block."""
    made, *_ = _nbits(4, "none", level=4)
    x = np.random.default_rng(1).normal(size=(2, 96)).astype(np.float32)
    (layer,) = _ours(made).nodes
    assert layer.op == "dynamic_linear" and layer.attrs["granularity"] == "group"
    _compare(made, {"x": x}, 2e-3)  # the runtime rounds halves away from zero


def test_half_precision() -> None:
    made, codes, scale, _ = _nbits(4, "none")
    for tensor in made.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    graph = _ours(made)
    weight = next(v for v in graph.constants() if v.quant is not None)
    assert np.array_equal(weight.quant.scale, scale.astype(np.float16).astype(np.float32)) and np.array_equal(weight.data + 8, codes)
    assert graph.inputs[0].dtype is graph.outputs[0].dtype is DType.float16


@pytest.mark.parametrize(
    ("attrs", "weights", "reason"),
    [
        ({"bits": 3}, {}, "3 bits"),
        ({}, {"g": np.arange(96, dtype=np.int32)[::-1] // 32}, "out of their order"),
        ({}, {"z": np.full((5, 3), 7.5, np.float32)}, "whole numbers"),
        ({"K": 999}, {}, "no 1024 codes"),
    ],
)
def test_layouts_that_are_not_read(attrs: dict[str, int], weights: dict[str, np.ndarray], reason: str) -> None:
    made, *_ = _nbits(4, "none")
    op = made.graph.node[0]
    for attribute in op.attribute:
        attribute.i = attrs.get(attribute.name, attribute.i)
    for name, array in weights.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        op.input[{"z": 3, "g": 4}[name]] = name
    with pytest.raises(UnsupportedError, match=reason):
        import_onnx(made)


@pytest.mark.parametrize("kind", ["packed", "int4"])
def test_tables_in_blocks(kind: str) -> None:
    rng = np.random.default_rng(0)
    codes, scale = rng.integers(0, 16, (7, 64)).astype(np.uint8), rng.uniform(0.01, 0.1, (7, 2)).astype(np.float32)
    op = node("GatherBlockQuantized", ["t", "ids", "s"], ["y"], domain=MS, block_size=32, quantize_axis=1, bits=4)
    made = model([op], [info("ids", [3], TensorProto.INT64)], ["y"], {"s": scale})
    if kind == "packed":
        made.graph.initializer.append(onnx.numpy_helper.from_array(_pack(codes, 4), "t"))
    else:
        made.graph.initializer.append(onnx.helper.make_tensor("t", TensorProto.INT4, (7, 64), (codes.astype(int) - 8).ravel()))
    ids = np.array([6, 0, 3])
    wanted = (codes[ids].astype(np.float32) - 8) * np.repeat(scale[ids], 32, 1)
    assert np.array_equal(run_reference(import_onnx(made), [ids])[0], wanted)
    _compare(made, {"ids": ids}, 0)


def _attention(per_channel: bool, mask: str | None) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {
        "w": rng.integers(128 - 60, 128 + 60, (8, 24)).astype(np.uint8), "b": rng.normal(size=24).astype(np.float32) * 0.1, "xs": np.float32(0.03),
        "ws": rng.uniform(0.005, 0.02, 24).astype(np.float32) if per_channel else np.float32(0.01), "xz": np.uint8(120),
        "wz": np.full(24, 128, np.uint8) if per_channel else np.uint8(128),
    }  # fmt: skip
    inputs = [info("x", [2, 5, 8], TensorProto.UINT8)]
    if mask is not None:
        inputs.append(info("m", [2, 5] if mask == "rows" else [2, 5, 5], TensorProto.INT32))
    op = node("QAttention", ["x", "w", "b", "xs", "ws", "m" if mask else "", "xz", "wz"], ["y"], domain=MS, num_heads=2)
    return model([op], inputs, ["y"], weights)


@pytest.mark.parametrize(("per_channel", "mask"), [(False, None), (True, "rows"), (True, "square")])
def test_attention_on_codes(per_channel: bool, mask: str | None) -> None:
    rng = np.random.default_rng(1)
    feed = {"x": rng.integers(0, 256, (2, 5, 8)).astype(np.uint8)}
    if mask is not None:
        feed["m"] = (rng.random((2, 5) if mask == "rows" else (2, 5, 5)) < 0.7).astype(np.int32)
        feed["m"][..., 0] = 1  # a row that sees nothing is uniform there, 0 here
    made = _attention(per_channel, mask)
    _compare(made, feed, 1e-5)  # codes as input
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    made.graph.input[0].name = "real"
    made.graph.node.insert(0, node("QuantizeLinear", ["real", "xs", "xz"], ["x"]))
    feed["real"] = (feed.pop("x").astype(np.float32) - 120) * np.float32(0.03)
    graph = _compare(made, feed, 1e-5)
    linear = next(n for n in graph.nodes if n.op == "linear")
    assert linear.operands[1].shape == (24, 8) and linear.operands[0].quant.scale == np.float32(0.03)


@pytest.mark.parametrize(("op", "operands"), [("SkipLayerNormalization", "gbB"), ("SkipLayerNormalization", "gb"), ("SkipSimplifiedLayerNormalization", "gB"), ("SkipSimplifiedLayerNormalization", "g")])
def test_skip_norms(op: str, operands: str) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=8).astype(np.float32) for name in "gbB"}
    made = model([node(op, ["x", "k", *operands], ["y", "", "", "sum"], domain=MS, epsilon=1e-6)], [info("x", [2, 3, 8]), info("k", [2, 3, 8])], ["y", "sum"], weights)
    _compare(made, {name: rng.normal(size=(2, 3, 8)).astype(np.float32) for name in "xk"})
    made.graph.node[0].output[1] = "mean"
    made.graph.output[1].name = "mean"
    with pytest.raises(UnsupportedError, match="mean"):
        import_onnx(made)


@pytest.mark.parametrize(
    ("op", "attrs"), [("QLinearAveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}), ("QLinearReduceMean", {"axes": [2, 3], "keepdims": 0})]
)
def test_means_of_codes(op: str, attrs: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    weights = {"s": np.float32(0.05), "z": np.uint8(100), "t": np.float32(0.03), "u": np.uint8(90)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node(op, ["q", "s", "z", "t", "u"], ["r"], domain=MS, **attrs),
        node("DequantizeLinear", ["r", "t", "u"], ["y"]),
    ]
    made = model(nodes, [info("x", [1, 3, 4, 4])], ["y"], weights)
    if op == "QLinearReduceMean":  # which this runtime declares and does not have
        graph = _ours(made)
        x = rng.normal(size=(1, 3, 4, 4)).astype(np.float32)
        codes = np.clip(np.rint(x / np.float32(0.05)) + 100, 0, 255)
        mean = ((codes - 100) * 0.05).mean((2, 3))
        assert np.abs(run_reference(graph, [x])[0] - mean).max() <= 0.015 + 1e-6
    else:
        _compare(made, {"x": rng.normal(size=(1, 3, 4, 4)).astype(np.float32)}, 0.03 * 1.01)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
@pytest.mark.parametrize("domain", ["", MS])
def test_codes_of_16_bits(kind: type, domain: str) -> None:
    rng = np.random.default_rng(0)
    weights = {"s": np.float32(0.001), "z": kind(30000 if kind is np.uint16 else -5)}
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"], domain=domain), node("DequantizeLinear", ["q", "s", "z"], ["y"], domain=domain)]
    made = model(nodes, [info("x", [500])], ["y"], weights)
    graph = _compare(made, {"x": rng.normal(size=500).astype(np.float32) * 30}, 0)
    assert graph.nodes[0].attrs["quant"].dtype.name == np.dtype(kind).name


@pytest.mark.parametrize(("kind", "zero"), [(TensorProto.INT8, 3), (TensorProto.UINT8, 130), (TensorProto.INT4, -2), (TensorProto.UINT4, 7)])
@pytest.mark.parametrize("block", [0, 4])
def test_activations_in_blocks_and_few_bits(kind: int, zero: int, block: int) -> None:
    """QuantizeLinear of a computed tensor, with one scale or a scale for every 4 of a row."""
    rng = np.random.default_rng(0)
    shape = [2, 2] if block else []
    scale = rng.uniform(0.05, 0.3, shape).astype(np.float32)
    attrs = {"axis": 1, "block_size": block} if block else {}
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"], **attrs), node("DequantizeLinear", ["q", "s", "z"], ["y"], **attrs)]
    made = model(nodes, [info("x", [2, 8])], ["y"], {"s": scale})
    made.graph.initializer.append(onnx.helper.make_tensor("z", kind, shape, np.full(shape, zero).ravel()))
    _compare(made, {"x": rng.normal(size=(2, 8)).astype(np.float32)}, 0)
