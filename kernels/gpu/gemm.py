"""int8 matrix products and convolutions on tensor cores (`cuda/qc_gemm.cuh`), and dp4a for few rows (`qc_dp4a.cuh`).

    c [M, N] = requantize(a [M, K] b [N, K]^T + bias)

Tile space: `TILES`; `choose_tile` takes one by a rule. Weights are padded to whole tiles offline, zero points of
activations are folded into the bias; products of two activations, and weights with zero points, subtract sums of rows and
columns instead. Codes of 16 bits come as two planes of bytes (`pointwise.byte_planes`) with zero points 128 lower, and take
a pass for each pair of planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.kernels.gpu.launch import (
    Field,
    Kernel,
    Launch,
    Pointer,
    View,
    ceil_div,
    constant,
    ints,
    longs,
    reading,
    writing,
)
from qcompiler.kernels.gpu.rescale import OUTPUTS, PROFILES, Rescale

TILE_K = 64


def weight_rows(n: int) -> int:
    """Output channels that weights of n are padded to: a power of two, or a multiple of the widest tile."""
    return next((rows for rows in (32, 64) if n <= rows), ceil_div(n, 128) * 128)


@dataclass(frozen=True)
class Tile:
    """Block tile, warp tile, and tiles under way."""

    bm: int
    bn: int
    wm: int
    wn: int
    stages: int

    @property
    def threads(self) -> int:
        """Of a block."""
        return (self.bm // self.wm) * (self.bn // self.wn) * 32

    @property
    def name(self) -> str:
        """For kernels and tables."""
        return f"{self.bm}x{self.bn}x{self.wm}x{self.wn}_s{self.stages}"


TILES = (
    Tile(128, 128, 64, 64, 3),
    Tile(128, 128, 64, 32, 3),
    Tile(128, 64, 32, 32, 4),
    Tile(64, 128, 32, 32, 4),
    Tile(64, 64, 32, 32, 4),
    Tile(32, 64, 16, 32, 4),
    Tile(64, 32, 32, 16, 4),
    Tile(32, 32, 16, 16, 4),
    Tile(16, 64, 16, 16, 4),
)

SMALL_WARPS = TILES[1:]
"""For operands that need registers beside the accumulators: windows, and two activations with their sums."""

MULTIPROCESSORS = {80: 108, 86: 84, 89: 128, 90: 132}
"""Of the largest part of each architecture; only the choice of tiles depends on them."""

PRODUCTS = {80: 2048, 86: 1024, 89: 1024, 90: 2560}
"""int8 products per cycle and multiprocessor, from the makers' peaks; of sm_90 what `mma` reaches, which is not all."""


SHARED = 48 * 1024
"""Bytes of static shared memory that a block may have; results are gathered there."""


