"""Products with weights in groups: codes are unpacked in registers, one accumulator per group, one per row.

Weights lie as [columns / (vectors * lanes), groups, steps, vectors, lanes] words, so that one pass over a column tile
reads them front to back: with few rows the product waits for memory and for nothing else. Per column tile:

    for row tiles: for groups:  part = sum over steps (in registers)
                                acc += (part - zero * sum of the operand's group) * scale * scale of the operand
        out = finish(acc + bias)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx

from qcompiler.kernels.common.grouped import GroupedProduct
from qcompiler.kernels.cpu.isa import Isa
from qcompiler.kernels.cpu.prefetch import AHEAD, stream_prefetched
from qcompiler.kernels.cpu.product import PARALLEL_MACS, tiles
from qcompiler.kernels.cpu.steps import Step, digit_step, pair_step, real_step, step_intrinsic

CONSTANT = Callable[[np.ndarray], Any]
FEW_ROWS = 4
LANES = 8
"""Of the elementwise stages in front."""


@dataclass(frozen=True)
class GroupedTile:
    """What a tuner may choose.

    Attributes:
        rows: of the register tile.
        vectors: columns of the register tile, in vectors of lanes.
    """

    rows: int
    vectors: int


def choose_step(product: GroupedProduct, isa: Isa) -> Step:
    """The step for a product's operands; every combination of codes of up to 8 bits has one."""
    low, high = _code_range(product)
    narrow = high - low < 16
    if product.real:
        return real_step(isa, 4 if narrow else 8)
    assert product.a_range is not None
    signed_bytes = -128 <= product.a_range[0] and product.a_range[1] < 128
    step = digit_step(isa, 4 if narrow else 8) if high - low < 256 and signed_bytes else None
    return step or pair_step(isa, -128 <= low and high <= 127)


def _code_range(product: GroupedProduct) -> tuple[int, int]:
    return int(product.w.min(initial=0)), int(product.w.max(initial=0))


