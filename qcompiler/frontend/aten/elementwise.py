"""Converters of elementwise ATen ops. Type promotion becomes explicit casts, numbers become constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ...ir import DType, Value
from ..context import Context, Operand, Refusal, to_dtype

Converter = Callable[..., Any]


def unary(op: str) -> Converter:
    """f(x), computed in the result's dtype (sqrt of integers is float)."""
    return lambda c, x, **_: c.op(op, c.cast(x, c.dtype))


def identity(c: Context, x: Value, *_: Any, **__: Any) -> Value:
    """Ops that change nothing here: contiguous, clone, detach, dropout in evaluation mode."""
    return x


def dropout(c: Context, x: Value, p: float = 0.5, train: bool = False) -> Value:
    """Nothing in evaluation mode."""
    if train and p:
        raise Refusal("the program was exported in training mode; call eval() on the model first")
    return x


def ignore(c: Context, *_: Any, **__: Any) -> None:
    """Assertions about metadata and sizes, which export has checked."""


def bool_like(dtype: DType) -> bool:
    """True where arithmetic is logic."""
    return dtype is DType.bool


def binary(op: str, logic: str | None = None) -> Converter:
    """f(a, b) in the result's dtype; `logic` stands for the op on booleans."""

    def convert(c: Context, a: Operand, b: Operand, **_: Any) -> Value:
        name = op
        if bool_like(c.dtype):
            if logic is None:
                raise Refusal("is not defined for booleans")
            name = logic
        return c.op(name, c.tensor(a, c.dtype), c.tensor(b, c.dtype))

    return convert


def add(c: Context, a: Operand, b: Operand, *, alpha: Any = 1) -> Value:
    """Gives a + alpha b."""
    return c.op("logical_or" if bool_like(c.dtype) else "add", c.tensor(a, c.dtype), _scaled(c, b, alpha))


def sub(c: Context, a: Operand, b: Operand, *, alpha: Any = 1) -> Value:
    """Gives a - alpha b."""
    return c.op("sub", c.tensor(a, c.dtype), _scaled(c, b, alpha))


def rsub(c: Context, a: Operand, b: Operand, alpha: Any = 1) -> Value:
    """Gives b - alpha a."""
    return c.op("sub", c.tensor(b, c.dtype), _scaled(c, a, alpha))


def _scaled(c: Context, b: Operand, alpha: Any) -> Value:
    value = c.tensor(b, c.dtype)
    return value if alpha == 1 else c.op("mul", value, c.tensor(alpha, c.dtype))


def div(c: Context, a: Operand, b: Operand, *, rounding_mode: str | None = None) -> Value:
    """Gives a / b, or its floor or truncation."""
    x, y = c.tensor(a, c.dtype), c.tensor(b, c.dtype)
    if rounding_mode == "floor":
        return c.op("floor_div", x, y)
    quotient = c.op("div", x, y)
    if rounding_mode == "trunc" and c.dtype.is_float:
        size = c.op("floor", c.op("abs", quotient))
        return c.op("mul", c.op("sign", quotient), size)
    return quotient


def pow_(c: Context, a: Operand, b: Operand) -> Value:
    """Gives a ^ b; squares, roots and reciprocals by their own ops."""
    if isinstance(a, Value) and isinstance(b, (int, float)) and (c.dtype.is_float or b in (1, 2)):
        x = c.cast(a, c.dtype)
        if b == 1:
            return x
        if b == 2:
            return c.op("mul", x, x)
        special = {0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}.get(b)
        if special is not None:
            return c.op(special, x)
    return c.op("pow", c.tensor(a, c.dtype), c.tensor(b, c.dtype))


def comparison_dtype(c: Context, args: tuple[Any, ...]) -> DType:
    """The dtype in which operands are compared: torch's promotion of their types."""
    tensors = [a.dtype for a in args if isinstance(a, Value)]
    if len(tensors) == len(args) and len(set(tensors)) == 1:
        return tensors[0]
    from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND, elementwise_dtypes

    raw = [a.meta["val"] if isinstance(a, torch.fx.Node) else a for a in c.node.args[: len(args)]]
    kind, _ = elementwise_dtypes(*raw, type_promotion_kind=ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT)
    return to_dtype(kind)


def compare(op: str) -> Converter:
    """A comparison; booleans are compared as int32, which every target knows."""

    def convert(c: Context, a: Operand, b: Operand) -> Value:
        kind = comparison_dtype(c, (a, b))
        if bool_like(kind):
            kind = DType.int32
        return c.op(op, c.tensor(a, kind), c.tensor(b, kind))

    return convert


def logical(op: str) -> Converter:
    """Logic on truth values; other types are true where they are not 0."""
    return lambda c, *args: c.op(op, *[truth(c, a) for a in args])


def truth(c: Context, x: Operand) -> Value:
    """Gives x as a boolean."""
    if isinstance(x, Value) and x.dtype is not DType.bool:
        return c.op("not_equal", x, c.const(0, x.dtype))
    return c.tensor(x, DType.bool)