def choose_tile(m: int, n: int, batch: int, arch: int = 80, result: int = 1, tiles: Sequence[Tile] = TILES) -> Tile:
    """The tile with the least cycles by a rule without measurements.

    For each element of K a block needs bm bn / `PRODUCTS` cycles of the tensor cores, a 128th of the bytes that its warps
    read from shared memory and that are written there, and a 64th of the bytes from the second-level cache; the
    slowest of them counts, and one more for what is not hidden. A multiprocessor works on its blocks one after the
    other: two that share it take turns. `result`: bytes of an element of the result.
    """
    rows = weight_rows(n)

    def cycles(tile: Tile) -> tuple[float, int]:
        blocks = ceil_div(m, tile.bm) * ceil_div(n, tile.bn) * batch
        edges = tile.bm + tile.bn
        shared = (tile.threads // 32 * (tile.wm + tile.wn) + edges) / 128
        block = max(tile.bm * tile.bn / PRODUCTS[arch], shared, edges / 64) + 1
        return ceil_div(blocks, MULTIPROCESSORS[arch]) * block, -tile.bm * tile.bn

    return min((t for t in tiles if rows % t.bn == 0 and t.bm * (t.bn * result + 16) <= SHARED), key=cycles)


@dataclass(frozen=True)
class Weights:
    """Weights of a product in kernel form.

    Attributes:
        codes: int8 [groups, N padded by `weight_rows`, K padded to 64].
        bias: int32 [groups N], zero points folded in; None if it would be 0.
        zeros: int32 [groups N], zero points of the weights; None if all are 0.
        n, k: per group, without padding.
        groups: of a convolution.
    """

    codes: View
    bias: View | None
    zeros: View | None
    n: int
    k: int
    groups: int = 1


def padded_inputs(k: int) -> int:
    """Inputs that weights of k are padded to."""
    return max(1, ceil_div(k, TILE_K)) * TILE_K


def pack_weights(
    name: str, codes: np.ndarray, bias: np.ndarray | None, zero_point: int, groups: int = 1, zeros: np.ndarray | None = None,
    windows: bool = False,
) -> Weights:  # fmt: skip
    """Kernel form of weights [groups N, K] with the zero point of the activation folded into the bias.

    `zeros`: zero points of the weights [groups N]. `windows`: the operand is a convolution's, which has its zero point where
    weights are padded; that of others is 0 there.
    """
    rows, k = codes.shape
    n = rows // groups
    padded = np.zeros((groups, weight_rows(n), padded_inputs(k)), np.int8)
    padded[:, :n, :k] = codes.reshape(groups, n, k)
    total = -int(zero_point) * codes.astype(np.int64).sum(1) + (0 if bias is None else bias.astype(np.int64))
    shifted = zeros is not None and zeros.any()
    if shifted:
        total += int(zero_point) * (padded_inputs(k) if windows else k) * zeros.astype(np.int64)  # type: ignore[union-attr]
    wrapped = (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)  # accumulators are added modulo 2^32
    folded = constant(f"{name}.bias", wrapped) if wrapped.any() else None
    held = constant(f"{name}.zeros", zeros.astype(np.int32)) if shifted else None  # type: ignore[union-attr]
    return Weights(constant(f"{name}.weight", padded), folded, held, n, k, groups)


@dataclass(frozen=True)
class Geometry:
    """A convolution over two axes, or three; a 1-D one has height 1.

    Attributes:
        kernel, stride, pad, dilation: (y, x) or (z, y, x); `pad` before the first element.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class After:
    """What a product computes from its codes before they are written: a table, or the sum with a residual.

    Attributes:
        kind: of `qc::Next`.
        table: [256] of the result's type; of a table.
        other: lies as the result; of a sum.
        numbers: multipliers, zero points, shift and limits of a sum.
    """

    kind: str = "NOTHING"
    table: View | None = None
    other: View | None = None
    multipliers: tuple[int, int] = (0, 0)
    zero_points: tuple[int, int] = (0, 0)
    shift: int = 0
    limits: tuple[int, int, int] = (0, 0, 0)

    def fields(self) -> list[Field]:
        """Of the struct."""
        wide = self.other is not None and self.other.dtype.itemsize == 2
        return [
            ("p", reading(self.table)), ("p", reading(self.other)), *longs(*self.multipliers),
            *ints(wide, *self.zero_points, self.shift, *self.limits), ("a", 8),
        ]  # fmt: skip


NOTHING = After()


def vector_width(view: View, size: int, strides: Sequence[int], offset: int | None = None) -> int:
    """Elements of int8 that may be read at once, 16, 4 or 1: all rows begin aligned and have a multiple of them."""
    for width in (16, 4):
        if all(v % width == 0 for v in (size, view.offset if offset is None else offset, *strides)):
            return width
    return 1


@dataclass(frozen=True)
class _Operand:
    """Codes of 8 bits, or of 16 as planes of bytes.

    Attributes:
        view: of the codes or the high bytes.
        low: elements from these to the low bytes; 0 for codes of 8 bits.
        pointer: to all of them.
    """

    view: View
    low: int
    pointer: Pointer | None

    def matrix(self, row: int, batch: Sequence[int]) -> list[Field]:
        """`qc::Matrix`."""
        return [("p", self.pointer), *longs(row, *batch)]

    @property
    def planes(self) -> int:
        """Of bytes."""
        return 2 if self.low else 1

    def width(self, size: int, strides: Sequence[int]) -> int:
        """Elements that may be read at once."""
        return vector_width(self.view, size, (*strides, self.low))


def _operand(view: View, rank: int) -> _Operand:
    """A tensor of a rank, or its planes along one more axis in front."""
    if len(view.shape) == rank:
        return _Operand(view, 0, reading(view))
    plane = View(view.buffer, view.dtype, view.shape[1:], view.strides[1:], view.offset)
    return _Operand(plane, view.strides[0], reading(view))


_NO_WINDOW: list[Field] = [("p", None), *longs(0, 0, 0, 0), *ints(*[0] * 14), ("a", 8)]


def _launch(
    tile: Tile, operand: str, vec: int, right: str, planes: tuple[int, int], fields: list[Field], c: View, rescale: Rescale, after: After,
    grid: tuple[int, int, int], work: int,
) -> Launch:  # fmt: skip
    out = OUTPUTS[c.dtype.name]
    fused = "" if after.kind == "NOTHING" else f"_{after.kind.lower()}"
    left_wide, right_wide = ("wide_" if count == 2 else "" for count in planes)
    kind = f"{left_wide}{operand.lower()}{vec}_{right_wide}{right.lower()}"
    name = f"gemm_{tile.name}_{kind}_{rescale.profile}{fused}_{c.dtype.name}"
    body = (
        f"qc::Gemm<{tile.bm}, {tile.bn}, {tile.wm}, {tile.wn}, {tile.stages}, qc::{operand}, {vec}, qc::{right}, {planes[0]}, {planes[1]}, "
        f"{PROFILES[rescale.profile]}, qc::{after.kind}, {out}>::run(p)"
    )
    return Launch(Kernel(name, "qc_gemm.cuh", "qc::GemmParams", body, tile.threads), grid, tuple(fields), work)


def _vector_stores(c: View, row: int, batch: Sequence[int]) -> bool:
    size = c.dtype.itemsize
    return all(v % 16 == 0 for v in (c.offset, row * size, *(b * size for b in batch)))


def linear(
    a: View, weights: Weights, c: View, rescale: Rescale, tile: Tile | None = None, arch: int = 80, after: After = NOTHING
) -> Launch:
    """a [M, K] or planes [2, M, K] with contiguous rows, c [M, N] with contiguous rows."""
    x = _operand(a, 2)
    m, n, k = x.view.shape[0], weights.n, weights.k
    if tile is None and m <= MOST_ROWS and after is NOTHING and not x.low and weights.zeros is None:
        return few_rows(a, weights, c, rescale)
    tile = tile or choose_tile(m, n, 1, arch, c.dtype.itemsize)
    b = weights.codes
    assert b.shape[1] % tile.bn == 0, "weights are read in whole tiles"
    row = x.view.strides[0]
    fields: list[Field] = [
        *x.matrix(row, (0, 0)), *_operand(b, 3).matrix(b.strides[1], (0, 0)), *longs(x.low, 0),
        ("p", writing(c)), *longs(c.strides[0], 0, 0),
        ("p", reading(weights.bias)), ("p", reading(weights.zeros)), *rescale.fields(), *after.fields(), *_NO_WINDOW,
        *ints(m, n, k, 1, 0, 0, 0, _vector_stores(c, c.strides[0], ())),
    ]  # fmt: skip
    grid = (ceil_div(m, tile.bm), ceil_div(n, tile.bn), 1)
    right = "WEIGHTS" if weights.zeros is None else "SHIFTED"
    work = m * n * k * x.planes
    return _launch(tile, "MATRIX", x.width(k, (row,)), right, (x.planes, 1), fields, c, rescale, after, grid, work)


def matmul(
    a: View, b: View, c: View, zero_points: tuple[int, int], rescale: Rescale, tile: Tile | None = None, arch: int = 80
) -> Launch:
    """Products of two activations: a [Z0, Z1, M, K], b [Z0, Z1, N, K], c [Z0, Z1, M, N]; innermost axes are contiguous.

    Either operand may be planes [2, Z0, Z1, ...].
    """
    left, right = _operand(a, 4), _operand(b, 4)
    (z0, z1, m, k), n = left.view.shape, right.view.shape[2]
    tile = tile or choose_tile(m, n, z0 * z1, arch, c.dtype.itemsize, SMALL_WARPS)
    vec = min(x.width(k, [s for s, d in zip(x.view.strides[:3], x.view.shape) if d > 1]) for x in (left, right))
    fields: list[Field] = [
        *(f for x in (left, right) for f in x.matrix(x.view.strides[2], x.view.strides[:2])), *longs(left.low, right.low),
        ("p", writing(c)), *longs(c.strides[2], *c.strides[:2]),
        ("p", None), ("p", None), *rescale.fields(), *NOTHING.fields(), *_NO_WINDOW,
        *ints(m, n, k, z1, 0, *zero_points, _vector_stores(c, c.strides[2], c.strides[:2])),
    ]  # fmt: skip
    grid = (ceil_div(m, tile.bm), ceil_div(n, tile.bn), z0 * z1)
    planes = (left.planes, right.planes)
    work = z0 * z1 * m * n * k * math.prod(planes)
    return _launch(tile, "MATRIX", vec, "ACTIVATIONS", planes, fields, c, rescale, NOTHING, grid, work)


FARTHEST = {2: (0x7FFE, 0xFFFF), 3: (510, 2047, 2047)}
"""How far taps may lie from the first one, by number of axes."""


def tap_table(name: str, geometry: Geometry, channels: int, strides: Sequence[int], vec: int) -> View:
    """Offset and place (`qc::tap_inside`) of every `vec`-th element of K; beyond the last tap a row or plane that no image has."""
    rank = len(geometry.kernel)
    steps = [np.arange(k) * d for k, d in zip(geometry.kernel, geometry.dilation)]
    *taps, c = np.meshgrid(*steps, np.arange(0, channels, vec), indexing="ij")
    offset = sum(t * s for t, s in zip((*taps, c), strides)).ravel()
    shifts = (16, 0) if rank == 2 else (22, 11, 0)
    place = sum(t << s for t, s in zip(taps, shifts)).ravel()
    table = np.zeros((padded_inputs(math.prod(geometry.kernel) * channels) // vec, 2), np.int32)
    table[:, 1] = (FARTHEST[rank][0] + 1) << shifts[0]
    table[: len(offset), 0], table[: len(offset), 1] = offset, place
    return constant(f"{name}.taps", table)


def conv(
    name: str, x: View, weights: Weights, y: View, geometry: Geometry, zero_point: int, rescale: Rescale,
    tile: Tile | None = None, arch: int = 80, after: After = NOTHING,
) -> Launch:  # fmt: skip
    """x, y [N, C, H, W] or [N, C, D, H, W] with any strides of x, which may be planes; y lies channels last.

    Weights [O, kernel (z), y, x, C / groups]; `zero_point` is that of the codes, also if x is planes of them.
    """
    rank = len(geometry.kernel)
    given = _operand(x, 2 + rank)
    batch, _, *size = given.view.shape
    _, channels, *out_size = y.shape
    inner = weights.k // math.prod(geometry.kernel)
    image, channel, *steps = given.view.strides
    vec = given.width(inner, [s for s, d in zip((image, *steps), (batch, *size)) if d > 1]) if channel == 1 else 1
    m = batch * math.prod(out_size)
    tile = tile or choose_tile(m, weights.n, weights.groups, arch, y.dtype.itemsize, SMALL_WARPS)
    row = channels  # y is dense, channels last
    b = weights.codes
    fills = (zero_point >> 8, (zero_point & 255) - 128) if given.low else (zero_point, 0)
    flat, none = (1,) * (3 - rank), (0,) * (3 - rank)
    window: list[Field] = [
        ("p", reading(tap_table(name, geometry, inner, (*steps, channel), vec))),
        *longs(image, *none, *steps),
        *ints(*flat, *size, *flat, *out_size, *flat, *geometry.stride, *none, *geometry.pad, *fills),
        ("a", 8),
    ]  # fmt: skip
    fields: list[Field] = [
        *given.matrix(0, (0, inner * channel)),
        *_operand(b, 3).matrix(b.strides[1], (0, b.strides[0])), *longs(given.low, 0),
        ("p", writing(y)), *longs(row, 0, weights.n),
        ("p", reading(weights.bias)), ("p", reading(weights.zeros)), *rescale.fields(), *after.fields(), *window,
        *ints(m, weights.n, weights.k, weights.groups, weights.n, 0, 0, _vector_stores(y, row, (weights.n,) if weights.groups > 1 else ())),
    ]  # fmt: skip
    grid = (ceil_div(m, tile.bm), ceil_div(weights.n, tile.bn), weights.groups)
    work = m * math.prod((weights.n, weights.k, weights.groups, given.planes))
    operand, right = "WINDOWS" if rank == 2 else "WINDOWS_3D", "WEIGHTS" if weights.zeros is None else "SHIFTED"
    return _launch(tile, operand, vec, right, (given.planes, 1), fields, y, rescale, after, grid, work)


MOST_ROWS = 8
"""Rows up to which a product is bound by reading the weights once, and dp4a does."""


def few_rows(a: View, weights: Weights, c: View, rescale: Rescale) -> Launch:
    """a [M, K] with contiguous rows and few of them, c [M, N]."""
    m, n, k = a.shape[0], weights.n, weights.k
    rows = next((r for r in (1, 2, 4) if m <= r), 8)
    vec = min(4, vector_width(a, k, a.strides[:1] if m > 1 else ()))
    name = f"rows_gemm_{rows}x{vec}_{rescale.profile}_{c.dtype.name}"
    body = f"qc::rows_gemm<{rows}, {vec}, {PROFILES[rescale.profile]}, {OUTPUTS[c.dtype.name]}>(p)"
    fields: list[Field] = [
        ("p", reading(a)), ("p", reading(weights.codes)), ("p", writing(c)),
        *longs(a.strides[0], weights.codes.strides[1], c.strides[0]),
        ("p", reading(weights.bias)), *rescale.fields(), *ints(m, n, k),
    ]  # fmt: skip
    return Launch(Kernel(name, "qc_dp4a.cuh", "qc::RowsGemmParams", body, 128), (ceil_div(n, 4), ceil_div(m, rows), 1), tuple(fields), m * n * k)
