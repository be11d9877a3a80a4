"""Elementwise functions: tables, interpolated tables, shifts; products of two values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from qcompiler.ir import OPS, DType, GraphBuilder, Node, QuantParams, Value, constant
from qcompiler.ir.ops.integer import KNOTS
from qcompiler.passes.integer.lowering import Lowering, NoIntegerForm, Rule, requantize
from qcompiler.passes.integer.measured_choice import Examples, Form
from qcompiler.passes.quantize.byte_values import real_function

RealFunction = Callable[[np.ndarray], np.ndarray]
INT16 = np.iinfo(np.int16)
MOST_EXAMPLES = 1 << 15
# Functions with a form by shifts: factor of the sigmoid's argument, form of `shift_sigmoid`, scale of its result.
SHIFT_FORMS = {"gelu": (1.702, "gated"), "silu": (1.0, "gated"), "sigmoid": (1.0, "sigmoid"), "tanh": (2.0, "tanh")}
NOT_FUNCTIONS = frozenset({"add", "sub", "mul", "div", "where", "cast", "relu", "clip"})


def is_function(node: Node) -> bool:
    """True for an elementwise function of one real activation."""
    if OPS[node.op].category != "elementwise" or node.op in NOT_FUNCTIONS or len(node.outputs) != 1:
        return False
    varying = [v for v in node.operands if v.data is None]
    rest = [v for v in node.operands if v.data is not None]
    return len(varying) == 1 and varying[0].dtype.is_float and node.output.dtype.is_float and all(v.data.size == 1 for v in rest)


def of_node(node: Node) -> RealFunction:
    """A node as a function."""
    return partial(real_function, node)


def function(low: Lowering, node: Node, source: Value | None = None, real: RealFunction | None = None) -> None:
    """One of the forms, by measured error.

    Args:
        low: the walk.
        node: whose output it computes.
        source: the value it is a function of, by default the node's operand.
        real: the function, by default the node's own.
    """
    if source is None:
        (source,) = [v for v in node.operands if v.data is None]
    real = real or of_node(node)
    if low.form(source).dtype is DType.int32 and not wants_16_bits(low, [real], source, float(low.narrow_quant(source).scale)):
        low.set_form(source, low.codes8(source))
    x, quant = low.codes(source), low.result_quant(node.output)
    forms = _forms(low, node, source, real, x, quant)
    wanted = low.config.activation
    if wanted != "auto" and (wanted in forms or any(name.startswith(wanted) for name in forms)):
        forms = {name: form for name, form in forms.items() if name.startswith(wanted)}
    params = x.quant
    assert params is not None

    def examples() -> Examples:
        arrays = [a.ravel()[:: max(1, a.size // MOST_EXAMPLES)] for a in low.ranges.examples[source]]
        return [([params.quantize(a)], real(a)) for a in arrays]

    best = low.choices.choose(node.where(), forms, [x], examples)
    low.set_form(node.output, forms[best](low.out, [x]))


def _forms(
    low: Lowering, node: Node, source: Value, real: RealFunction, x: Value, quant: QuantParams
) -> dict[str, Form]:
    name, seen = node.output.name, low.ranges.extremes(source)
    assert x.quant is not None
    if x.dtype.bits > 8 and (x.dtype is not DType.int16 or not x.quant.symmetric):
        raise NoIntegerForm(f"it reads codes of {x.dtype.name}; functions have 8 bits, or int16 with zero point 0")
    if x.dtype is not DType.int16:
        return {"lookup": lambda b, xs: lookup(b, real, xs[0], quant, name, seen)} | _shift_forms(low, node, x, quant)
    narrow = low.narrow_quant(source)

    def narrowed(b: GraphBuilder, xs: list[Value]) -> Value:
        return lookup(b, real, requantize(b, low.profile, xs[0], narrow), quant, name, seen)

    def interpolated(b: GraphBuilder, xs: list[Value]) -> Value:
        return lookup_interpolated(b, real, xs[0], quant, name, seen)

    forms = {"interpolated": interpolated, **_shift_forms(low, node, x, quant)}
    # What is shown to the forms was rounded to 8 bits on its way; it cannot tell what 16 are worth.
    return forms if source in low.widened else {"lookup": narrowed, **forms}  # type: ignore[dict-item]


def wants_16_bits(low: Lowering, functions: Sequence[RealFunction], source: Value, step: float) -> bool:
    """True if functions are to read 16 bits of a value: rounding it to steps of 8-bit codes costs one of them too much."""
    config = low.config
    if config.activation in ("lookup", "interpolated"):
        return config.activation == "interpolated"
    if config.function_bits != "auto":
        return config.function_bits == 16
    return any(rounding_db(f, low.ranges.examples[source], step) < config.function_db for f in functions)


def rounding_db(real: RealFunction, arrays: Sequence[np.ndarray], step: float) -> float:
    """Signal to noise of a function whose operand is rounded to steps: noise is uniform in a step, to first order."""
    x = np.concatenate([a.ravel()[:: max(1, a.size // MOST_EXAMPLES)] for a in arrays])
    slope = real(x + step / 2) - real(x - step / 2)
    noise, signal = float(np.square(slope).mean()) / 12, float(np.square(real(x)).mean())
    return 10 * math.log10(max(signal, 1e-30) / max(noise, 1e-30))


def lookup(b: GraphBuilder, real: RealFunction, x: Value, quant: QuantParams, name: str, seen: tuple[float, float]) -> Value:
    """A table with one entry per code."""
    assert x.quant is not None
    codes = np.arange(x.dtype.min, x.dtype.max + 1).astype(x.dtype.numpy)
    entries = quant.quantize(_finite(real, x.quant.dequantize(codes), seen))
    return b.op("lookup", x, constant(entries, quant.dtype, name="table"), quant=quant, name=name)


def _finite(real: RealFunction, x: np.ndarray, seen: tuple[float, float]) -> np.ndarray:
    """The function of x.

    One that is not finite for all codes (a logarithm) takes those outside of what calibration has seen for the ends of
    that range, as codes saturate there.
    """
    y = real(x)
    if not np.isfinite(y).all():
        y = real(np.clip(x, *seen))
    if not np.isfinite(y).all():
        raise NoIntegerForm(f"the function is not finite on the range of its operand, {seen[0]:.4g} to {seen[1]:.4g}; limit that first (clamp)")
    return y


def lookup_interpolated(
    b: GraphBuilder, function: RealFunction, x: Value, quant: QuantParams, name: str, seen: tuple[float, float]
) -> Value:
    """257 knots over the range of int16; narrow results get knots of finer steps."""
    assert x.quant is not None
    at = np.arange(KNOTS) * 256.0 - 32768
    real = _finite(function, at * float(x.quant.scale), seen)
    extra = max(0, 15 - quant.dtype.bits)
    centre = real / float(quant.scale)
    zero = int(quant.zero_point)
    inside = np.clip(centre, quant.dtype.min - zero, quant.dtype.max - zero)
    knots = np.clip(np.rint(inside * 2.0**extra), INT16.min, INT16.max).astype(np.int16)
    return b.op("lookup_interpolated", x, constant(knots, name="knots"), quant=quant, shift=8 + extra, name=name)


def _shift_forms(low: Lowering, node: Node, x: Value, quant: QuantParams) -> dict[str, Form]:
    if node.op not in SHIFT_FORMS or x.quant is None:
        return {}
    factor, form = SHIFT_FORMS[node.op]
    unit = math.floor(1 / (factor * float(x.quant.scale)))
    if unit < 1:
        return {}  # the step of x is too coarse for shifts

    def by_shifts(bits: int) -> Form:
        def build(b: GraphBuilder, xs: list[Value]) -> Value:
            acc = b.op("shift_sigmoid", xs[0], unit=unit, bits=bits, gate_bits=15, form=form, name=node.output.name)
            return requantize(b, low.profile, acc, quant, name=node.output.name)

        return build  # type: ignore[return-value]

    # 2 unit 2^bits, and that times 2^(gate_bits + 1), have to fit 31 and 62 bits.
    widest = 29 - unit.bit_length()
    return {f"shift n={n}": by_shifts(n) for n in (8, 12, 15) if n <= widest}


def _constant_factor(node: Node) -> float | None:
    """The factor of a product with a positive scalar constant."""
    if node.op not in ("mul", "div"):
        return None
    first, second = node.operands
    value, index = (second, 1) if second.data is not None else (first, 0)
    if value.data is None or value.data.size != 1 or (node.op == "div" and index == 0):
        return None
    number = float(value.data.ravel()[0])
    return (1 / number if node.op == "div" else number) if number > 0 else None


def product(low: Lowering, node: Node) -> None:
    """A factor goes into the rescale; else integer_mul of codes, and a rescale."""
    first, second = node.operands
    quant, name = low.result_quant(node.output), node.output.name
    factor = _constant_factor(node)
    if factor is not None:
        value = first if first.data is None else second
        x = low.form(value)
        assert x.quant is not None
        real = x.quant.scale.astype(np.float64) * factor / float(quant.scale)
        low.set_form(node.output, requantize(low.out, low.profile, x, quant, real, name=name, any_factor=True))
        return
    if node.op == "div":
        if second.data is None or not second.data.all():
            raise NoIntegerForm("it divides by a computed value")
        reciprocal = constant((1 / second.data).astype(np.float32), name=second.name)
        a, b = low.codes(first), low.constant(reciprocal, low.wide_quant(reciprocal))
    else:
        a, b = low.codes(first), low.codes(second)
    acc = low.op(node.output, "integer_mul", a, b)
    low.set_form(node.output, low.rescale(acc, quant, name=name))


def _cast(low: Lowering, node: Node) -> None:
    """Between real types nothing; rows of a table of plain integers are codes of scale 1."""
    (x,) = node.operands
    source = low.source.producer(x)
    if x.dtype.is_float and node.output.dtype.is_float:
        low.set_form(node.output, low.form(x))
        return
    table = source.operands[0] if source is not None and source.op == "gather" else None
    if source is None or table is None or table.data is None or x.dtype is not DType.int8 or not node.output.dtype.is_float:
        raise NoIntegerForm(
            f"it converts {x.dtype.name} to {node.output.dtype.name}; an input of uint8 or int8 can be converted to"
            " real numbers and then be scaled. Let the model take bytes, or real numbers"
        )
    codes = low.constant(table, QuantParams(DType.int8, np.float32(1)))
    low.set_form(node.output, low.op(x, "gather", codes, low.out[source.operands[1]], axis=source.attrs["axis"]))


RULES: dict[str, Rule] = {"mul": product, "div": product, "cast": _cast}
