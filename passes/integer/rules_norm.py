"""Layer norm and RMS norm by an exact floor square root."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.ir import OPS, GraphBuilder, Node, QuantParams, Value, constant
from qcompiler.ir.ops import RunContext
from qcompiler.ir.ops.integer_norm import NORMAL_BITS
from qcompiler.passes.integer.lowering import Lowering, NoIntegerForm, Rule, peak
from qcompiler.passes.integer.measured_choice import Examples, Form

# Fractional bits of the mean that are tried; a wide operand needs none, one of 8 bits about eight.
FRACTIONS = (0, 2, 4, 8)
WEIGHT_BITS = 30


def norm(low: Lowering, node: Node) -> None:
    """One node of the integer form, with the number of fractional bits that measures best."""
    source, weight, bias = (*node.inputs, None)[:3]
    assert source is not None
    count = source.shape[-1]
    if node.attrs["axes"] != 1 or not isinstance(count, int):
        raise NoIntegerForm("it normalizes over more than the last axis, or over one of unknown size")
    if any(v is not None and v.data is None for v in (weight, bias)):
        raise NoIntegerForm("its weight or bias is computed, not constant")
    x, quant = low.codes(source), low.result_quant(node.output)
    gamma = np.ones(count) if weight is None or weight.data is None else weight.data.astype(np.float64)
    beta = None if bias is None or bias.data is None else bias.data.astype(np.float64)

    def form(fraction: int) -> Form:
        return lambda b, xs: integer_norm(b, node, xs[0], gamma, beta, quant, fraction, low.profile.mult_bits)

    largest = 2 * (peak(x) << 1)
    usable = [f for f in FRACTIONS if count * (largest << f) ** 2 < 1 << 61]
    forms = {f"fraction {f}": form(f) for f in usable}
    params = x.quant
    assert params is not None

    def examples() -> Examples:
        return [([params.quantize(a)], real_norm(node, a)) for a in low.ranges.examples[source]]

    best = low.choices.choose(node.where(), forms, [x], examples)
    low.set_form(node.output, forms[best](low.out, [x]))


def real_norm(node: Node, x: np.ndarray) -> np.ndarray:
    """The node on real numbers, float64."""
    operands = [x.astype(np.float64), *(None if v is None else v.data for v in node.inputs[1:])]
    return np.asarray(OPS[node.op].reference(RunContext(node, node.attrs, True), *operands))


def integer_norm(
    b: GraphBuilder,
    node: Node,
    x: Value,
    gamma: np.ndarray,
    beta: np.ndarray | None,
    quant: QuantParams,
    fraction: int,
    mult_bits: int,
) -> Value:
    """gamma, beta and sqrt(C) in the scale of the result, eps in squared steps of x summed over the axis."""
    assert x.quant is not None
    count = len(gamma)
    factors = gamma * math.sqrt(count) / float(quant.scale)
    bits = min(mult_bits, WEIGHT_BITS)
    shift = bits - math.frexp(max(float(np.abs(factors).max()), 1e-30))[1] + NORMAL_BITS
    if beta is not None:  # the bias, below 2^61 in the same steps
        top = max(float(np.abs(beta).max()) / float(quant.scale), 1e-30)
        shift = min(shift, 60 - math.frexp(top)[1])
    shift = max(1, min(shift, 60))
    weight = constant(np.rint(factors * 2.0 ** (shift - NORMAL_BITS)).astype(np.int32), name="weight")
    eps = max(1, round(count * node.attrs["eps"] * 4.0**fraction / float(x.quant.scale) ** 2))
    given = dict(quant=quant, eps=eps, fraction=fraction, shift=shift, name=node.output.name)
    if node.op == "rms_norm":
        return b.op("integer_rms_norm", x, weight, **given)
    offset = None if beta is None else constant(np.rint(beta / float(quant.scale) * 2.0**shift).astype(np.int64), name="bias")
    return b.op("integer_layer_norm", x, weight, offset, **given)


RULES: dict[str, Rule] = {"layer_norm": norm, "rms_norm": norm}
