"""Matrix products and convolutions: one micro-kernel, packed operands, everything elementwise in the epilogue.

The left operand is packed by rows into the type that the instruction takes (convolutions gather their image patches
here), the right one into panels [columns / (vectors * lanes), depth / pair, vectors, lanes, pair], constants when the
program is compiled; where a form adds the results of several instructions before it widens them, these are
[..., vectors, chunks, lanes, pair / chunks]. The micro-kernel keeps rows * vectors accumulators in registers over the whole depth:

    for column panels: for row tiles: for tiles of the panel:
        for depth / pair:  for rows, vectors:  acc[row, vector, lanes] += broadcast(a[row, pair]) . w[vector, lanes, pair]
        out = finish(acc + bias)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx

from qcompiler.kernels.common.product import IMAGE, Product
from qcompiler.kernels.cpu.codegen import intrinsic
from qcompiler.kernels.cpu.forms import STEPS, centred, padded, tiles
from qcompiler.kernels.cpu.isa import Form, Isa
from qcompiler.kernels.cpu.prefetch import AHEAD, next_panel_prefetched, stream_prefetched

CONSTANT = Callable[[np.ndarray], Any]
PARALLEL_MACS = 1 << 18
"""Work below this is not worth waking a thread."""


@dataclass(frozen=True)
class Tile:
    """What a tuner may choose.

    Attributes:
        rows: of the register tile.
        vectors: columns of the register tile, in vectors of lanes.
        panel: register tiles of columns per pass over the rows, so that their weights stay in a cache; 0 for all.
        whole: pack the left operand once, in front; otherwise each row tile where it is used.
    """

    rows: int
    vectors: int
    panel: int = 0
    whole: bool = False


def tile_space(product: Product, form: Form, isa: Isa) -> Iterator[Tile]:
    """Every legal tile: accumulators, activations, the weights of a step and what is between fit the registers."""
    # weights of two chunks at most are held at a time, and an activation for each; then a sum on its way, and ones
    held, others = (min(form.chunks, 2), 2) if form in isa.short else (1, 0)
    columns = product.columns if isinstance(product.columns, int) else 64
    needed = max(1, -(-columns // form.lanes))
    for rows, vectors in itertools.product((1, 2, 3, 4, 5, 6, 7, 8, 12), (1, 2, 3, 4, 6)):
        if vectors > needed or rows * vectors + (vectors + 1) * held + others > isa.registers:
            continue
        if isinstance(product.rows, int) and rows > product.rows:
            continue
        blocks = -(-needed // vectors)
        panels = {0, *(p for p in (2, 3, 4, 6, 8, 12, 16) if p < blocks and blocks % p == 0)} if product.constant_weight else {0}
        for panel, whole in itertools.product(sorted(panels), (False, True)):
            yield Tile(rows, vectors, panel, whole)


def describe(product: Product, form: Form, tile: Tile, constant: CONSTANT) -> te.Tensor:
    """The stages `pack_a`, `pack_w` (no constants), `sums` and `row_sums` (where needed), `acc`, `out`."""
    rows, lanes, pair = tile.rows, form.lanes, form.pair
    width = tile.vectors * lanes
    depth = padded(product.channels, pair)  # per tap
    steps = product.taps * depth // pair
    row_tiles, column_tiles = tiles(product.rows, rows), tiles(product.columns, width)
    offset, zero = _storage(product, form)
    real = product.real
    kind = "float32" if real else "int32"

    def pack_a(b: Any, mo: Any, mi: Any, k: Any) -> Any:
        # rows beyond the last repeat it; nobody reads their results
        m = mo * rows + mi
        if not (isinstance(product.rows, int) and product.rows % rows == 0):
            m = tirx.min(m, product.rows - 1)
        tap, c = (0, k) if product.taps == 1 else (k // depth, k % depth)
        value = product.a(b, m, tap, c)
        if not real:
            value = (value.astype("int32") + offset).astype(form.activation)
        return _inside(c, product.channels, depth, value, form.activation)

    packed_a = te.compute((product.batch, row_tiles, rows, product.taps * depth), pack_a, name="pack_a")
    packed_w = _packed_w(product, form, tile, depth, steps, column_tiles, constant)
    chunk = pair // form.chunks
    ko, kc, ki = te.reduce_axis((0, steps), "ko"), te.reduce_axis((0, form.chunks), "kc"), te.reduce_axis((0, chunk), "ki")
    shape = (product.batch, row_tiles, column_tiles, rows, tile.vectors, lanes)

    def in_pairs(b: Any, mo: Any, no: Any, mi: Any, v: Any, lane: Any) -> Any:
        left = packed_a[b, mo, mi, ko * pair + ki].astype(kind)
        return te.sum(left * packed_w[b, no, ko, v, lane, ki].astype(kind), axis=[ko, ki])

    def in_chunks(b: Any, mo: Any, no: Any, mi: Any, v: Any, lane: Any) -> Any:
        left = packed_a[b, mo, mi, ko * pair + kc * chunk + ki].astype(kind)
        return te.sum(left * packed_w[b, no, ko, v, kc, lane, ki].astype(kind), axis=[ko, kc, ki])

    def single(b: Any, mo: Any, no: Any, mi: Any, v: Any, lane: Any) -> Any:
        return te.sum(packed_a[b, mo, mi, ko].astype(kind) * packed_w[b, no, ko, v, lane].astype(kind), axis=ko)

    acc = te.compute(shape, single if pair == 1 else in_pairs if form.chunks == 1 else in_chunks, name="acc")
    bias, left = _bias(product, form, zero, depth, packed_w, constant), _row_bias(product, form, zero, packed_a)

    def out(b: Any, m: Any, n: Any) -> Any:
        total = acc[b, m // rows, n // width, m % rows, n % width // lanes, n % lanes]
        if bias is not None:
            total = total + bias(b, n)
        if left is not None:
            total = total + left(b, m)
        return product.finish(total, b, m, n)

    if product.channels_last_groups:
        return te.compute((product.rows, product.batch, product.columns), lambda m, b, n: out(b, m, n), name="out")
    return te.compute((product.batch, product.rows, product.columns), out, name="out")


def _storage(product: Product, form: Form) -> tuple[int, int]:
    """(what is added to an element of `a` for its packed form, the zero point that then remains)."""
    if product.real:
        return 0, 0
    low = int(np.iinfo(product.a_type).min)
    if form.activation == "uint8":
        return -low, product.a_zero - low
    if form.activation == "int8":
        shift = -128 - low
        return shift, product.a_zero + shift
    return (-product.a_zero, 0) if centred(product) else (0, product.a_zero)


def _inside(index: Any, count: Any, size: Any, value: Any, kind: str) -> Any:
    """The value, or 0 in the padding of an axis of `count` elements to `size`."""
    if isinstance(count, int) and count == size:
        return value
    return tirx.if_then_else(index < count, value, tirx.const(0, kind))


def _packed_w(
    product: Product, form: Form, tile: Tile, depth: Any, steps: Any, column_tiles: Any, constant: CONSTANT
) -> Any:
    lanes, pair, width = form.lanes, form.pair, tile.vectors * form.lanes
    if product.constant_weight:
        return constant(pack_weight(product, form, tile))

    def element(b: Any, no: Any, ko: Any, v: Any, lane: Any, ki: Any) -> Any:
        n, k = no * width + v * lanes + lane, ko * pair + ki
        value = product.w(b, tirx.min(n, product.columns - 1), tirx.min(k, product.channels - 1))
        if not product.real:
            value = (value.astype("int32") + _w_offset(product, form)).astype(form.weight)
        aligned = isinstance(product.channels, int) and product.channels == depth
        return value if aligned else tirx.if_then_else(k < product.channels, value, tirx.const(0, form.weight))

    shape = (product.batch, column_tiles, steps, tile.vectors, lanes)
    if pair == 1:
        return te.compute(shape, lambda b, no, ko, v, lane: element(b, no, ko, v, lane, 0), name="pack_w")
    return te.compute((*shape, pair), element, name="pack_w")


def pack_weight(product: Product, form: Form, tile: Tile) -> np.ndarray:
    """Constant weights [batch, N, taps, channels] as [batch, panels, steps, vectors, lanes, pair], no pair where it is 1."""
    w = product.w
    if not product.real:
        w = (w.astype(np.int64) - product.w_zero).astype(form.weight)
    batch, columns, taps, channels = w.shape
    width = tile.vectors * form.lanes
    grown = np.pad(w, ((0, 0), (0, -columns % width), (0, 0), (0, -channels % form.pair)))
    panels = grown.reshape(batch, -1, tile.vectors, form.lanes, taps * grown.shape[3] // form.pair, form.pair)
    packed = panels.transpose(0, 1, 4, 2, 3, 5)
    if form.chunks > 1:
        packed = packed.reshape(*packed.shape[:-1], form.chunks, -1).swapaxes(-3, -2)
    return np.ascontiguousarray(packed[..., 0] if form.pair == 1 else packed)


def _bias(
    product: Product, form: Form, zero: int, depth: Any, packed_w: Any, constant: CONSTANT
) -> Callable[[Any, Any], Any] | None:
    """(b, n) -> bias less the zero point times the sum of the column's weights; None where that is 0."""
    if product.constant_weight:
        total = np.zeros(product.w.shape[:2], np.float32 if product.real else np.int64)
        if product.bias is not None:
            total = total + product.bias.reshape(total.shape)
        if zero:
            total = total - zero * (product.w.astype(np.int64) - product.w_zero).sum((2, 3))
        if not total.any():
            return None
        held = constant(total.astype(np.float32) if product.real else total.astype(np.int32))
        return lambda b, n: held[b, n]
    if not zero:
        return None
    # a zero point remains in forms that multiply several neighbours only: their instruction multiplies a column by it
    lanes, vectors = form.lanes, int(packed_w.shape[3])
    kr, pr = te.reduce_axis((0, packed_w.shape[2]), "kr"), te.reduce_axis((0, form.pair), "pr")
    zeros = constant(np.full(form.pair, zero, form.activation))
    sums = te.compute(
        (packed_w.shape[0], packed_w.shape[1], packed_w.shape[3], lanes),
        lambda b, no, v, lane: te.sum(zeros[pr].astype("int32") * packed_w[b, no, kr, v, lane, pr].astype("int32"), axis=[kr, pr]),
        name="sums",
    )
    width = vectors * lanes
    return lambda b, n: -sums[b, n // width, n % width // lanes, n % lanes]


def _w_offset(product: Product, form: Form) -> int:
    """What is added to an element of computed weights for its packed form."""
    return -product.w_zero if form.weight == "int16" else -128 - int(np.iinfo(product.w_type).min)


def _row_bias(product: Product, form: Form, zero: int, packed_a: Any) -> Callable[[Any, Any], Any] | None:
    """(b, m) -> what the zero point of computed weights takes off a row; None where that is 0."""
    left = 0 if product.constant_weight or product.real else product.w_zero + _w_offset(product, form)
    if not left:
        return None
    rows, kr = int(packed_a.shape[2]), te.reduce_axis((0, packed_a.shape[3]), "kr")
    shape = tuple(packed_a.shape)[:3]
    sums = te.compute(shape, lambda b, mo, mi: te.sum(packed_a[b, mo, mi, kr].astype("int32"), axis=kr), name="row_sums")
    return lambda b, m: (product.channels * zero - sums[b, m // rows, m % rows]) * left


def schedule(s: Any, product: Product, form: Form, tile: Tile) -> Any:
    """Place the stages, keep the accumulators in registers, use the form's instruction: the PrimFunc."""
    names = {s.get(block).name_hint for block in s.get_child_blocks(s.get_sblock("root"))}
    out, acc, pack_a = s.get_sblock("out"), s.get_sblock("acc"), s.get_sblock("pack_a")
    loops = s.get_loops(out)
    b, m, n = (loops[1], loops[0], loops[2]) if product.channels_last_groups else loops
    mo, mi = s.split(m, [None, tile.rows])
    no, v, lane = s.split(n, [None, tile.vectors, form.lanes])
    if tile.panel:
        panel, no = s.split(no, [None, tile.panel])
        s.reorder(b, panel, mo, no, mi, v, lane)
        outer = [b, panel, mo]
    else:
        s.reorder(b, mo, no, mi, v, lane)
        outer = [b, mo]
    s.compute_at(acc, no, preserve_unit_loops=True)
    if IMAGE in names:
        s.unroll(s.get_loops(s.get_sblock(IMAGE))[-1])  # LLVM interleaves the channels of neighbouring places
    read = [region.source for region in s.get(acc).reads]
    if "row_sums" in names:
        s.compute_at(s.get_sblock("row_sums"), mo, preserve_unit_loops=True)
    if not tile.whole:
        s.compute_at(pack_a, mo, preserve_unit_loops=True)
    for name in ("sums", "pack_w"):
        if name in names:
            s.compute_at(s.get_sblock(name), b, preserve_unit_loops=True)
    if _worth_threads(product):
        s.parallel(next((loop for loop in outer if _extent(s, loop) != 1), outer[0]))
    if "sums" in names:
        _added_up(s, s.get_sblock("sums"), form)
    step = _register_tile(s, acc, form)
    _vectors_of(s, pack_a, product, form)
    if "pack_w" in names:
        # lane by lane in memory order; LLVM vectorizes what is contiguous
        if form.pair > 1:
            s.unroll(s.get_loops(s.get_sblock("pack_w"))[-1])
    exact = isinstance(product.columns, int) and product.columns % (tile.vectors * form.lanes) == 0
    if exact:
        if tile.vectors in TOGETHER:
            lane = s.fuse(v, lane)
        else:
            s.unroll(v)
        s.vectorize(lane)
    if tile.panel and product.constant_weight and len(product.w) == 1:
        return next_panel_prefetched(s, read[-1], panel, mo, no)
    if isinstance(product.rows, int) and product.rows <= tile.rows and product.constant_weight and len(product.w) == 1:
        return stream_prefetched(s, read[-1], step, [0, s.get(no).loop_var], AHEAD)  # nothing is read again
    return s.mod["main"]


def _extent(s: Any, loop: Any) -> Any:
    extent = s.get(loop).extent
    return int(extent) if isinstance(extent, tirx.IntImm) else None


def _worth_threads(product: Product) -> bool:
    return not isinstance(product.macs, int) or product.macs >= PARALLEL_MACS


def _register_tile(s: Any, acc: Any, form: Form) -> Any:
    """Keep the accumulators in registers; the loop over the depth."""
    if form.pair == 1:
        mi, v, lane, ko = s.get_loops(acc)[-4:]
        s.reorder(ko, mi, v, lane)
    else:
        mi, v, lane, ko, *inner = s.get_loops(acc)[-6 if form.chunks > 1 else -5 :]
        s.reorder(ko, mi, v, lane, *inner)
    if not form.intrinsic:
        s.vectorize(lane)  # before the reduction is taken apart, which the schedule does not vectorize
    zeros = s.get_loops(s.decompose_reduction(acc, ko))
    s.vectorize(zeros[-1])
    s.unroll(zeros[-2])
    s.unroll(zeros[-3])
    if form.intrinsic:
        s.tensorize(lane, intrinsic(form))
    s.unroll(mi)
    s.unroll(v)
    return ko


def _added_up(s: Any, sums: Any, form: Form) -> None:
    """Sums of columns by the form's instruction."""
    lane, kr, pr = s.get_loops(sums)[-3:]
    s.reorder(kr, lane, pr)
    s.vectorize(s.get_loops(s.decompose_reduction(sums, kr))[-1])
    s.tensorize(lane, intrinsic(form))


def _vectors_of(s: Any, pack_a: Any, product: Product, form: Form) -> None:
    """Innermost loop of the packing over whole vectors where the depth divides."""
    k = s.get_loops(pack_a)[-1]
    if not isinstance(product.channels, int):
        return
    depth = padded(product.channels, form.pair)
    if product.taps > 1:
        _, k = s.split(k, [product.taps, depth])
    if product.channels != depth:
        return
    step = math.gcd(depth, 32 if form.activation != "int16" else 16)
    if step >= 4:
        _, inner = s.split(k, [None, step])
        s.vectorize(inner)


def default_tile(product: Product, form: Form, isa: Isa) -> Tile:
    """The tile that an analytic model of the micro-kernel likes best; `predicted_cycles` is the model."""
    return min(tile_space(product, form, isa), key=lambda tile: predicted_cycles(product, form, isa, tile))


MULTIPLY, LOAD_WEIGHT, BROADCAST, FINISH, SCATTER, PACK, REREAD = 0.5, 0.33, 0.17, 9.8, 10.2, 0.29, 0.047
TOGETHER, EDGE = {2: 1.9, 4: 1.5}, {16: 1.5, 32: 1.5, 64: 0.3}
"""Cycles of: multiplying and adding a vector; loading one of weights; spreading a pair of activations (`forms.STEPS` has all
three of other forms); rescaling a vector of results, and storing it piece by piece; packing an element of the left
operand, reading it again; what is saved per vector where so many become bytes together; packing a byte where tiles do not
divide the rows, by the bytes of a vector. Least squares over the times of all tiles of three products on AVX2; those of
`STEPS` and of vectors of 64 bytes were set by the times of some tiles (`python -m benchmarks.bench_tvm --only defaults`
shows others)."""
CHAIN = 4.0
"""Cycles before a vector that accumulates in place can be added to again."""
CACHES = ((1 << 15, 0.0), (1 << 17, 1 / 80), (1 << 62, 1 / 32))
"""Weights up to so many bytes cost so many cycles per byte each time they are read again."""


def predicted_cycles(product: Product, form: Form, isa: Isa, tile: Tile) -> float:
    """Cost of a tile in cycles, up to a factor; rows and columns beyond the edge cost like others.

    Weights are read again for every row tile, from where they fit; panels of them fit nearer to the core, but then the
    left operand is packed, or read, for every panel.
    """
    rows, columns, channels = (d if isinstance(d, int) else 128 for d in (product.rows, product.columns, product.channels))
    batch = product.batch if isinstance(product.batch, int) else 8
    depth = product.taps * padded(channels, form.pair)
    width = tile.vectors * form.lanes
    row_tiles, column_tiles = -(-rows // tile.rows), -(-columns // width)
    multiply, load, broadcast = STEPS.get(form.name, (MULTIPLY, LOAD_WEIGHT, BROADCAST))
    step = tile.rows * tile.vectors * multiply
    if form.name in ("vpdpbusd", "fma", "fmla", "sdot"):
        step = max(step, CHAIN)
    step += tile.vectors * load + tile.rows * broadcast
    once = FINISH - TOGETHER.get(tile.vectors, 0.0) if columns % width == 0 else FINISH + SCATTER
    finish = tile.rows * tile.vectors * once
    passes = column_tiles / tile.panel if tile.panel else 1.0
    element = PACK + EDGE[isa.vector_bytes] if form.pair >= 4 and rows % tile.rows else PACK
    pack = element + passes * REREAD if tile.whole else passes * element
    weight_bytes = column_tiles * width * depth * np.dtype(form.weight).itemsize
    again = next(cost for most, cost in CACHES if weight_bytes / passes <= most)
    traffic = weight_bytes * (CACHES[-1][1] + (row_tiles - 1) * again)
    products = row_tiles * column_tiles * (depth / form.pair * step + finish)
    return float(batch * (products + rows * depth * pack + traffic))
