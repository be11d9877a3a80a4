"""One result per thread (`cuda/qc_pointwise.cuh`): rescales, sums of codes, tables, data movement, any strides."""

from __future__ import annotations

from collections.abc import Sequence

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
    memory_order,
    reading,
    writing,
)
from qcompiler.kernels.gpu.rescale import PROFILES, Rescale, no_rescale

KINDS = {"int8": 0, "int16": 1, "int32": 2, "int64": 3, "uint8": 4, "bool": 5, "float32": 6, "float16": 7}
MOVED = {**KINDS, "float32": KINDS["int32"], "float16": KINDS["int16"]}
"""Kinds for kernels that only move elements: real numbers are their bits."""
OPERANDS = 4
THREADS = 256
FORMS = {"sigmoid": 0, "tanh": 1, "gated": 2}


def strided(
    view: View | None, zero_point: int = 0, axes: Sequence[int] | None = None, write: bool = False, real: bool = False
) -> list[Field]:
    """`qc::Strided`; `axes` gives an order of the axes, which are padded to six in front; `real`: the kernel knows real numbers."""
    if view is None:
        return [("p", None), *longs(*[0] * RANK), *ints(0, 0)]
    order = range(len(view.shape)) if axes is None else axes
    strides = [view.strides[a] if view.shape[a] != 1 else 0 for a in order]
    pointer = writing(view) if write else reading(view)
    return [("p", pointer), *longs(*[0] * (RANK - len(strides)), *strides), *ints((KINDS if real else MOVED)[view.dtype.name], zero_point)]


def padded(sizes: Sequence[int], fill: int = 1) -> list[int]:
    """Six sizes, the missing ones in front."""
    return [fill] * (RANK - len(sizes)) + [int(s) for s in sizes]


def _launch(
    op: str, out: View, operands: Sequence[tuple[View, int]], rescale: Rescale, *, table: View | None = None,
    multipliers: Sequence[int] = (), inner: Sequence[int] = (), first: Sequence[int] = (), shift: int = 0, unit: int = 0,
    bits: int = 0, gate_bits: int = 0, form: int = 0, fill: int = 0, profile: str | None = None,
) -> Launch:  # fmt: skip
    assert len(out.shape) <= RANK and len(operands) <= OPERANDS
    # threads follow the result through memory
    axes = memory_order(out)
    fields: list[Field] = []
    for view, zero_point in operands:
        same = view.shape == out.shape or op in ("PAD", "RESIZE")
        fields += strided(view if same else view.expand(out.shape), zero_point, axes)
    for _ in range(OPERANDS - len(operands)):
        fields += strided(None)
    fields += strided(out, 0, axes, write=True)
    reorder = lambda sizes: [sizes[a] for a in axes] if sizes else []  # noqa: E731
    fields += [("p", reading(table)), *rescale.fields(), *longs(*multipliers, *[0] * (OPERANDS - len(multipliers)))]
    fields += ints(*padded(reorder(out.shape)), *padded(reorder(inner)), *padded(reorder(first), 0))
    fields += ints(out.count, len(operands), shift, unit, bits, gate_bits, form, fill)
    profile = profile or rescale.profile
    name = f"pointwise_{op.lower()}_{profile}"
    kernel = Kernel(name, "qc_pointwise.cuh", "qc::PointParams", f"qc::pointwise<qc::{op}, {PROFILES[profile]}>(p)", THREADS)
    return Launch(kernel, (ceil_div(out.count, THREADS), 1, 1), tuple(fields), out.count)


NONE = no_rescale(0, 0, 0)


def requantize(x: View, zero_point: int, out: View, rescale: Rescale, axis: int | None = None) -> Launch:
    """Codes in other steps; `axis`: of factors by channel."""
    place = 0 if axis is None else RANK - len(out.shape) + memory_order(out).index(axis)
    return _launch("REQUANTIZE", out, [(x, zero_point)], rescale, unit=place)


def requantize_sum(
    xs: Sequence[tuple[View, int]], multipliers: Sequence[int], shift: int, out: View, rescale: Rescale, base: int = 0
) -> Launch:
    """Sum of m_i (x_i - z_i), one shift; up to four operands with their zero points.

    Profile float32_half_even has no shift, multipliers that are bits of float32, and in `base` those of what zero points add.
    """
    return _launch("SUM", out, xs, rescale, multipliers=multipliers, shift=shift, fill=base)


def lookup(x: View, table: np.ndarray, out: View, name: str = "lookup") -> Launch:
    """A table with an entry per 8-bit code."""
    return _launch("LOOKUP", out, [(x, 0)], NONE, table=constant(f"{name}.table", table))


