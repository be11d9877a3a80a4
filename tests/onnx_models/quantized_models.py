"""Small QUANTIZED graphs with random weights, built by hand."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, Graph, GraphBuilder, Level, Origin, QuantParams, Value
from qcompiler.targets.onnx.isa import PAIR_PRODUCTS, host_isa
from qcompiler.targets.saturation import pair_safe_scale

U8 = DType.uint8


def saturates_here() -> bool:
    """True if u8 x s8 products saturate on this machine."""
    return host_isa() in PAIR_PRODUCTS


def weight(b: GraphBuilder, rng: np.random.Generator, shape: tuple[int, ...], groups: int = 1) -> Value:
    """Pair-safe int8 codes of a random weight, per output channel."""
    real = rng.normal(0, 0.3, shape)
    quant = QuantParams(DType.int8, pair_safe_scale(real, groups), np.zeros(shape[0]), axis=0)
    return b.const(quant.quantize(real.astype(np.float32)), quant=quant, name="weight")


def bias(b: GraphBuilder, rng: np.random.Generator, channels: int) -> Value:
    """int32 bias."""
    return b.const(rng.integers(-300, 300, channels).astype(np.int32), name="bias")


def requantize(b: GraphBuilder, acc: Value, out: QuantParams, **limits: int) -> Value:
    """float32 rescale to `out`."""
    assert acc.quant is not None
    multiplier = b.const((acc.quant.scale / out.scale).astype(np.float32))
    return b.op("requantize", acc, multiplier, quant=out, rounding="float32_half_even", **limits)


def conv_attrs(kernel: int, stride: int = 1, groups: int = 1) -> dict[str, object]:
    """Square kernel, same padding."""
    pad = kernel // 2
    return {"strides": (stride,) * 2, "pads": (pad,) * 4, "dilations": (1, 1), "groups": groups}


def cnn(seed: int = 0) -> tuple[Graph, list[np.ndarray]]:
    """Stem, depthwise with limits, pointwise, residual, global pool, classifier."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("cnn", Level.QUANTIZED)
    x = b.input("image", DType.float32, (2, 3, 16, 16))
    b.origin = Origin("stem")
    h = b.op("quantize", x, quant=QuantParams(U8, 0.02, 128))
    wide, signed = QuantParams(U8, 0.02, 0), QuantParams(U8, 0.03, 120)
    h = requantize(b, b.op("conv", h, weight(b, rng, (8, 3, 3, 3)), bias(b, rng, 8), **conv_attrs(3, 2)), wide)
    skip = h
    b.origin = Origin("block.depthwise")
    acc = b.op("conv", h, weight(b, rng, (8, 1, 3, 3), 8), bias(b, rng, 8), **conv_attrs(3, 1, 8))
    h = requantize(b, acc, wide, qmin=0, qmax=200)
    b.origin = Origin("block.pointwise")
    h = requantize(b, b.op("conv", h, weight(b, rng, (8, 8, 1, 1)), None, **conv_attrs(1)), signed)
    b.origin = Origin("block")
    ratios = tuple(float(q.scale / np.float32(0.04)) for q in (signed, wide))
    h = b.op(
        "requantize_sum", h, skip, quant=QuantParams(U8, 0.04, 100), rounding="float32_half_even", real_multipliers=ratios
    )
    b.origin = Origin("head")
    h = requantize(b, b.op("reduce_mean", h, axes=(2, 3), keepdims=True), QuantParams(U8, 0.02, 90))
    h = b.op("reshape", h, shape=(2, 8))
    y = b.op("dequantize", b.op("linear", h, weight(b, rng, (5, 8)), bias(b, rng, 5)))
    image = rng.normal(0, 1, (2, 3, 16, 16)).astype(np.float32)
    return b.build([y], ["logits"]), [image]


def mlp() -> tuple[Graph, list[np.ndarray]]:
    """Transformer feed-forward block with real gelu, residual and layer norm between quantized linears."""
    from qcompiler.ir.dims import symbol

    rng = np.random.default_rng(3)
    b = GraphBuilder("mlp", Level.QUANTIZED)
    x = b.input("x", DType.float32, (symbol("batch"), symbol("seq"), 16))
    b.origin = Origin("layer.0.fc1")
    h = b.op("quantize", x, quant=QuantParams(U8, 0.03, 128))
    h = b.op("dequantize", b.op("linear", h, weight(b, rng, (32, 16)), bias(b, rng, 32)))
    h = b.op("gelu", h)
    b.origin = Origin("layer.0.fc2")
    h = b.op("quantize", h, quant=QuantParams(U8, 0.02, 9))
    h = b.op("dequantize", b.op("linear", h, weight(b, rng, (16, 32)), bias(b, rng, 16)))
    b.origin = Origin("layer.0.norm")
    ones = b.const(np.ones(16, np.float32))
    y = b.op("layer_norm", b.op("add", h, x), ones, b.const(np.zeros(16, np.float32)), eps=1e-12)
    return b.build([y], ["y"]), [rng.normal(size=(2, 5, 16)).astype(np.float32)]


