"""Which form of an instruction set computes a product exactly, and fastest."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.kernels.common.product import Product
from qcompiler.kernels.cpu.isa import Form, Isa

STEPS = {"vpmaddubsw": (1.0, 0.17, 0.17), "vpmaddubsw-x2": (1.6, 0.34, 0.34), "vpmaddubsw-x4": (2.9, 0.68, 0.68)}
"""Cycles of multiplying and adding a vector, of loading one of weights, and of spreading activations, in forms of which these
differ from those of others."""


def choose_form(product: Product, isa: Isa) -> Form:
    """The form that is exact for the operands, narrow if possible.

    Raises:
        UnsupportedError: operands wider than 16 bits.
    """
    if product.real:
        return isa.real
    a_low, a_high = _range(product.a_type, product.a_zero if centred(product) else 0)
    if product.constant_weight:
        w = product.w.astype(np.int64) - product.w_zero
        w_low, w_high = int(w.min(initial=0)), int(w.max(initial=0))
        bytes_do = isa.narrow.weight == "int8" and -128 <= w_low and w_high <= 127
    else:
        w_low, w_high = _range(product.w_type, product.w_zero)
        # codes as they are; where four of them meet an instruction, sums of rows make up for their zero point
        signed = product.w_type == "int8" and product.w_zero == 0
        bytes_do = isa.narrow.weight == "int8" and (signed or isa.narrow.pair == 4 and product.w_type in ("int8", "uint8"))
    if product.a_type in ("int8", "uint8") and bytes_do:
        exact = [f for f in isa.short if product.constant_weight and sums_stay_in_16_bits(product, f.chunks)]
        return min(exact, key=lambda form: tiles(product.w.shape[3], form.pair) * STEPS[form.name][0], default=isa.narrow)
    if min(a_low, w_low) < -32768 or max(a_high, w_high) > 32767 or (isa.wide.pair > 1 and a_low == w_low == -32768):
        raise UnsupportedError(f"products of {product.a_type} and {product.w_type} centred do not fit 16 bits")
    return isa.wide


def sums_stay_in_16_bits(product: Product, chunks: int) -> bool:
    """True if codes of 0 to 255 times weights of a column add up within 16 bits, with sign, as `vpmaddubsw` adds them.

    The channels of a tap are runs of 4 `chunks`; what adds up are the two even pairs of every four, or the two odd ones.
    Sums are extreme where all codes of one sign of weights are 255 and the others 0.
    """
    w = product.w.astype(np.int64) - product.w_zero
    runs = np.pad(w, ((0, 0), (0, 0), (0, 0), (0, -w.shape[3] % (4 * chunks))))
    runs = runs.reshape(*w.shape[:3], -1, chunks, 2, 2)
    largest, least = (part.sum((-3, -1)) for part in (np.maximum(runs, 0), np.minimum(runs, 0)))
    return bool(255 * largest.max(initial=0) <= 32767 and 255 * least.min(initial=0) >= -32768)


def _range(kind: str, zero: int) -> tuple[int, int]:
    info = np.iinfo(kind)
    return int(info.min) - zero, int(info.max) - zero


def centred(product: Product) -> bool:
    """Whether 16 bits hold elements of `a` less their zero point; else constant weights take it off in the bias."""
    low, high = _range(product.a_type, product.a_zero)
    return not product.constant_weight or (low >= -32768 and high <= 32767)


def padded(count: Any, step: int) -> Any:
    """The next multiple of step."""
    return tiles(count, step) * step


def tiles(count: Any, step: int) -> Any:
    """How many steps cover a count."""
    return count if step == 1 else (count + (step - 1)) // step
