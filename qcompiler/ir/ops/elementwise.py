"""Elementwise ops. Operands broadcast as in NumPy and must have one dtype; bodies keep the dtype they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from ...errors import GraphError
from ..dtypes import DType
from .spec import AttrSpec, Op, RunContext, TensorType, broadcast_shapes


def _same_type(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    if x.quant is not None:
        raise GraphError("takes real numbers; dequantize first")
    return [TensorType(x.dtype, x.shape)]


def _float_only(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    if not inputs[0].dtype.is_float:
        raise GraphError(f"needs a float operand, got {inputs[0].dtype.name}")
    return _same_type(inputs, attrs)


def _to_bool(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    return [TensorType(DType.bool, broadcast_shapes(*[v.shape for v in inputs]))]


def _binary(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    a, b = inputs
    if a.dtype is not b.dtype:
        raise GraphError(f"operands differ in dtype: {a.dtype.name}, {b.dtype.name}; insert a cast")
    if a.quant is not None or b.quant is not None:
        raise GraphError("takes real numbers; use requantize_sum for quantized operands")
    return [TensorType(a.dtype, broadcast_shapes(a.shape, b.shape))]


def _comparison(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    return [TensorType(DType.bool, _binary(inputs, attrs)[0].shape)]


def _cast_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    if inputs[0].quant is not None:
        raise GraphError("takes real numbers; dequantize first")
    return [TensorType(attrs["dtype"], inputs[0].shape)]


def _cast(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    target: DType = ctx.attrs["dtype"]
    if ctx.float64 and target.is_float and x.dtype == np.float64:
        return x
    if target.is_integer and np.issubdtype(x.dtype, np.floating):
        x = np.trunc(x)
    return x.astype(target.numpy)


def _where_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    condition, a, b = inputs
    if condition.dtype is not DType.bool:
        raise GraphError(f"condition must be bool, got {condition.dtype.name}")
    if a.quant is not None and a.quant == b.quant and a.quant.per_tensor:  # a choice between codes is movement
        return [TensorType(a.dtype, broadcast_shapes(condition.shape, a.shape, b.shape), a.quant)]
    kind = _binary((a, b), attrs)[0]
    return [TensorType(kind.dtype, broadcast_shapes(condition.shape, kind.shape))]


def _clip(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    low, high = ctx.attrs["min"], ctx.attrs["max"]
    if low is not None:
        x = np.maximum(x, x.dtype.type(low))
    return x if high is None else np.minimum(x, x.dtype.type(high))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return special.expit(x)


def _gelu(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    half = x.dtype.type(0.5)
    if ctx.attrs["approximate"] == "tanh":
        inner = x.dtype.type(np.sqrt(2 / np.pi)) * (x + x.dtype.type(0.044715) * x * x * x)
        return half * x * (1 + np.tanh(inner))
    if ctx.attrs["approximate"] == "sigmoid":
        return x * _sigmoid(x.dtype.type(1.702) * x)
    return half * x * (1 + special.erf(x * x.dtype.type(np.sqrt(0.5))))


def _gelu_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    if attrs["approximate"] not in ("none", "tanh", "sigmoid"):
        raise GraphError(f"approximate is one of none, tanh, sigmoid; got {attrs['approximate']!r}")
    return _float_only(inputs, attrs)


def _softplus(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    beta = x.dtype.type(ctx.attrs["beta"])
    return np.where(beta * x > ctx.attrs["threshold"], x, np.logaddexp(0, beta * x) / beta)


def _elu(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, x.dtype.type(ctx.attrs["alpha"]) * np.expm1(np.minimum(x, 0)))


def _leaky_relu(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, x, x.dtype.type(ctx.attrs["slope"]) * x)


def _hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x / 6 + x.dtype.type(0.5), 0, 1).astype(x.dtype)


def _hard_swish(x: np.ndarray) -> np.ndarray:
    return x * np.clip(x + 3, 0, 6).astype(x.dtype) / 6


def _pow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.power(a, b)


def _div(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind in "iu":  # integer division truncates, as in ONNX and C
        quotient = np.floor_divide(a, b)
        return quotient + ((quotient < 0) & (quotient * b != a))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(a, b)


def _same_dtype(fn: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def body(ctx: RunContext, *arrays: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return np.asarray(fn(*arrays)).astype(arrays[0].dtype, copy=False)

    return body


def _bool_result(fn: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda ctx, *arrays: np.asarray(fn(*arrays)).astype(np.bool_)


_FLOAT_UNARY: dict[str, tuple[Callable[..., Any], str]] = {
    "exp": (np.exp, "e^x"),
    "log": (np.log, "natural logarithm"),
    "log1p": (np.log1p, "log(1 + x)"),
    "expm1": (np.expm1, "e^x - 1"),
    "sqrt": (np.sqrt, "square root"),
    "rsqrt": (lambda x: 1 / np.sqrt(x), "1 / sqrt(x)"),
    "reciprocal": (lambda x: 1 / x, "1 / x"),
    "sin": (np.sin, "sine"),
    "cos": (np.cos, "cosine"),
    "tan": (np.tan, "tangent"),
    "atan": (np.arctan, "arc tangent"),
    "tanh": (np.tanh, "hyperbolic tangent"),
    "erf": (special.erf, "error function"),
    "sigmoid": (_sigmoid, "1 / (1 + e^-x)"),
    "floor": (np.floor, "largest integer <= x"),
    "ceil": (np.ceil, "smallest integer >= x"),
    "round": (np.rint, "nearest integer, ties to even"),
    "silu": (lambda x: x * _sigmoid(x), "x * sigmoid(x)"),
    "mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), "x * tanh(softplus(x))"),
    "hard_sigmoid": (_hard_sigmoid, "clip(x / 6 + 1/2, 0, 1)"),
    "hard_swish": (_hard_swish, "x * clip(x + 3, 0, 6) / 6"),
}
_UNARY: dict[str, tuple[Callable[..., Any], str]] = {
    "neg": (np.negative, "-x"),
    "abs": (np.abs, "|x|"),
    "sign": (np.sign, "-1, 0 or 1"),
    "relu": (lambda x: np.maximum(x, 0), "max(x, 0)"),
}
_BINARY: dict[str, tuple[Callable[..., Any], str]] = {
    "add": (np.add, "a + b"),
    "sub": (np.subtract, "a - b"),
    "mul": (np.multiply, "a * b"),
    "div": (_div, "a / b; integers truncate towards zero"),
    "pow": (_pow, "a ^ b"),
    "maximum": (np.maximum, "larger of a, b"),
    "minimum": (np.minimum, "smaller of a, b"),
    "floor_div": (np.floor_divide, "floor(a / b)"),
    "mod": (np.mod, "a - floor(a / b) * b"),
    "fmod": (np.fmod, "a - trunc(a / b) * b"),
}
_COMPARE: dict[str, tuple[Callable[..., Any], str]] = {
    "equal": (np.equal, "a == b"),
    "not_equal": (np.not_equal, "a != b"),
    "less": (np.less, "a < b"),
    "less_equal": (np.less_equal, "a <= b"),
    "greater": (np.greater, "a > b"),
    "greater_equal": (np.greater_equal, "a >= b"),
}
_LOGICAL: dict[str, tuple[Callable[..., Any], int, str]] = {
    "logical_not": (np.logical_not, 1, "not a"),
    "logical_and": (np.logical_and, 2, "a and b"),
    "logical_or": (np.logical_or, 2, "a or b"),
    "logical_xor": (np.logical_xor, 2, "a xor b"),
    "is_nan": (np.isnan, 1, "true where a is NaN"),
    "is_inf": (np.isinf, 1, "true where a is infinite"),
}


def _rows() -> list[Op]:
    kind = "elementwise"
    rows = [Op(n, ("x",), (), _float_only, _same_dtype(f), d, kind) for n, (f, d) in _FLOAT_UNARY.items()]
    rows += [Op(n, ("x",), (), _same_type, _same_dtype(f), d, kind) for n, (f, d) in _UNARY.items()]
    rows += [Op(n, ("a", "b"), (), _binary, _same_dtype(f), d, kind) for n, (f, d) in _BINARY.items()]
    rows += [Op(n, ("a", "b"), (), _comparison, _bool_result(f), d, kind) for n, (f, d) in _COMPARE.items()]
    rows += [
        Op(n, ("a", "b")[:arity], (), _to_bool, _bool_result(f), d, kind)
        for n, (f, arity, d) in _LOGICAL.items()
    ]
    return rows


OPS: list[Op] = [
    *_rows(),
    Op(
        "cast",
        ("x",),
        (AttrSpec("dtype", "dtype"),),
        _cast_infer,
        _cast,
        "another dtype; float to integer truncates",
        "elementwise",
    ),
    Op(
        "where",
        ("condition", "a", "b"),
        (),
        _where_infer,
        lambda ctx, c, a, b: np.where(c, a, b),
        "a where condition, else b; codes with equal parameters keep them",
        "elementwise",
    ),
    Op(
        "clip",
        ("x",),
        (AttrSpec("min", "float", None), AttrSpec("max", "float", None)),
        _same_type,
        _clip,
        "min(max(x, min), max); an absent bound does not limit",
        "elementwise",
    ),
    Op(
        "gelu",
        ("x",),
        (AttrSpec("approximate", "str", "none"),),
        _gelu_infer,
        _gelu,
        "x * Phi(x); approximate: none (erf), tanh, or sigmoid (x * sigmoid(1.702 x))",
        "elementwise",
    ),
    Op(
        "softplus",
        ("x",),
        (AttrSpec("beta", "float", 1.0), AttrSpec("threshold", "float", 20.0)),
        _float_only,
        _softplus,
        "log(1 + e^(beta x)) / beta, x where beta x > threshold",
        "elementwise",
    ),
    Op(
        "elu",
        ("x",),
        (AttrSpec("alpha", "float", 1.0),),
        _float_only,
        _elu,
        "x > 0 ? x : alpha (e^x - 1)",
        "elementwise",
    ),
    Op(
        "leaky_relu",
        ("x",),
        (AttrSpec("slope", "float", 0.01),),
        _float_only,
        _leaky_relu,
        "x >= 0 ? x : slope x",
        "elementwise",
    ),
    Op(
        "prelu",
        ("x", "slope"),
        (),
        _binary,
        lambda ctx, x, s: np.where(x >= 0, x, s * x),
        "x >= 0 ? x : slope * x, slope broadcasts",
        "elementwise",
    ),
]
