"""What crossed products (`isa`) need beside the micro-kernel: products of neighbours within rows and within columns.

A step of the depth is two halves of neighbours, (a0 a1) and (a2 a3). The micro-kernel adds up (a0 + w2) (a2 + w0) +
(a1 + w3) (a3 + w1), of which a0 a2 + a1 a3 belongs to the row and w0 w2 + w1 w3 to the column.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from qcompiler.kernels.common.product import Product
from qcompiler.kernels.cpu.isa import Form

PARTS, OWN = "own_parts", "own"
"""Stages of the sums of rows: in as many parts as a vector has lanes, and as a whole."""


def halves_of_weights(packed: np.ndarray, form: Form) -> np.ndarray:
    """Packed weights [..., lanes, pair] as [..., half, lanes, pair / 2], the other half first."""
    half = form.pair // 2
    return np.stack([packed[..., half:], packed[..., :half]], axis=-3)


def products_of_columns(product: Product, form: Form) -> np.ndarray:
    """Sums of the products of neighbours of each column, [batch, N]."""
    w = product.w.astype(np.int64) - product.w_zero  # type: ignore[union-attr]
    grown = np.pad(w, ((0, 0), (0, 0), (0, 0), (0, -w.shape[3] % form.pair)))
    steps = grown.reshape(*w.shape[:2], -1, 2, form.pair // 2)
    return np.asarray((steps[..., 0, :] * steps[..., 1, :]).sum((2, 3)))


def products_of_rows(packed_a: te.Tensor, form: Form) -> te.Tensor:
    """Sums of the products of neighbours of each row, [batch, row tiles, rows], of the packed left operand.

    The depth is a multiple of lanes * pair.
    """
    half, lanes, depth = form.pair // 2, form.lanes, int(packed_a.shape[3])
    step, place = te.reduce_axis((0, depth // (form.pair * lanes)), "step"), te.reduce_axis((0, half), "place")
    lane = te.reduce_axis((0, lanes), "lane")

    def part(b: Any, mo: Any, mi: Any, q: Any) -> Any:
        at = (step * lanes + q) * form.pair + place
        left, right = (packed_a[b, mo, mi, at + side * half].astype("int32") for side in range(2))
        return te.sum(left * right, axis=[step, place])

    parts = te.compute((*packed_a.shape[:3], lanes), part, name=PARTS)
    return te.compute(packed_a.shape[:3], lambda b, mo, mi: te.sum(parts[b, mo, mi, lane], axis=lane), name=OWN)


def place_rows(s: Any, row_tile: Any) -> None:
    """Compute the sums of rows inside `row_tile` (None: in front of everything)."""
    own = s.get_sblock(OWN)
    if row_tile is not None:
        s.compute_at(own, row_tile, preserve_unit_loops=True)
    s.compute_at(s.get_sblock(PARTS), s.get_loops(own)[-2], preserve_unit_loops=True)


def vectorize_rows(s: Any, form: Form) -> None:
    """Use the instruction for the sums of rows; the stages that they read have their places by then."""
    parts = s.get_sblock(PARTS)
    lane, step, place = s.get_loops(parts)[-3:]
    s.reorder(step, lane, place)
    s.vectorize(s.get_loops(s.decompose_reduction(parts, step))[-1])
    s.tensorize(lane, _neighbours(form))


@functools.cache
def _neighbours(form: Form) -> str:
    """acc[lanes] += sum over half of a[lane, half] a[lane, half + pair / 2], for codes that lie in a row."""
    lanes, pair, kind = form.lanes, form.pair, form.activation
    half, name = form.pair // 2, f"qcompiler_neighbours_{form.lanes}"

    @T.prim_func(s_tir=True)
    def description(
        A: T.Buffer((lanes * pair,), kind, offset_factor=1),
        C: T.Buffer((lanes,), "int32", offset_factor=1),
    ):
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0 : lanes * pair])
            T.writes(C[0:lanes])
            for i, k in T.grid(lanes, half):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.cast(A[vi * pair + vk], "int32") * T.cast(A[vi * pair + vk + half], "int32")

    def side(a: Any, index: int) -> Any:
        words = T.reinterpret(a.vload([0], f"{kind}x{lanes * pair}"), dtype=f"int32x{2 * lanes}")
        return T.reinterpret(tirx.Shuffle([words], [2 * i + index for i in range(lanes)]), dtype=f"{kind}x{lanes * half}")

    def multiply(a: Any, c: Any) -> Any:
        found = T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(form.intrinsic), side(a, 0), side(a, 1), dtype=f"int32x{lanes}")
        return c.vload([0], f"int32x{lanes}") + found

    @T.prim_func(s_tir=True)
    def implementation(
        A: T.Buffer((lanes * pair,), kind, offset_factor=1),
        C: T.Buffer((lanes,), "int32", offset_factor=1),
    ):
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0 : lanes * pair])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = multiply(A, C)

    TensorIntrin.register(name, description, implementation, override=True)
    return name
