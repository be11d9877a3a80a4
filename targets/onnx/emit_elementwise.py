"""ONNX forms of the elementwise ops."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np

from qcompiler.ir import DType, Node, Value
from qcompiler.ir.dims import same_shape
from qcompiler.ir.ops.rounding import log2_table

from .emitter import Emitter

Rule = Callable[[Emitter, Node], "str | tuple[str, ...]"]

# Arithmetic and comparison kernels of ONNX Runtime exist for these types; others compute in int32.
NATIVE = (DType.float32, DType.float64, DType.float16, DType.int32, DType.int64)

_UNARY = {
    "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "sin": "Sin", "cos": "Cos",
    "tan": "Tan", "atan": "Atan", "tanh": "Tanh", "erf": "Erf", "sigmoid": "Sigmoid", "floor": "Floor",
    "ceil": "Ceil", "round": "Round", "mish": "Mish", "hard_swish": "HardSwish", "abs": "Abs", "sign": "Sign",
}  # fmt: skip
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "maximum": "Max", "minimum": "Min"}
_COMPARE = {
    "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
}  # fmt: skip
_LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}


def _x(node: Node) -> Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _unary(op_type: str) -> Rule:
    return lambda e, node: e.op(op_type, _x(node))


def _native(e: Emitter, value: Value) -> str:
    return e.name(value) if value.dtype in NATIVE else e.cast(value, DType.int32)


def _back(e: Emitter, name: str, value: Value) -> str:
    return name if value.dtype in NATIVE else e.cast(name, value.dtype)


def _binary(op_type: str) -> Rule:
    def rule(e: Emitter, node: Node) -> str:
        a, b = node.operands
        return _back(e, e.op(op_type, _native(e, a), _native(e, b)), a)

    return rule


def _add(e: Emitter, node: Node) -> str:
    """ONNX Runtime fuses Add + LayerNormalization into a slow SkipLayerNormalization; it leaves Sum alone."""
    feeds_norm = any(user.op == "layer_norm" for user, _ in e.graph.uses(node.output))
    if e.style.runtime_kernels and not e.style.plain and feeds_norm and node.output.dtype is DType.float32:
        return str(e.op("Sum", *node.operands))
    return str(_binary("Add")(e, node))


def _compare(op_type: str) -> Rule:
    def rule(e: Emitter, node: Node) -> str:
        a, b = node.operands
        if op_type == "Equal" and a.dtype is DType.bool:
            return str(e.op("Equal", a, b))
        return str(e.op(op_type, _native(e, a), _native(e, b)))

    return rule


def _as_bool(e: Emitter, value: Value) -> str:
    return e.name(value) if value.dtype is DType.bool else e.cast(value, DType.bool)


def _logical(op_type: str) -> Rule:
    return lambda e, node: e.op(op_type, *[_as_bool(e, v) for v in node.operands])


def _float_test(op_type: str) -> Rule:
    def rule(e: Emitter, node: Node) -> str:
        x = _x(node)
        return str(e.op(op_type, x if x.dtype.is_float else e.cast(x, DType.float32)))

    return rule


def _neg(e: Emitter, node: Node) -> str:
    x = _x(node)
    return _back(e, e.op("Neg", _native(e, x)), x)


def _relu(e: Emitter, node: Node) -> str:
    x = _x(node)
    if x.dtype.is_float:
        return str(e.op("Relu", x))
    return _back(e, e.op("Max", _native(e, x), e.scalar(0, x.dtype if x.dtype in NATIVE else DType.int32)), x)


def _floor_div(e: Emitter, node: Node) -> str:
    a, b = node.operands
    if a.dtype.is_float:
        return str(e.op("Floor", e.op("Div", a, b)))
    x, y = _native(e, a), _native(e, b)
    return _back(e, e.op("Div", e.op("Sub", x, e.op("Mod", x, y)), y), a)


def _mod(e: Emitter, node: Node) -> str:
    a, b = node.operands
    if not a.dtype.is_float:
        return _back(e, e.op("Mod", _native(e, a), _native(e, b)), a)
    # fmod has the dividend's sign; a remainder of the other sign than b moves by one b
    rest, zero = e.op("Mod", a, b, fmod=1), e.scalar(0, a.dtype)
    wrong = e.op("Less", e.op("Mul", e.op("Sign", rest), e.op("Sign", b)), zero)
    return str(e.op("Where", wrong, e.op("Add", rest, b), rest))


def _fmod(e: Emitter, node: Node) -> str:
    a, b = node.operands
    return _back(e, e.op("Mod", _native(e, a), _native(e, b), fmod=1), a)


def _cast(e: Emitter, node: Node) -> str:
    return e.cast(_x(node), node.attrs["dtype"])


def _where(e: Emitter, node: Node) -> str:
    condition, a, b = node.operands
    if a.dtype in (DType.float32, DType.float64, DType.int32, DType.int64, DType.uint8, DType.float16):
        return str(e.op("Where", condition, a, b))
    via = DType.float32 if a.dtype.is_float else DType.int32
    return e.cast(e.op("Where", condition, e.cast(a, via), e.cast(b, via)), a.dtype)


def _clip(e: Emitter, node: Node) -> str:
    x = _x(node)
    low, high = (None if node.attrs[k] is None else e.scalar(node.attrs[k], x.dtype) for k in ("min", "max"))
    if low is None and high is None:
        return str(e.op("Identity", x))
    return str(e.op("Clip", x, low, high))


def _silu(e: Emitter, node: Node) -> str:
    if e.style.runtime_kernels and not e.style.plain:
        return str(e.ms("QuickGelu", _x(node), alpha=1.0))
    return str(e.op("Mul", _x(node), e.op("Sigmoid", _x(node))))


def _gelu(e: Emitter, node: Node) -> str:
    x, form = _x(node), node.attrs["approximate"]
    fast = e.style.runtime_kernels and not e.style.plain
    if form == "sigmoid":
        if fast:
            return str(e.ms("QuickGelu", x, alpha=1.702))
        return str(e.op("Mul", x, e.op("Sigmoid", e.op("Mul", x, e.scalar(1.702, x.dtype)))))
    if fast:
        return str(e.ms("Gelu" if form == "none" else "FastGelu", x))
    return str(e.op("Gelu", x, approximate=form))


def _softplus(e: Emitter, node: Node) -> str:
    """A threshold of 20 or more changes nothing in float32: log(1 + e^20) - 20 = 2e-9."""
    x, beta, threshold = _x(node), node.attrs["beta"], node.attrs["threshold"]
    scaled = e.name(x) if beta == 1.0 else e.op("Mul", x, e.scalar(beta, x.dtype))
    y = e.op("Softplus", scaled)
    y = y if beta == 1.0 else e.op("Div", y, e.scalar(beta, x.dtype))
    if threshold >= 20:
        return str(y)
    return str(e.op("Where", e.op("Greater", scaled, e.scalar(threshold, x.dtype)), x, y))


def _prelu(e: Emitter, node: Node) -> str:
    x, slope = node.operands
    if same_shape(node.output.shape, x.shape) and x.dtype.is_float:
        return str(e.op("PRelu", x, slope))
    return str(e.op("Where", e.op("GreaterOrEqual", x, e.scalar(0, x.dtype)), x, e.op("Mul", x, slope)))


def _round_log2(e: Emitter, node: Node) -> str:
    """The code as a 4-bit (or 8-bit) QuantizeLinear in the logarithmic domain, which saturates; decoded by a table.

    No Clip before it: ONNX Runtime 1.31 fails to load a model with Clip and a 4-bit QuantizeLinear.
    """
    x, attrs = _x(node), node.attrs
    positive = e.op("Max", x, e.scalar(np.finfo(x.dtype.numpy).tiny, x.dtype))
    ratio = positive if attrs["scale"] == 1.0 else e.op("Div", positive, e.scalar(attrs["scale"], x.dtype))
    exact = e.op("Mul", e.op("Log", ratio), e.scalar(-1 / (np.log(2) * attrs["step"]), x.dtype))
    if attrs["bits"] not in (4, 8):
        exact = e.op("Min", exact, e.scalar((1 << attrs["bits"]) - 1, x.dtype))
    one, zero = e.scalar(1, x.dtype), e.const(0, ml_dtypes.uint4 if attrs["bits"] <= 4 else np.uint8, "zero_point")
    codes = e.op("DequantizeLinear", e.op("QuantizeLinear", exact, one, zero), one, zero)
    table = e.const(log2_table(attrs), x.dtype.numpy, "table")
    return str(e.op("Gather", table, e.cast(codes, DType.int64)))


def _shifted(op_first: str, op_then: str, one_first: bool) -> Rule:
    """log1p (add one, then Log) and expm1 (Exp, then take one away)."""

    def rule(e: Emitter, node: Node) -> str:
        x = _x(node)
        one = e.scalar(1, x.dtype)
        return str(e.op(op_then, e.op(op_first, x, one)) if one_first else e.op(op_then, e.op(op_first, x), one))

    return rule


RULES: dict[str, Rule] = {
    **{name: _unary(op_type) for name, op_type in _UNARY.items()},
    **{name: _binary(op_type) for name, op_type in _BINARY.items()},
    **{name: _compare(op_type) for name, op_type in _COMPARE.items()},
    **{name: _logical(op_type) for name, op_type in _LOGICAL.items()},
    "add": _add,
    "logical_not": _logical("Not"),
    "not_equal": lambda e, node: e.op("Not", _compare("Equal")(e, node)),
    "is_nan": _float_test("IsNaN"),
    "is_inf": _float_test("IsInf"),
    "neg": _neg,
    "relu": _relu,
    "log1p": _shifted("Add", "Log", True),
    "expm1": _shifted("Exp", "Sub", False),
    "rsqrt": lambda e, node: e.op("Reciprocal", e.op("Sqrt", _x(node))),
    "hard_sigmoid": lambda e, node: e.op("HardSigmoid", _x(node), alpha=float(np.float32(1 / 6)), beta=0.5),
    "silu": _silu,
    "floor_div": _floor_div,
    "mod": _mod,
    "fmod": _fmod,
    "cast": _cast,
    "where": _where,
    "clip": _clip,
    "gelu": _gelu,
    "round_log2": _round_log2,
    "softplus": _softplus,
    "elu": lambda e, node: e.op("Elu", _x(node), alpha=node.attrs["alpha"]),
    "leaky_relu": lambda e, node: e.op("LeakyRelu", _x(node), alpha=node.attrs["slope"]),
    "prelu": _prelu,
}
