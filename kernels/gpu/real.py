"""Real arithmetic (`cuda/qc_real.cuh`, `cuda/qc_real_rows.cuh`): one result per thread, or a warp per row or result.

`EXPRESSIONS` is the table of elementwise functions: C++ of the operands a, b and the constants alpha .. delta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qcompiler.kernels.gpu.launch import (
    RANK,
    Field,
    Kernel,
    Launch,
    View,
    ceil_div,
    constant,
    floats,
    ints,
    longs,
    memory_order,
    reading,
)
from qcompiler.kernels.gpu.pointwise import padded, strided

OPERANDS = 3
THREADS = 256
WARPS = 4

EXPRESSIONS = {
    "exp": "expf(a)", "log": "logf(a)", "log1p": "log1pf(a)", "expm1": "expm1f(a)", "sqrt": "sqrtf(a)", "rsqrt": "1.0f / sqrtf(a)",
    "reciprocal": "1.0f / a", "sin": "sinf(a)", "cos": "cosf(a)", "tan": "tanf(a)", "atan": "atanf(a)", "tanh": "tanhf(a)",
    "erf": "erff(a)", "sigmoid": "qc::sigmoid(a)", "floor": "floorf(a)", "ceil": "ceilf(a)", "round": "rintf(a)",
    "silu": "a * qc::sigmoid(a)", "mish": "a * tanhf(qc::softplus(a))", "hard_sigmoid": "fminf(fmaxf(a / 6.0f + 0.5f, 0.0f), 1.0f)",
    "hard_swish": "a * fminf(fmaxf(a + 3.0f, 0.0f), 6.0f) / 6.0f", "neg": "-a", "abs": "fabsf(a)",
    "sign": "(float)((a > 0.0f) - (a < 0.0f))", "relu": "fmaxf(a, 0.0f)", "is_nan": "(float)(a != a)",
    "is_inf": "(float)(fabsf(a) > 3.402823466e38f)", "add": "a + b", "sub": "a - b", "mul": "a * b", "div": "a / b",
    "pow": "powf(a, b)", "maximum": "fmaxf(a, b)", "minimum": "fminf(a, b)", "floor_div": "floorf(a / b)", "mod": "qc::modulo(a, b)",
    "fmod": "fmodf(a, b)", "equal": "(float)(a == b)", "not_equal": "(float)(a != b)", "less": "(float)(a < b)",
    "less_equal": "(float)(a <= b)", "greater": "(float)(a > b)", "greater_equal": "(float)(a >= b)",
    "prelu": "a >= 0.0f ? a : a * b", "cast": "a", "clip": "fminf(fmaxf(a, p.alpha), p.beta)", "gelu_none": "qc::gelu(a)",
    "gelu_tanh": "qc::gelu_tanh(a)", "gelu_sigmoid": "a * qc::sigmoid(1.702f * a)",
    "softplus": "p.alpha * a > p.beta ? a : qc::softplus(p.alpha * a) / p.alpha",
    "elu": "a > 0.0f ? a : p.alpha * expm1f(fminf(a, 0.0f))", "leaky_relu": "a >= 0.0f ? a : p.alpha * a",
    "round_log2": "qc::round_log2(a, p.alpha, p.beta, p.gamma, p.delta)",
    "dequantize": "qc::multiply_rounded(a, b)", "quantize": "qc::to_code(a, b, p.beta, p.gamma, p.delta)",
}  # fmt: skip
"""`dequantize`: a are centred codes, b their scale; `quantize`: b is the scale, then zero point and limits."""


def pointwise(name: str, operands: Sequence[tuple[View, int]], out: View, constants: Sequence[float] = ()) -> Launch:
    """A function of `EXPRESSIONS` of up to three operands, codes among them with their zero points; operands broadcast."""
    assert len(out.shape) <= RANK and len(operands) <= OPERANDS
    axes = memory_order(out)  # threads follow the result through memory
    fields: list[Field] = []
    for view, zero_point in operands:
        fields += strided(view.expand(out.shape), zero_point, axes, real=True)
    for _ in range(OPERANDS - len(operands)):
        fields += strided(None)
    fields += strided(out, 0, axes, write=True, real=True)
    fields += [*ints(*padded([out.shape[a] for a in axes]), out.count), *floats(*constants, *[0.0] * (4 - len(constants))), ("a", 8)]
    body = f"qc::each<{len(operands)}>(p, [&](float a, float b, float) -> float {{ (void)a; (void)b; return {EXPRESSIONS[name]}; }})"
    kernel = Kernel(f"real_{name}", "qc_real.cuh", "qc::RealParams", body, THREADS)
    return Launch(kernel, (ceil_div(out.count, THREADS), 1, 1), tuple(fields), out.count)


def _rows(name: str, body: str, x: View, out: View, weight: np.ndarray | None = None, bias: np.ndarray | None = None, eps: float = 0.0) -> Launch:
    length, rows = x.shape[-1], x.count // max(x.shape[-1], 1)
    held = [None if v is None else constant(f"{name}.{part}", v.astype(np.float32).ravel()) for part, v in (("weight", weight), ("bias", bias))]
    fields: list[Field] = [
        *strided(x, real=True), *strided(out, write=True, real=True), *(("p", reading(v)) for v in held),
        *ints(*padded((*x.shape[:-1], 1)), rows, length), *floats(eps), ("a", 8),
    ]  # fmt: skip
    kernel = Kernel(f"real_{name}", "qc_real_rows.cuh", "qc::RealRowParams", f"{body}(p)", 32 * WARPS)
    return Launch(kernel, (ceil_div(rows, WARPS), 1, 1), tuple(fields), x.count)


def softmax(x: View, out: View, log: bool = False) -> Launch:
    """Along the last axis."""
    return _rows("log_softmax" if log else "softmax", f"qc::real_softmax<{str(log).lower()}>", x, out)


def normalize(x: View, weight: np.ndarray | None, bias: np.ndarray | None, out: View, eps: float, mean: bool) -> Launch:
    """Layer normalization over the last axis, or with `mean` false RMS normalization."""
    return _rows("layer_norm" if mean else "rms_norm", f"qc::real_normalize<{str(mean).lower()}>", x, out, weight, bias, eps)


REDUCTIONS = {
    "reduce_sum": "SUM_OF", "reduce_mean": "MEAN_OF", "reduce_max": "LARGEST_OF", "reduce_min": "SMALLEST_OF",
    "reduce_prod": "PRODUCT_OF", "reduce_any": "ANY_OF", "reduce_all": "ALL_OF",
}  # fmt: skip


def reduce(op: str, x: View, axes: Sequence[int], y: View) -> Launch:
    """One of `REDUCTIONS` over `axes`; y lies in row-major order, with or without the axes of size 1."""
    kept = [a for a in range(len(x.shape)) if a not in axes]
    outer = View(x.buffer, x.dtype, tuple(x.shape[a] for a in kept), tuple(x.strides[a] for a in kept), x.offset)
    result = y.reshape(outer.shape)
    assert result is not None, "a result lies in row-major order"
    sizes, strides = [x.shape[a] for a in axes], [x.strides[a] for a in axes]
    terms = math.prod(sizes)
    fields: list[Field] = [
        ("p", reading(x)), *strided(outer, real=True)[1:], *strided(result, write=True, real=True), *longs(*padded(strides, 0)),
        *ints(*padded(outer.shape), *padded(sizes), y.count, terms),
    ]  # fmt: skip
    kind, name = ("float", "real") if x.dtype.kind == "f" else ("int64_t", "whole")
    body = f"qc::reduce<{kind}, qc::{REDUCTIONS[op]}>(p)"
    kernel = Kernel(f"{name}_{op}", "qc_real_rows.cuh", "qc::RealReduceParams", body, 32 * WARPS)
    return Launch(kernel, (ceil_div(y.count, WARPS), 1, 1), tuple(fields), y.count * terms)