def bitwise(op: str) -> Converter:
    """Bit logic, which the graph has for booleans only."""

    def convert(c: Context, *args: Operand) -> Value:
        if c.dtype is not DType.bool:
            raise Refusal(f"bit operations on {c.dtype.name} are not in the graph, only on booleans")
        return c.op(op, *[c.tensor(a, DType.bool) for a in args])

    return convert


def where(c: Context, condition: Value, a: Operand = None, b: Operand = None) -> Value:
    """Gives a where condition, else b."""
    if a is None:
        raise Refusal("where(condition) alone has a size that depends on the data")
    return c.op("where", truth(c, condition), c.tensor(a, c.dtype), c.tensor(b, c.dtype))


def masked_fill(c: Context, x: Value, mask: Value, value: Operand) -> Value:
    """Gives value where mask, else x."""
    return c.op("where", truth(c, mask), c.tensor(value, c.dtype), c.cast(x, c.dtype))


def clamp(c: Context, x: Value, min: Operand = None, max: Operand = None) -> Value:
    """Limits by numbers or tensors; either may be absent."""
    x = c.cast(x, c.dtype)
    if all(bound is None or isinstance(bound, (int, float)) for bound in (min, max)):
        return c.op("clip", x, min=min, max=max)
    if min is not None:
        x = c.op("maximum", x, c.tensor(min, c.dtype))
    return x if max is None else c.op("minimum", x, c.tensor(max, c.dtype))


def to(c: Context, x: Value, *_: Any, **__: Any) -> Value:
    """Any of `to`'s forms: the result's dtype says it all."""
    return c.cast(x, c.dtype)


def log_base(base: float) -> Converter:
    """Logarithm to another base."""
    return lambda c, x: c.op("mul", c.op("log", c.cast(x, c.dtype)), c.const(1 / math.log(base), c.dtype))


def exp2(c: Context, x: Value) -> Value:
    """2^x."""
    return c.op("pow", c.const(2, c.dtype), c.cast(x, c.dtype))


def square(c: Context, x: Value) -> Value:
    """Gives x x."""
    return c.op("mul", x, x)


def addc(op: str) -> Converter:
    """Gives x + value (a op b): addcmul and addcdiv."""

    def convert(c: Context, x: Value, a: Value, b: Value, *, value: Any = 1) -> Value:
        product = c.op(op, c.cast(a, c.dtype), c.cast(b, c.dtype))
        return c.op("add", c.cast(x, c.dtype), _scaled(c, product, value))

    return convert


def lerp(c: Context, a: Value, b: Value, weight: Operand) -> Value:
    """Gives a + weight (b - a)."""
    return c.op("add", a, c.op("mul", c.tensor(weight, c.dtype), c.op("sub", b, a)))


def trunc(c: Context, x: Value) -> Value:
    """Towards zero."""
    if not c.dtype.is_float:
        return x
    return c.op("mul", c.op("sign", x), c.op("floor", c.op("abs", x)))


def rounded(op: str) -> Converter:
    """floor, ceil, round: nothing to do for integers."""

    def convert(c: Context, x: Value, *, decimals: int = 0) -> Value:
        if decimals:
            raise Refusal("rounding to decimals is not in the graph")
        return c.op(op, x) if x.dtype.is_float else x

    return convert


def is_finite(c: Context, x: Value) -> Value:
    """Neither infinite nor NaN."""
    return c.op("logical_not", c.op("logical_or", c.op("is_nan", x), c.op("is_inf", x)))