def odd_forms() -> tuple[Graph, list[np.ndarray]]:
    """What no fused kernel takes: shared accumulators, sums of three, quantized matmul, dynamic linears, concat."""
    rng = np.random.default_rng(4)
    b = GraphBuilder("odd", Level.QUANTIZED)
    x = b.input("x", DType.float32, (3, 4, 8))
    code = QuantParams(U8, 0.03, 128)
    q = b.op("quantize", x, quant=code)
    acc = b.op("linear", q, weight(b, rng, (8, 8)), bias(b, rng, 8))
    both = [requantize(b, acc, code), requantize(b, acc, code, qmin=128)]
    three = b.op("requantize_sum", q, *both, quant=code, rounding="float32_half_even", real_multipliers=(1.0, 1.0, 1.0))
    joined = b.op("concat", three, q, axis=1)
    flipped = b.op("transpose", joined, perm=(0, 2, 1))
    product = requantize(b, b.op("matmul", joined, flipped), QuantParams(U8, 0.4, 100))
    real = b.op("dequantize", b.op("matmul", flipped, joined))
    codes = requantize(b, b.op("linear", q, weight(b, rng, (6, 8)), bias(b, rng, 6)), code)
    mean = requantize(b, b.op("reduce_mean", q, axes=(1,)), code)
    dynamic = [b.op("dynamic_linear", x, weight(b, rng, (5, 8)), granularity=g) for g in ("tensor", "token")]
    outputs = [product, real, codes, mean, *dynamic]
    return b.build(outputs), [rng.normal(size=(3, 4, 8)).astype(np.float32)]


def self_attention(
    mask_rows: str | int | None = 1, shared: bool = True, scale: float = 0.5, causal: bool = False
) -> tuple[Graph, list[np.ndarray]]:
    """Two heads of depth 4 over [batch, seq, 8]; a bool mask [batch, 1, mask_rows, seq] or none.

    shared: query, key and value read the same codes.
    """
    from qcompiler.ir.dims import parse

    rng = np.random.default_rng(6)
    b = GraphBuilder("attention", Level.QUANTIZED)
    batch, seq = parse("batch"), parse("seq")
    x = b.input("x", DType.float32, (batch, seq, 8))
    mask = None if mask_rows is None else b.input("mask", DType.bool, (batch, 1, parse(str(mask_rows)), seq))
    b.origin = Origin("layer.attention")
    code = QuantParams(U8, 0.03, 120)
    codes = [b.op("quantize", x, quant=code)] * 3 if shared else [b.op("quantize", x, quant=code) for _ in range(3)]

    def heads(value: Value) -> Value:
        real = b.op("dequantize", b.op("linear", value, weight(b, rng, (8, 8)), bias(b, rng, 8)))
        return b.op("transpose", b.op("reshape", real, shape=(batch, seq, 2, 4)), perm=(0, 2, 1, 3))

    q, k, v = (heads(value) for value in codes)
    y = b.op("transpose", b.op("attention", q, k, v, mask, scale=scale, causal=causal), perm=(0, 2, 1, 3))
    y = b.op("reshape", y, shape=(batch, seq, 8))
    arrays = [rng.normal(size=(2, 5, 8)).astype(np.float32)]
    if mask_rows is not None:
        allowed = rng.random((2, 1, 5 if mask_rows == "seq" else 1, 5)) < 0.7
        allowed[1, 0, 0] = False  # one query, or all of a sample, may see nothing
        arrays.append(allowed)
    return b.build([y], ["y"]), arrays


def one_linear(codes: np.ndarray) -> tuple[Graph, list[np.ndarray]]:
    """Codes [N, K] times full-range activations."""
    b = GraphBuilder("linear", Level.QUANTIZED)
    x = b.input("x", DType.float32, (2, codes.shape[1]))
    h = b.op("quantize", x, quant=QuantParams(U8, 1 / 255))
    quant = QuantParams(DType.int8, np.ones(len(codes)), np.zeros(len(codes)), axis=0)
    y = b.op("dequantize", b.op("linear", h, b.const(codes, quant=quant, name="weight")))
    return b.build([y]), [np.ones((2, codes.shape[1]), np.float32)]


def one_conv(multiplier: float) -> tuple[Graph, list[np.ndarray]]:
    """A convolution whose multiplier is `multiplier` times the ratio of its scales."""
    rng = np.random.default_rng(5)
    b = GraphBuilder("conv", Level.QUANTIZED)
    x = b.input("x", U8, (1, 4, 6, 6), QuantParams(U8, 0.02, 7))
    acc = b.op("conv", x, weight(b, rng, (4, 4, 3, 3)), None, **conv_attrs(3))
    assert acc.quant is not None
    out = QuantParams(U8, 0.05, 100)
    factor = (acc.quant.scale / out.scale * np.float32(multiplier)).astype(np.float32)
    y = b.op("requantize", acc, b.const(factor), quant=out, rounding="float32_half_even")
    return b.build([y]), [rng.integers(0, 256, (1, 4, 6, 6)).astype(np.uint8)]


MODELS = {"cnn": cnn, "mlp": mlp, "odd_forms": odd_forms, "self_attention": self_attention}
# quantized kernels per model, movement of codes not counted
SITES = {"cnn": 7, "mlp": 4, "odd_forms": 11, "self_attention": 4}
