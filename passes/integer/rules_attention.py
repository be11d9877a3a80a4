"""Softmax and attention: scores as integers, exponentials by table or by shifts, rounded probabilities.

The factor of the scores (1 / sqrt(d)) is part of the exponential, so any profile can hold the scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from qcompiler.ir import DType, GraphBuilder, Node, QuantParams, Value, constant
from qcompiler.ir.ops.integer import PROBABILITY_BITS, TABLE_ONE
from qcompiler.ir.ops.norm import softmax as real_softmax
from qcompiler.passes.integer.lowering import Lowering, NoIntegerForm, Rule, requantize
from qcompiler.passes.integer.measured_choice import Examples, Form

PROBABILITY = QuantParams(DType.int8, np.float32(2.0**-PROBABILITY_BITS), np.int32(-128))
POWERS = QuantParams(DType.int16, np.float32(2.0**-14))
# exp(-11.1) is below half a step of the table's exponentials.
LAST_EXPONENT = 11.1


def score_quant(low: Lowering, scale: float, step: float) -> QuantParams:
    """int16 parameters of unscaled scores whose steps are about `step` after multiplication with `scale`."""
    exact = step / scale
    if low.profile.power_of_two:
        exact = 2.0 ** round(math.log2(exact))
    return QuantParams(DType.int16, np.float32(exact))


def exponentials(step: float) -> np.ndarray:
    """int16 table of exp(-k step) in steps of 2^-15, as far as it is not 0."""
    count = math.ceil(LAST_EXPONENT / step)
    return np.array([round(TABLE_ONE * math.exp(-k * step)) for k in range(count)], np.int16)


def softmax_forms(low: Lowering, scale: float, name: str) -> dict[str, Form]:
    """Forms on accumulators or codes of scores (and a mask), cheapest first."""
    tables: dict[float, Value] = {}

    def scores(b: GraphBuilder, x: Value, step: float) -> tuple[Value, float]:
        quant = score_quant(low, scale, step)
        return requantize(b, low.profile, x, quant, name=name), float(quant.scale) * scale

    def table(step: float) -> Value:
        if step not in tables:
            tables[step] = low.shared_constant(exponentials(step), "exponentials")
        return tables[step]

    def by_table(op: str, quant: QuantParams, step: float) -> Form:
        def build(b: GraphBuilder, xs: Sequence[Value]) -> Value:
            x, exact = scores(b, xs[0], step)
            return b.op(op, x, table(exact), *xs[1:], quant=quant, name=name)

        return build

    def by_shifts(step: float, bits: int) -> Form:
        def build(b: GraphBuilder, xs: Sequence[Value]) -> Value:
            x, exact = scores(b, xs[0], step)
            return b.op("shiftmax", x, *xs[1:], quant=PROBABILITY, unit=max(1, math.floor(1 / exact)), bits=bits, name=name)

        return build

    base = low.config.score_step
    steps = {f"{k:g}": base * k for k in (2, 1, 0.5)}
    forms: dict[str, Form] = {f"lookup step {s:g}": by_table("softmax_lookup", PROBABILITY, s) for s in steps.values()}
    forms |= {f"shift step {s:g} n={n}": by_shifts(s, n) for s in (1 / 16, 1 / 64, 1 / 256) for n in (12, 15)}
    forms["log2"] = by_table("log2_softmax", POWERS, base)
    wanted = low.config.softmax
    if wanted == "auto":
        return {name: form for name, form in forms.items() if name != "log2"}  # never better; for parts without multiplier
    return {name: form for name, form in forms.items() if name.startswith(wanted)}


def _choose_softmax(
    low: Lowering, node: Node, scale: float, operands: Sequence[Value], examples: Callable[[], Examples]
) -> Value:
    forms = softmax_forms(low, scale, node.output.name)
    best = low.choices.choose(node.where(), forms, operands, examples)
    return forms[best](low.out, operands)


def softmax(low: Lowering, node: Node) -> None:
    """Over the last axis."""
    (source,) = node.operands
    if node.attrs["axis"] % len(source.shape) != len(source.shape) - 1:
        raise NoIntegerForm("softmax over another axis than the last")
    x = low.form(source)
    assert x.quant is not None
    if not x.quant.per_tensor:
        x = low.codes(source)
    assert x.quant is not None
    quant = x.quant


    def examples() -> Examples:
        return [([quant.quantize(a)], real_softmax(a.astype(np.float64), -1)) for a in low.ranges.examples[source]]

    low.set_form(node.output, _choose_softmax(low, node, 1.0, [x], examples))


def attention(low: Lowering, node: Node) -> None:
    """softmax(scale q k^T, masked) v on int8 codes of q, k and v."""
    q_value, k_value, v_value, mask_value = node.inputs
    assert q_value is not None and k_value is not None and v_value is not None
    if mask_value is not None and mask_value.dtype is not DType.bool:
        raise NoIntegerForm("its mask is added to the scores as real numbers; give it as truth values")
    q, k, v = low.codes8(q_value), low.codes8(k_value), low.codes8(v_value)
    heads, shared = q.shape[-3], k.shape[-3]
    if heads != shared:
        k, v = (_repeated(low, node, x, int(heads) // int(shared)) for x in (k, v))
    rank = len(k.shape)
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    acc = low.op(node.output, "matmul", q, low.op(k_value, "transpose", k, perm=swapped))
    mask = _mask(low, node, mask_value, q, k)
    scale = node.attrs["scale"]
    scale = 1 / math.sqrt(int(q.shape[-1])) if scale is None else scale
    operands = [acc] if mask is None else [acc, mask]
    p = _choose_softmax(low, node, scale, operands, lambda: _attention_examples(low, node, acc, scale, mask is not None))
    low.set_form(node.output, low.op(node.output, "matmul", p, v))


def _repeated(low: Lowering, node: Node, x: Value, times: int) -> Value:
    """Each head of keys or values for several heads of queries."""
    heads = np.repeat(np.arange(int(x.shape[-3])), times)
    return low.op(node.output, "gather", x, constant(heads, name="heads"), axis=len(x.shape) - 3)


def _mask(low: Lowering, node: Node, mask: Value | None, q: Value, k: Value) -> Value | None:
    """The mask, and where the attention is causal the lower triangle, from positions counted at run time."""
    own = None if mask is None else low.out[mask]
    if not node.attrs["causal"]:
        return own
    rows, columns = q.shape[-2], k.shape[-2]
    last = low.op(node.output, "reshape", low.op(node.output, "arange", stop=rows), shape=(rows, 1))
    causal = low.op(node.output, "greater_equal", last, low.op(node.output, "arange", stop=columns))
    return causal if own is None else low.op(node.output, "logical_and", own, causal)


def _attention_examples(
    low: Lowering, node: Node, acc: Value, scale: float, masked: bool
) -> Examples:
    """Scores as accumulators (and what the mask keeps), and the real probabilities, per kept sample."""
    assert acc.quant is not None
    step = float(acc.quant.scale)
    found: list[tuple[list[np.ndarray], np.ndarray]] = []
    arrays = [low.ranges.examples[v] for v in node.operands if v in low.ranges.examples]
    for q, k, *rest in zip(*arrays, strict=True):
        k = np.repeat(k, q.shape[-3] // k.shape[-3], -3)
        scores = q.astype(np.float64) @ k.swapaxes(-1, -2)
        keep = np.ones(scores.shape, bool)
        if len(rest) > 1:
            keep &= rest[1]
        if node.attrs["causal"]:
            keep &= np.tri(*scores.shape[-2:], dtype=bool)
        real = real_softmax(np.where(keep, scores * scale, -1e30), -1) * keep
        codes = np.clip(np.rint(scores / step), -(2**31), 2**31 - 1).astype(np.int32)
        found.append(([codes, keep] if masked else [codes], real))
    return found


RULES: dict[str, Rule] = {"softmax": softmax, "attention": attention}
