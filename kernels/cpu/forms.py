"""Which form of an instruction set computes a product exactly, and fastest."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.kernels.common.product import Product
from qcompiler.kernels.cpu.isa import Form, Isa


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
        symmetric = True
    else:
        w_low, w_high = _range(product.w_type, product.w_zero)
        symmetric = product.w_zero == 0
    if product.a_type in ("int8", "uint8") and symmetric and -128 <= w_low and w_high <= 127 and isa.narrow.weight == "int8":
        if isa.paired is not None and product.constant_weight and pairs_stay_in_16_bits(product):
            return isa.paired
        return isa.narrow
    if min(a_low, w_low) < -32768 or max(a_high, w_high) > 32767 or (isa.wide.pair > 1 and a_low == w_low == -32768):
        raise UnsupportedError(f"products of {product.a_type} and {product.w_type} centred do not fit 16 bits")
    return isa.wide


def pairs_stay_in_16_bits(product: Product) -> bool:
    """True if codes of 0 to 255 times any two neighbouring weights of a column add up within 16 bits, with sign.

    Sums are extreme where all codes of one sign of weights are 255 and the others 0.
    """
    w = product.w.astype(np.int64) - product.w_zero
    pairs = np.pad(w, ((0, 0), (0, 0), (0, 0), (0, -w.shape[3] % 2)))
    pairs = pairs.reshape(*w.shape[:3], -1, 2)
    largest, least = np.maximum(pairs, 0).sum(-1).max(initial=0), np.minimum(pairs, 0).sum(-1).min(initial=0)
    return bool(255 * largest <= 32767 and 255 * least >= -32768)


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