def nan_to_num(c: Context, x: Value, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Value:
    """NaN and infinities replaced by numbers (0 and the type's extremes)."""
    limits = torch.finfo(torch.float32 if c.dtype is DType.float32 else getattr(torch, c.dtype.name))
    x = c.op("where", c.op("is_nan", x), c.const(nan or 0.0, c.dtype), x)
    low = limits.min if neginf is None else neginf
    high = limits.max if posinf is None else posinf
    infinite = c.op("is_inf", x)
    side = c.op("where", c.op("greater", x, c.const(0, c.dtype)), c.const(high, c.dtype), c.const(low, c.dtype))
    return c.op("where", infinite, side, x)


UNARY = (
    "exp log log1p expm1 sqrt rsqrt reciprocal sin cos tan atan tanh erf sigmoid silu mish neg abs sign relu"
).split()

CONVERTERS: dict[str, Converter] = {
    **{f"aten.{name}.default": unary(name) for name in UNARY},
    **{f"aten.{name}.default": rounded(name) for name in ("floor", "ceil", "round")},
    "aten.round.decimals": rounded("round"),
    "aten.sgn.default": unary("sign"),
    "aten.log2.default": log_base(2),
    "aten.log10.default": log_base(10),
    "aten.exp2.default": exp2,
    "aten.square.default": square,
    "aten.trunc.default": trunc,
    "aten.fix.default": trunc,
    **{f"aten.add.{o}": add for o in ("Tensor", "Scalar")},
    **{f"aten.sub.{o}": sub for o in ("Tensor", "Scalar")},
    **{f"aten.rsub.{o}": rsub for o in ("Tensor", "Scalar")},
    **{f"aten.{n}.{o}": binary("mul", "logical_and") for n in ("mul", "multiply") for o in ("Tensor", "Scalar")},
    **{f"aten.{n}.{o}": div for n in ("div", "true_divide", "divide") for o in ("Tensor", "Scalar")},
    **{f"aten.{n}.{o}": div for n in ("div", "divide") for o in ("Tensor_mode", "Scalar_mode")},
    **{f"aten.floor_divide.{o}": binary("floor_div") for o in ("default", "Scalar")},
    **{f"aten.remainder.{o}": binary("mod") for o in ("Tensor", "Scalar", "Scalar_Tensor")},
    **{f"aten.fmod.{o}": binary("fmod") for o in ("Tensor", "Scalar")},
    **{f"aten.pow.{o}": pow_ for o in ("Tensor_Scalar", "Tensor_Tensor", "Scalar")},
    "aten.maximum.default": binary("maximum", "logical_or"),
    "aten.minimum.default": binary("minimum", "logical_and"),
    "aten.max.other": binary("maximum", "logical_or"),
    "aten.min.other": binary("minimum", "logical_and"),
    "aten.fmax.default": binary("maximum"),
    "aten.fmin.default": binary("minimum"),
    **{f"aten.eq.{o}": compare("equal") for o in ("Tensor", "Scalar")},
    **{f"aten.{n}.{o}": compare("not_equal") for n in ("ne", "not_equal") for o in ("Tensor", "Scalar")},
    **{f"aten.{n}.{o}": compare("less") for n in ("lt", "less") for o in ("Tensor", "Scalar")},
    **{f"aten.{n}.{o}": compare("less_equal") for n in ("le", "less_equal") for o in ("Tensor", "Scalar")},
    **{f"aten.{n}.{o}": compare("greater") for n in ("gt", "greater") for o in ("Tensor", "Scalar")},
    **{f"aten.{n}.{o}": compare("greater_equal") for n in ("ge", "greater_equal") for o in ("Tensor", "Scalar")},
    "aten.logical_not.default": logical("logical_not"),
    "aten.logical_and.default": logical("logical_and"),
    "aten.logical_or.default": logical("logical_or"),
    "aten.logical_xor.default": logical("logical_xor"),
    "aten.bitwise_not.default": bitwise("logical_not"),
    **{f"aten.{n}.{o}": bitwise("logical_and") for n in ("bitwise_and", "__and__") for o in ("Tensor", "Scalar")},
    **{f"aten.{n}.{o}": bitwise("logical_or") for n in ("bitwise_or", "__or__") for o in ("Tensor", "Scalar")},
    **{f"aten.{n}.{o}": bitwise("logical_xor") for n in ("bitwise_xor", "__xor__") for o in ("Tensor", "Scalar")},
    **{f"aten.where.{o}": where for o in ("self", "ScalarOther", "ScalarSelf", "Scalar", "default")},
    **{f"aten.masked_fill.{o}": masked_fill for o in ("Scalar", "Tensor")},
    **{f"aten.clamp.{o}": clamp for o in ("default", "Tensor")},
    **{f"aten.clip.{o}": clamp for o in ("default", "Tensor")},
    **{f"aten.clamp_min.{o}": clamp for o in ("default", "Tensor")},
    **{f"aten.clamp_max.{o}": (lambda c, x, max: clamp(c, x, None, max)) for o in ("default", "Tensor")},
    "aten.addcmul.default": addc("mul"),
    "aten.addcdiv.default": addc("div"),
    **{f"aten.lerp.{o}": lerp for o in ("Scalar", "Tensor")},
    "aten.isnan.default": lambda c, x: c.op("is_nan", x),
    "aten.isinf.default": lambda c, x: c.op("is_inf", x),
    "aten.isfinite.default": is_finite,
    "aten.nan_to_num.default": nan_to_num,
    **{f"aten.to.{o}": to for o in ("dtype", "device", "other", "dtype_layout", "prim_dtype", "prim_Device")},
    "aten._to_copy.default": to,
    "aten.type_as.default": to,
    "aten.float.default": to,
    "prims.convert_element_type.default": to,
    **{
        f"aten.{n}.default": identity
        for n in (
            "contiguous clone detach alias lift_fresh lift_fresh_copy resolve_conj resolve_neg positive cpu"
        ).split()
    },
    **{
        f"aten.{n}.default": dropout
        for n in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
    },
    **{
        name: ignore
        for name in (
            "aten._assert_tensor_metadata.default aten._assert_async.msg aten._assert_async.default"
            " aten._assert_scalar.default aten.sym_constrain_range.default aten.sym_constrain_range_for_size.default"
        ).split()
    },
}
