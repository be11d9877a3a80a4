"""A real operand as three signed bytes per element, so that codes meet it in instructions that multiply bytes.

    x(m, k) = step(m, g) q(m, k) + error,     q = 2^16 high + 2^8 middle + low,     step = greatest |x| of the group / LIMIT

The error is at most step / 2, 2^-24 of the greatest of the group: what rounding a sum in float32 costs. Sums of bytes are
exact, and three `vpdpbusd` take as many multiplications as twelve multiply-adds of numbers that are converted first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tvm import te, tirx

from qcompiler.kernels.common.grouped import GroupedProduct
from qcompiler.kernels.cpu.isa import Isa

TERMS = 3
LIMIT = 127 * 65536
"""Greatest |q|; all three bytes reach as far, with room for the rounding of x / step."""
MIDDLE = 0x808080
"""Added, it makes bytes that are not negative of signed ones; its bits turned, they are signed again."""
MAGNITUDE = 0x7FFFFFFF
LEAST = 0x0DA24260
"""Bits of 1e-30: groups below it are as fine as one that reaches it."""


def bytes_pay(product: GroupedProduct, isa: Isa) -> bool:
    """True for real operands in whole vectors where the machine multiplies unsigned and signed bytes."""
    whole = product.channels % product.group == 0 and product.group % isa.real.lanes == 0
    return product.real and isa.narrow.name == "vpdpbusd" and whole


def in_bytes(product: GroupedProduct, lanes: int) -> GroupedProduct:
    """The product of three terms of bytes with the same result.

    Numbers that are not finite give a step that is none either. Comparing magnitudes as integers keeps them.

    Args:
        product: real.
        lanes: float32 elements of a vector.
    """
    rows, k, size, groups = product.rows, product.channels, product.group, product.groups
    j, lane = te.reduce_axis((0, size // lanes), "j"), te.reduce_axis((0, lanes), "lane")

    def magnitude(m: Any, c: Any) -> Any:
        return tirx.bitwise_and(tirx.reinterpret("int32", product.a(m, 0, c)), tirx.const(MAGNITUDE, "int32"))

    peaks = te.compute(
        (rows, groups, lanes), lambda m, g, i: te.max(magnitude(m, g * size + j * lanes + i), axis=j), name="real_peaks"
    )
    peak = te.compute((rows, groups), lambda m, g: te.max(peaks[m, g, lane], axis=lane), name="real_peak")

    def greatest(m: Any, g: Any) -> Any:
        return tirx.reinterpret("float32", tirx.max(peak[m, g], tirx.const(LEAST, "int32")))

    limit, middle = tirx.const(float(LIMIT), "float32"), tirx.const(MIDDLE, "int32")
    step = te.compute((rows, groups), lambda m, g: greatest(m, g) / limit, name="real_step")
    inverse = te.compute((rows, groups), lambda m, g: limit / greatest(m, g), name="real_inverse")

    def code(m: Any, c: Any) -> Any:
        q = tirx.nearbyint(product.a(m, 0, c) * inverse[m, c // size]).astype("int32")
        return tirx.bitwise_xor(q + middle, middle)

    codes = te.compute((rows, k), code, name="real_codes")
    return replace(
        product,
        a=lambda m, term, c: tirx.shift_right(codes[m, c], 8 * (TERMS - 1 - term)).astype("int8"),
        terms=TERMS,
        a_range=(-128, 127),
        a_scale=lambda m, term, g: step[m, g] * tirx.const(float(256 ** (TERMS - 1 - term)), "float32"),
    )