def lookup_interpolated(x: View, table: np.ndarray, shift: int, out: View, rescale: Rescale, name: str = "lookup") -> Launch:
    """257 knots of int16."""
    return _launch("INTERPOLATE", out, [(x, 0)], rescale, table=constant(f"{name}.knots", table.astype(np.int16)), shift=shift)


def multiply(a: tuple[View, int], b: tuple[View, int], out: View, rescale: Rescale) -> Launch:
    """Product of centred codes, rescaled."""
    return _launch("MULTIPLY", out, [a, b], rescale)


def shift_sigmoid(x: tuple[View, int], unit: int, bits: int, gate_bits: int, form: str, out: View, rescale: Rescale) -> Launch:
    """Sigmoid, tanh or a gated product by shifts, rescaled."""
    return _launch("SHIFT_SIGMOID", out, [x], rescale, unit=unit, bits=bits, gate_bits=gate_bits, form=FORMS[form])


def copy(x: View, out: View) -> Launch:
    """The same elements in another order of memory."""
    return _launch("COPY", out, [(x, 0)], NONE)


BORDERS = {"constant": 0, "edge": 1, "reflect": 2}


def pad(x: View, begins: Sequence[int], fill: int, out: View, mode: str = "constant") -> Launch:
    """x placed in a result that is `fill` elsewhere, or goes on by one of `BORDERS`; negative begins crop."""
    return _launch("PAD", out, [(x, 0)], NONE, inner=x.shape, first=begins, fill=fill, form=BORDERS[mode])


def triangle(x: View, upper: bool, diagonal: int, out: View) -> Launch:
    """x with zeros below or above a diagonal of its last two axes; `out` lies in row-major order."""
    return _launch("TRIANGLE", out, [(x, 0)], NONE, form=int(upper), shift=diagonal)


def resize(x: View, out: View) -> Launch:
    """Nearest neighbour: element floor(i in / out) along every axis."""
    return _launch("RESIZE", out, [(x, 0)], NONE, inner=x.shape)


def gather(data: View, indices: View, axis: int, out: View) -> Launch:
    """data indexed along one axis; indices count from the end where they are negative, and are not checked."""
    lead, tail = len(data.shape[:axis]), len(data.shape[axis + 1 :])
    rank = len(indices.shape)
    # the axis becomes the axes of the indices, along which data does not move
    base = View(
        data.buffer, data.dtype, data.shape[:axis] + indices.shape + data.shape[axis + 1 :],
        data.strides[:axis] + (0,) * rank + data.strides[axis + 1 :], data.offset,
    )  # fmt: skip
    at = View(
        indices.buffer, indices.dtype, base.shape, (0,) * lead + indices.strides + (0,) * tail, indices.offset
    )
    return _gathered(data, base, at, axis, out)


def gather_elements(data: View, indices: View, axis: int, out: View) -> Launch:
    """Along one axis the element that `indices`, of the result's shape, name; not checked."""
    strides = tuple(0 if a == axis else s for a, s in enumerate(data.strides))
    return _gathered(data, View(data.buffer, data.dtype, out.shape, strides, data.offset), indices, axis, out)


def _gathered(data: View, base: View, at: View, axis: int, out: View) -> Launch:
    launch = _launch("GATHER", out, [(base, 0), (at, 0)], NONE, unit=data.strides[axis], bits=data.shape[axis])
    whole = reading(data)
    fields = [("p", whole) if code == "p" and value == reading(base) else (code, value) for code, value in launch.fields]
    return Launch(launch.kernel, launch.grid, tuple(fields), launch.work)


def byte_planes(x: View, out: View) -> Launch:
    """Codes of 16 bits as two planes of int8 [2, *x.shape]: high bytes, and low ones 128 lower."""
    base = View(x.buffer, x.dtype, out.shape, (0, *x.strides), x.offset)
    return _launch("BYTES", out, [(base, 0)], NONE, form=len(x.shape))


def where(condition: View, a: View, b: View, out: View) -> Launch:
    """a where the condition holds, else b; one quantization."""
    return _launch("WHERE", out, [(condition, 0), (a, 0), (b, 0)], NONE)


PLAIN = {
    name: code
    for code, name in enumerate(
        (
            "not_zero", "logical_not", "logical_and", "logical_or", "logical_xor", "equal", "not_equal", "less", "less_equal",
            "greater", "greater_equal", "add", "sub", "mul", "maximum", "minimum", "neg", "abs", "sign", "clip", "div", "floor_div",
            "mod", "fmod",
        )
    )
}  # fmt: skip


def plain(op: str, xs: Sequence[View], out: View, limits: Sequence[int] = ()) -> Launch:
    """Arithmetic, comparison or logic of plain integers and truth values: one of `PLAIN`; `limits` of a clip."""
    return _launch("PLAIN", out, [(x, 0) for x in xs], NONE, form=PLAIN[op], multipliers=limits)