def tile_space(product: GroupedProduct, step: Step, isa: Isa) -> Iterator[GroupedTile]:
    """Legal tiles: a group's accumulators, the rows' and an operand fit the registers."""
    needed = max(1, -(-product.columns // step.lanes))
    for rows in (1, 2, 3, 4):
        for vectors in (1, 2, 3, 4, 6, 8):
            if vectors <= needed and rows * product.terms * vectors <= isa.registers - 4:
                yield GroupedTile(rows, vectors)


def default_tile(product: GroupedProduct, step: Step, isa: Isa) -> GroupedTile:
    """One row at a time where the number of rows is not known or is 1, else up to four, which share what is unpacked."""
    most = 1 if not isinstance(product.rows, int) else min(product.rows, FEW_ROWS)
    chains = 8 // (most * product.terms)  # independent sums that hide the latency of an addition
    fits = [t for t in tile_space(product, step, isa) if t.rows <= most and t.vectors <= max(chains, 4 if isa.registers > 16 else 2)]
    blocks = -(-product.columns // step.lanes)
    return max(fits, key=lambda t: (t.rows, blocks % t.vectors == 0, t.vectors))


def describe(product: GroupedProduct, step: Step, tile: GroupedTile, constant: CONSTANT) -> te.Tensor:
    """The stages `pack_a`, `lane_sums` and `sums` (where zero points remain), `part`, `acc`, `out`."""
    rows, terms, vectors, lanes, codes = tile.rows, product.terms, tile.vectors, step.lanes, step.codes
    groups, width, size = product.groups, tile.vectors * step.lanes, product.group
    steps = int(tiles(size, codes))
    row_tiles, column_tiles = tiles(product.rows, rows), int(tiles(product.columns, width))
    words, scale, zero = pack_weights(product, step, tile)
    held_w, held_scale = constant(words), None if step.bits else constant(scale)
    kind = step.kind
    exact = size % codes == 0 and product.channels == groups * size

    def operand(mo: Any, mi: Any, term: Any, g: Any, s: Any, p: Any) -> Any:
        m = mo * rows + mi
        if not (isinstance(product.rows, int) and product.rows % rows == 0):
            m = tirx.min(m, product.rows - 1)
        within = s * codes + p
        c = g * size + within
        if exact:
            return product.a(m, term, c).astype(kind)
        value = product.a(m, term, tirx.min(c, product.channels - 1)).astype(kind)
        return tirx.if_then_else(tirx.all(within < size, c < product.channels), value, tirx.const(0, kind))

    factors = constant(step.factors()) if product.real else None

    def pack_a(*index: Any) -> Any:
        value = operand(*index)
        return (value * factors(index[-1]) if factors is not None else value).astype(step.form.activation)

    shape = (row_tiles, rows, terms, groups, steps, codes)
    packed_a = te.compute(shape, pack_a, name="pack_a")
    sums = None if zero is None else _sums(product, step, packed_a, operand, shape)
    ks, kp = te.reduce_axis((0, steps), "ks"), te.reduce_axis((0, codes), "kp")

    def part(mo: Any, no: Any, g: Any, term: Any, mi: Any, v: Any, lane: Any) -> Any:
        left = packed_a[mo, mi, term, g, ks, kp].astype(kind)
        if step.bits:
            right = step.digit(held_w[no, g, ks, v, lane], kp)
        else:
            right = held_w[no, g, ks, v, lane, kp].astype(kind)
        return te.sum(left * right, axis=[ks, kp])

    def part_single(mo: Any, no: Any, g: Any, term: Any, mi: Any, v: Any, lane: Any) -> Any:
        left, right = packed_a[mo, mi, term, g, ks, 0].astype(kind), held_w[no, g, ks, v, lane].astype(kind)
        return te.sum(left * right, axis=ks)

    inner = (row_tiles, column_tiles, groups, terms, rows, vectors, lanes)
    parts = te.compute(inner, part_single if codes == 1 else part, name="part")
    kg = te.reduce_axis((0, groups), "kg")
    held_zero = None if zero is None or isinstance(zero, int) else constant(zero)

    def group_sum(mo: Any, no: Any, term: int, mi: Any, v: Any, lane: Any) -> Any:
        value = parts[mo, no, kg, term, mi, v, lane]
        if sums is None:
            return value.astype("float32")
        own = sums[mo, mi, term, kg]
        if held_zero is None:
            return (value - tirx.const(zero, kind) * own).astype("float32")
        return value.astype("float32") - held_zero[no, kg, v, lane] * own.astype("float32")

    def total(mo: Any, no: Any, mi: Any, v: Any, lane: Any) -> Any:
        m = mo * rows + mi
        if not (isinstance(product.rows, int) and product.rows % rows == 0):
            m = tirx.min(m, product.rows - 1)
        value: Any = 0
        for term in range(terms):
            part = group_sum(mo, no, term, mi, v, lane)
            part = part if product.a_scale is None else part * product.a_scale(m, term, kg)
            value = part if term == 0 else value + part
        factor = tirx.reinterpret("float32", held_w[no, kg, steps, v, lane]) if held_scale is None else held_scale[no, kg, v, lane]
        return te.sum(value * factor, axis=kg)

    acc = te.compute((row_tiles, column_tiles, rows, vectors, lanes), total, name="acc")
    bias = None if product.bias is None else constant(product.bias.astype(np.float32))

    def out(m: Any, n: Any) -> Any:
        value = acc[m // rows, n // width, m % rows, n % width // lanes, n % lanes]
        return product.finish(value if bias is None else value + bias(n), m, n)

    return te.compute((product.rows, product.columns), out, name="out")


def _sums(product: GroupedProduct, step: Step, packed_a: Any, operand: Any, shape: tuple[Any, ...]) -> Any:
    """Sum of the operand over each group, [row tiles, rows, terms, groups]: lane by lane first."""
    row_tiles, rows, terms, groups, steps, codes = shape
    s, p = te.reduce_axis((0, steps), "s"), te.reduce_axis((0, codes), "p")
    by_place = te.compute(
        (row_tiles, rows, terms, groups, codes),
        lambda mo, mi, t, g, place: te.sum(operand(mo, mi, t, g, s, place), axis=s),
        name="lane_sums",
    )
    return te.compute((row_tiles, rows, terms, groups), lambda mo, mi, t, g: te.sum(by_place[mo, mi, t, g, p], axis=p), name="sums")


def pack_weights(product: GroupedProduct, step: Step, tile: GroupedTile) -> tuple[np.ndarray, np.ndarray, Any]:
    """(weights, scales [tiles, groups, vectors, lanes], zero points: likewise, one int for all, or None if they are 0).

    Words have the bits of their group's scales behind them, so that memory is read as one stream.
    """
    n, k = product.w.shape
    groups, size, codes = product.groups, product.group, step.codes
    width = tile.vectors * step.lanes
    column_tiles, steps = int(tiles(n, width)), int(tiles(size, codes))
    offset = -_code_range(product)[0] if step.bits else 0  # digits of words are not negative
    grown = np.zeros((column_tiles * width, groups * size), np.int64)
    grown[:n, :k] = product.w.astype(np.int64) + offset
    by_group = np.zeros((column_tiles * width, groups, steps * codes), np.int64)
    by_group[:, :, :size] = grown.reshape(-1, groups, size)
    ordered = by_group.reshape(column_tiles, tile.vectors, step.lanes, groups, steps, codes).transpose(0, 3, 4, 1, 2, 5)
    scale = _by_lane(product.scale.astype(np.float32), column_tiles, tile, step)
    if step.bits:
        weights = np.concatenate([step.pack(ordered), scale.view(np.uint32)[:, :, None]], axis=2)
    else:
        weights = np.ascontiguousarray(ordered.astype(step.form.weight))
        weights = weights[..., 0] if codes == 1 else weights
    return weights, scale, _zeros(product.zero.astype(np.int64) + offset, column_tiles, tile, step)


def _by_lane(values: np.ndarray, column_tiles: int, tile: GroupedTile, step: Step) -> np.ndarray:
    """[N, groups] as [tiles, groups, vectors, lanes]."""
    n, groups = values.shape
    grown = np.zeros((column_tiles * tile.vectors * step.lanes, groups), values.dtype)
    grown[:n] = values
    return np.ascontiguousarray(grown.reshape(column_tiles, tile.vectors, step.lanes, groups).transpose(0, 3, 1, 2))


def _zeros(zeros: np.ndarray, column_tiles: int, tile: GroupedTile, step: Step) -> Any:
    if (zeros == zeros.flat[0]).all():
        return int(zeros.flat[0]) or None
    return _by_lane(zeros.astype(np.float32), column_tiles, tile, step)


def schedule(s: Any, product: GroupedProduct, step: Step, tile: GroupedTile) -> Any:
    """The PrimFunc with its stages placed; one column tile's weights are read once per row tile, the first time from memory."""
    names = {s.get(block).name_hint for block in s.get_child_blocks(s.get_sblock("root"))}
    out, acc, part, pack_a = (s.get_sblock(name) for name in ("out", "acc", "part", "pack_a"))
    m, n = s.get_loops(out)
    mo, mi = s.split(m, [None, tile.rows])
    no, v, lane = s.split(n, [None, tile.vectors, step.lanes])
    s.reorder(no, mo, mi, v, lane)
    s.compute_at(acc, mo, preserve_unit_loops=True)
    if not isinstance(product.macs, int) or product.macs >= PARALLEL_MACS:
        s.parallel(no)
    mi_, v_, lane_, kg = s.get_loops(acc)[-4:]
    s.reorder(kg, mi_, v_, lane_)
    s.compute_at(part, kg, preserve_unit_loops=True)
    s.vectorize(lane_)  # before the reduction is taken apart, which the schedule does not vectorize
    zeros = s.get_loops(s.decompose_reduction(acc, kg))
    s.vectorize(zeros[-1])
    for loop in (*zeros[-3:-1], mi_, v_):
        s.unroll(loop)
    weights = [region.source for region in s.get(part).reads][-1]
    ks = _register_tile(s, part, step)
    _vectors(s, pack_a)
    _quantizing(s, names, product, step)
    if "lane_sums" in names:
        _across(s, s.get_sblock("lane_sums"))
    if product.columns % (tile.vectors * step.lanes) == 0:
        s.vectorize(lane)
        s.unroll(v)
    if isinstance(product.rows, int) and product.rows > FEW_ROWS or not step.bits:
        return s.mod["main"]
    return stream_prefetched(s, weights, ks, [s.get(loop).loop_var for loop in (no, kg)], AHEAD)


def _register_tile(s: Any, part: Any, step: Step) -> Any:
    if step.codes == 1:
        term, mi, v, lane, ks = s.get_loops(part)[-5:]
        s.reorder(ks, term, mi, v, lane)
    else:
        term, mi, v, lane, ks, kp = s.get_loops(part)[-6:]
        s.reorder(ks, term, mi, v, lane, kp)
    name = step_intrinsic(step)
    if not name:
        s.vectorize(lane)  # before the reduction is taken apart, which the schedule does not vectorize
    zeros = s.get_loops(s.decompose_reduction(part, ks))
    s.vectorize(zeros[-1])
    for loop in zeros[-4:-1]:
        s.unroll(loop)
    if name:
        s.tensorize(lane, name)
    for loop in (term, mi, v):
        s.unroll(loop)
    return ks


def _vectors(s: Any, pack_a: Any) -> None:
    place = s.get_loops(pack_a)[-1]
    if int(s.get(place).extent) >= 4:
        s.vectorize(place)


def _across(s: Any, block: Any) -> None:
    """A reduction whose last axis is kept: that one innermost, as vectors."""
    *_, place, k = s.get_loops(block)
    s.reorder(k, place)
    if int(s.get(place).extent) > 1:
        s.vectorize(place)
    s.decompose_reduction(block, k)


def _quantizing(s: Any, names: set[str], product: GroupedProduct, step: Step) -> None:
    """The stages in front that make codes of a real operand."""
    for name in sorted(names):
        if name.endswith("_peaks"):
            _across(s, s.get_sblock(name))
        elif name.endswith("_codes") and product.channels % LANES == 0 and product.group % LANES == 0:
            _, c = s.get_loops(s.get_sblock(name))
            _, inner = s.split(c, [None, LANES if product.group % step.lanes else max(LANES, step.lanes)])
            s.vectorize(inner)
