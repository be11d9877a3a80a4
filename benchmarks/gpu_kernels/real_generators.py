"""Random programs of level QUANTIZED: rescales in float32, float islands, weights in groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu_kernels.generators import Draw
from qcompiler.ir import DType, Graph, Level, QuantParams, Value


class RealDraw(Draw):
    """A builder of real numbers and codes."""

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        super().__init__(name, rng)
        self.level = Level.QUANTIZED

    def real(self, *shape: int) -> Value:
        """An input between -3 and 3."""
        return self.input(f"x{len(self.inputs)}", DType.float32, shape)

    def numbers(self, *shape: int) -> Value:
        """A constant."""
        return self.const(self.rng.uniform(0.2, 1.8, shape).astype(np.float32))

    def quantized(self, x: Value) -> Value:
        """Codes of real numbers."""
        return self.op("quantize", x, quant=QuantParams(DType.int8, 0.025, self.number(-20, 20)))

    def rescaled(self, acc: Value, terms: int) -> Value:
        """A requantize in float32."""
        assert acc.quant is not None
        channels = () if acc.quant.axis is None else (acc.shape[acc.quant.axis],)
        factor = self.rng.uniform(0.5, 1.0, channels).astype(np.float32) * np.float32(60 / (90 * 70 * terms**0.5))
        quant = QuantParams(DType.int8, 0.02, self.number(-20, 20))
        return self.op("requantize", acc, self.const(factor), None, quant=quant, rounding="float32_half_even", qmin=self.choose(None, -20))


def _layer(b: RealDraw) -> Value:
    """Codes, a layer, its rescale, and a residual sum; or real numbers behind it."""
    rows, k, n = b.size(70), b.size(100), b.size(70)
    x = b.quantized(b.real(rows, k))
    acc = b.op("linear", x, b.weights(n, k), b.bias(n))
    if b.number(0, 1):
        return b.op(b.choose("relu", "silu", "tanh"), b.op("dequantize", acc))
    y = b.rescaled(acc, k)
    other = b.codes(rows, n)
    factors = tuple(float(v) for v in b.rng.uniform(0.3, 1.2, 2))
    total = b.op(
        "requantize_sum", y, other, quant=QuantParams(DType.int8, 0.02, 5), rounding="float32_half_even", real_multipliers=factors
    )  # fmt: skip
    return b.op("dequantize", total) if b.number(0, 1) else total


def _real_elementwise(b: RealDraw) -> Value:
    shape = tuple(b.size(12) for _ in range(b.number(1, 4)))
    x = b.real(*shape)
    if b.number(0, 1):
        other = b.real(*[d if b.number(0, 2) else 1 for d in shape])
        return b.op(b.choose("add", "sub", "mul", "maximum", "less"), x, other)
    name = b.choose("exp", "erf", "sigmoid", "silu", "tanh", "hard_swish", "gelu", "softplus", "clip", "elu", "round_log2")
    attrs: dict[str, Any] = {
        "gelu": {"approximate": b.choose("none", "tanh", "sigmoid")}, "softplus": {"beta": 1.5, "threshold": 20.0},
        "clip": {"min": -1.0, "max": b.choose(None, 2.0)}, "elu": {"alpha": 0.7},
    }.get(name, {})  # fmt: skip
    return b.op(name, x, **attrs)


def _real_rows(b: RealDraw) -> Value:
    shape = (*[b.size(9) for _ in range(b.number(1, 2))], b.size(90))
    x = b.real(*shape)
    name = b.choose("softmax", "log_softmax", "layer_norm", "rms_norm", "reduce")
    if name == "reduce":
        axes = tuple(a for a in range(len(shape)) if b.number(0, 1)) or (0,)
        return b.op(b.choose("reduce_sum", "reduce_mean", "reduce_max", "reduce_min"), x, axes=axes, keepdims=bool(b.number(0, 1)))
    if name.endswith("softmax"):
        return b.op(name, x, axis=b.number(-len(shape), -1))
    bias = [b.numbers(shape[-1])] if name == "layer_norm" else []
    return b.op(name, x, b.numbers(shape[-1]), *bias, eps=1e-5)


def _real_product(b: RealDraw) -> Value:
    m, k, n = b.choose(b.number(1, 8), b.size(90)), b.size(70), b.size(80)
    if b.number(0, 1):
        return b.op("linear", b.real(m, k), b.numbers(n, k), b.numbers(n))
    batch = [b.size(3) for _ in range(b.number(0, 2))]
    right = b.real(*batch, n, k)
    rank = len(batch)
    turned = b.op("transpose", right, perm=(*range(rank), rank + 1, rank)) if b.number(0, 1) else b.real(*batch, k, n)
    return b.op("matmul", b.real(*batch, m, k), turned)


def _real_windows(b: RealDraw) -> Value:
    rank = b.number(1, 3)
    groups = b.choose(1, 1, 2)
    channels, sizes = groups * b.number(1, 4), [b.number(4, 14 if rank < 3 else 7) for _ in range(rank)]
    x = b.real(b.number(1, 2), channels, *sizes)
    kernel, strides = tuple(b.number(1, 3) for _ in range(rank)), tuple(b.number(1, 2) for _ in range(rank))
    pads = tuple(b.number(0, k // 2) for k in (*kernel, *kernel))
    kind = b.choose("conv", "max_pool", "avg_pool")
    if kind == "conv":
        out = groups * b.number(1, 4)
        w = b.numbers(out, channels // groups, *kernel)
        return b.op("conv", x, w, b.numbers(out) if b.number(0, 1) else None, strides=strides, pads=pads, dilations=(1,) * rank, groups=groups)
    counted = {"count_include_pad": bool(b.number(0, 1))} if kind == "avg_pool" else {}
    return b.op(kind, x, kernel=kernel, strides=strides, pads=pads, **counted)


def _attention(b: RealDraw) -> Value:
    heads, keys, width = b.choose(1, 2, 4), b.choose(1, 2), b.choose(4, 8, 16)
    heads = max(heads, keys)
    rows = b.number(1, 20)
    columns = rows if b.number(0, 1) else b.number(1, 30)
    q, k, v = b.real(2, heads, rows, width), b.real(2, keys, columns, width), b.real(2, keys, columns, width)
    if b.number(0, 1):
        q = b.op("rotary", q, b.numbers(rows, width), b.numbers(rows, width), interleaved=bool(b.number(0, 1)))
    mask = b.input("mask", DType.bool, (2, 1, 1, columns)) if b.number(0, 1) else None
    return b.op("attention", q, k, v, mask, scale=b.choose(None, 0.3), causal=rows == columns and bool(b.number(0, 1)))


def _grouped_weights(b: RealDraw, n: int, k: int, group: int | None, *types: str) -> Value:
    """Codes of one of the types, symmetric or with zero points, scales by group or by channel."""
    dtype = DType[b.choose(*types)]
    shape = (n,) if group is None else (n, -(-k // group))
    scale = b.rng.uniform(0.001, 0.01, shape) * b.rng.choice([-1, 1])
    zero = np.zeros(shape, np.int32) if dtype.is_signed and b.number(0, 2) else b.rng.integers(dtype.min, dtype.max + 1, shape)
    quant = QuantParams(dtype, scale, zero, *((0,) if group is None else (1, group)))
    return b.const(b.rng.integers(max(dtype.min, -dtype.max), dtype.max + 1, (n, k)), quant=quant)


def _dynamic(b: RealDraw) -> Value:
    """One range, rows, or groups of any size, operands of 8 bits or two terms."""
    m, n = b.choose(b.number(1, 16), b.number(17, 80)), b.size(80)
    granularity = b.choose("tensor", "token", "group")
    group = b.choose(32, 64, 128, b.number(5, 70)) if granularity == "group" else None
    k = b.size(200)
    w = _grouped_weights(b, n, k, group, "int4", "int8", "uint4", "uint8", "int6")
    bits = b.choose(8, 16) if granularity == "group" else 8
    return b.op("dynamic_linear", b.real(m, k), w, b.numbers(n) if b.number(0, 1) else None, granularity=granularity, bits=bits)


def _weights_alone(b: RealDraw) -> Value:
    """Real operands, weights of 5 to 8 bits or groups of any size."""
    m, n, k = b.choose(b.number(1, 8), b.number(9, 80)), b.size(80), b.size(200)
    group = b.choose(None, 32, 64, b.number(5, 70))
    w = _grouped_weights(b, n, k, group, "int8", "uint8", "int6", "uint5", "int4", "uint3")
    return b.op("weight_only_linear", b.real(m, k), w, b.numbers(n) if b.number(0, 1) else None)


def _plain(b: RealDraw) -> Value:
    """Arithmetic and reductions of integers without quantization."""
    shape = tuple(b.size(9) for _ in range(b.number(1, 3)))
    dtype = b.choose(DType.int32, DType.int64, DType.int16)
    x = b.input("x", dtype, shape)
    form = b.choose("unary", "binary", "reduce", "reduce")
    if form == "unary":
        name = b.choose("neg", "abs", "sign", "relu", "clip")
        return b.op(name, x, **({"min": -20, "max": b.choose(None, 50)} if name == "clip" else {}))
    if form == "binary":
        y = b.const(b.rng.choice([-7, -2, -1, 1, 3, 10], shape).astype(dtype.numpy))
        return b.op(b.choose("div", "floor_div", "mod", "fmod", "mul"), x, y)
    axes = tuple(a for a in range(len(shape)) if b.number(0, 1))
    name = b.choose("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_any", "reduce_all")
    if name in ("reduce_any", "reduce_all"):
        x = b.op("greater", x, b.const(np.asarray(-90, dtype.numpy)))
    return b.op(name, x, axes=axes, keepdims=bool(b.number(0, 1)))


def _along(b: RealDraw) -> Value:
    """Places of extrema, running sums, largest elements, indexing by several axes."""
    shape = tuple(b.size(9) + 1 for _ in range(b.number(1, 4)))
    x = b.choose(lambda: b.real(*shape), lambda: b.input("x", b.choose(DType.int32, DType.int64), shape))()
    form, axis = b.choose("argmax", "argmin", "cumsum", "topk", "gather_elements", "gather_nd", "scatter_nd", "tri"), b.number(0, len(shape) - 1)
    if form in ("argmax", "argmin"):
        return b.op(form, x, axis=axis, keepdims=bool(b.number(0, 1)))
    if form == "cumsum":
        return b.op(form, x, axis=axis)
    if form == "topk":
        values, places = b.node(form, x, k=b.number(1, shape[axis]), axis=axis, largest=bool(b.number(0, 1))).outputs
        return b.choose(values, places)
    if form == "tri" and len(shape) > 1:
        return b.op(form, x, upper=bool(b.number(0, 1)), diagonal=b.number(-2, 2))
    if form == "gather_elements":
        indices = b.rng.integers(-shape[axis], shape[axis], tuple(b.number(1, d) if a != axis else b.number(1, 12) for a, d in enumerate(shape)))
        return b.op(form, x, b.const(indices), axis=axis)
    depth, places = b.number(1, len(shape)), b.number(1, 7)
    indices = np.stack([b.rng.integers(-d, d, places) for d in shape[:depth]], -1)
    if form == "gather_nd":
        return b.op(form, x, b.const(indices))
    updates = b.input("updates", x.dtype, (places, *shape[depth:]))
    return b.op("scatter_nd", x, b.const(indices), updates, accumulate=bool(b.number(0, 1)))


FAMILIES: dict[str, Callable[[RealDraw], Value]] = {
    "real_layer": _layer,
    "real_elementwise": _real_elementwise,
    "real_rows": _real_rows,
    "real_product": _real_product,
    "real_windows": _real_windows,
    "attention": _attention,
    "dynamic": _dynamic,
    "weights_alone": _weights_alone,
    "plain": _plain,
    "along": _along,
}


def draw_graph(family: str, seed: int) -> tuple[Graph, list[np.ndarray]]:
    """A program of a family, and its inputs."""
    rng = np.random.default_rng([seed, *family.encode()])
    b = RealDraw(family, rng)
    graph = b.build([FAMILIES[family](b)])
    return graph, [_array(rng, v) for v in graph.inputs]


def _array(rng: np.random.Generator, value: Value) -> np.ndarray:
    shape = tuple(int(d) for d in value.shape)
    if value.dtype is DType.bool:
        return rng.integers(0, 4, shape) > 0
    if value.dtype.is_float:
        return rng.uniform(-3, 3, shape).astype(np.float32)
    low, high = (-99, 100) if value.quant is None else (value.dtype.min, value.dtype.max + 1)
    return rng.integers(low, high, shape).astype(value.dtype.numpy)
