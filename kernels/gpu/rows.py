"""Functions of whole rows, one warp each (`cuda/qc_rows.cuh`): softmaxes and normalizations."""

from __future__ import annotations

import numpy as np

from qcompiler.kernels.gpu.launch import (
    RANK,
    Field,
    Kernel,
    Launch,
    View,
    ceil_div,
    constant,
    ints,
    longs,
    reading,
)
from qcompiler.kernels.gpu.pointwise import padded, strided

WARPS = 4


def _launch(
    name: str, body: str, x: tuple[View, int], mask: View | None, out: View, codes: tuple[int, int, int], *,
    table: View | None = None, weight: View | None = None, bias: View | None = None, unit: int = 1, bits: int = 1,
    fraction: int = 0, shift: int = 1, eps: int = 1,
) -> Launch:  # fmt: skip
    view, zero_point = x
    assert len(view.shape) <= RANK
    length, rows = view.shape[-1], view.count // max(view.shape[-1], 1)
    fields: list[Field] = [
        *strided(view, zero_point),
        *strided(None if mask is None else mask.expand(view.shape)),
        *strided(out, write=True),
        ("p", reading(table)), ("p", reading(weight)), ("p", reading(bias)),
        *ints(*padded((*view.shape[:-1], 1))),
        *ints(rows, length, 0 if table is None else table.shape[0], unit, bits, fraction, shift),
        *longs(eps), *ints(*codes),
    ]  # fmt: skip
    return Launch(Kernel(name, "qc_rows.cuh", "qc::RowParams", f"{body}(p)", 32 * WARPS), (ceil_div(rows, WARPS), 1, 1), tuple(fields), view.count)


def softmax_lookup(x: View, table: np.ndarray, mask: View | None, out: View, codes: tuple[int, int, int]) -> Launch:
    """Exponentials from a table; `codes` are zero point, smallest and largest code of the result."""
    exps = constant("softmax.table", table.astype(np.int16))
    return _launch("softmax_table", "qc::softmax<qc::TABLE>", (x, 0), mask, out, codes, table=exps)


def log2_softmax(x: View, table: np.ndarray, mask: View | None, out: View) -> Launch:
    """Probabilities that are powers of two."""
    exps = constant("softmax.table", table.astype(np.int16))
    return _launch("softmax_log2", "qc::softmax<qc::LOG2>", (x, 0), mask, out, (0, -(1 << 15), (1 << 15) - 1), table=exps)


def shiftmax(x: View, mask: View | None, out: View, codes: tuple[int, int, int], unit: int, bits: int, division: str) -> Launch:
    """Exponentials by shifts."""
    form = {"round": "SHIFT_ROUND", "reciprocal": "SHIFT_RECIPROCAL"}[division]
    return _launch(f"softmax_{form.lower()}", f"qc::softmax<qc::{form}>", (x, 0), mask, out, codes, unit=unit, bits=bits)


def normalize(
    x: tuple[View, int], weight: np.ndarray, bias: np.ndarray | None, out: View, codes: tuple[int, int, int], *, mean: bool, eps: int, fraction: int, shift: int,
) -> Launch:  # fmt: skip
    """Layer normalization, or with `mean` false RMS normalization."""
    name = "layer_norm" if mean else "rms_norm"
    return _launch(
        name, f"qc::normalize<{str(mean).lower()}>", x, None, out, codes, weight=constant(f"{name}.weight", weight.astype(np.int32)),
        bias=None if bias is None else constant(f"{name}.bias", bias.astype(np.int64)), eps=eps, fraction=fraction, shift=shift,
    )  # fmt: skip
