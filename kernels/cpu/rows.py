"""Everything that is no product: row reductions, pools, depthwise convolutions, copies, elementwise kernels.

The stages of a kernel are computed for one row of the output at a time, or a few, so that what lies between them stays in
the first cache level. Windows over channels (depthwise convolutions, pools, sums over places) are computed for a few
vectors of channels at a time, with the accumulators in registers and the window unrolled (those over pairs of image rows
by `paired_windows.py`).
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from qcompiler.kernels.cpu import paired_windows

PARALLEL_ELEMENTS = 1 << 15
UNROLLED_TAPS = 32
ROWS, SCRATCH = 8, 4096
"""Rows that go through the stages of a kernel together, at most, and elements of them: what is between stays on the stack."""
CHUNKS = (4, 2, 1)
"""Vectors of channels that a window keeps in registers, best first."""


def schedule(s: Any, lanes: int) -> None:
    """Schedule the stages of a kernel whose last one is `out`.

    Args:
        s: the schedule.
        lanes: 32-bit elements of a vector.
    """
    out = s.get_sblock("out")
    if any(s.get(b).name_hint == paired_windows.STAGE for b in s.get_child_blocks(s.get_sblock("root"))):
        return paired_windows.schedule(s, lanes, _size(s, s.get_loops(out)) >= PARALLEL_ELEMENTS)
    others = [b for b in s.get_child_blocks(s.get_sblock("root")) if s.get(b).name_hint != "out"]
    loops = s.get_loops(out)
    windows = [b for b in others if _is_window(s, b)]
    if len(others) == 1 and windows and len(loops) >= 2:
        return _window(s, out, others[0], loops, lanes)
    row = s.fuse(*loops[:-1]) if len(loops) > 1 and not others else loops[0]
    together = _rows_together(s, loops) if len(others) > 1 and len(loops) == 2 else 1
    if together > 1:
        row, _ = s.split(row, [None, together])
        loops = [row, *s.get_loops(out)[1:]]
    for block in reversed(others):
        s.compute_at(block, row, preserve_unit_loops=True)
    if _size(s, loops if others else [row, loops[-1]]) >= PARALLEL_ELEMENTS:
        s.parallel(row)
    for block in others:
        if _is_window(s, block):
            _reduction_of_vectors(s, block, lanes)
        elif tirx.IterVar.CommReduce not in _kinds(s, block, len(s.get_loops(block)) - 1):
            _in_vectors(s, block, lanes)
    _in_vectors(s, out, lanes)


def _rows_together(s: Any, loops: Any) -> int:
    """Rows that go through the stages together: what one waits for, its sums, leaves time for the others."""
    rows, length = (_extent(s, loop) for loop in loops)
    return max((n for n in range(1, ROWS + 1) if rows % n == 0 and n * length <= SCRATCH), default=1) if rows and length else 1


def _reduction_of_vectors(s: Any, block: Any, lanes: int) -> None:
    """A reduction whose innermost axis is kept, as whole vectors."""
    taps, last = _taps_and_channel(s, block, s.get_loops(block)[1:])
    if _extent(s, last) % lanes == 0:
        _vectors_inside(s, block, taps, last, lanes)


def _taps_and_channel(s: Any, block: Any, own: Any) -> tuple[list[Any], Any]:
    """Of the loops of a reduction: those that it joins, and the innermost one that it keeps."""
    kinds = _kinds(s, block, len(own))
    taps = [loop for loop, kind in zip(own, kinds, strict=True) if kind == tirx.IterVar.CommReduce]
    return taps, [loop for loop in own if loop not in taps][-1]


def _vectors_inside(s: Any, block: Any, taps: Any, channel: Any, lanes: int) -> None:
    """The taps outside, whole vectors of channels inside, in registers."""
    vectors, lane = s.split(channel, [None, lanes])
    s.reorder(*taps, vectors, lane)
    s.vectorize(lane)  # before the reduction is taken apart, which the schedule does not vectorize
    s.unroll(vectors)
    zeros = s.get_loops(s.decompose_reduction(block, taps[0]))
    s.vectorize(zeros[-1])
    s.unroll(zeros[-2])


def _in_vectors(s: Any, block: Any, lanes: int) -> None:
    """Vectors along the last axis where they fill it."""
    last = s.get_loops(block)[-1]
    size = _extent(s, last)
    if size and size % lanes == 0:
        _, inner = s.split(last, [None, lanes])
        s.vectorize(inner)


def _is_window(s: Any, block: Any) -> bool:
    """A reduction that keeps an innermost axis of channels."""
    kinds = [int(v.iter_type) for v in s.get(block).iter_vars]
    return len(kinds) > 2 and kinds[1] == tirx.IterVar.DataPar and tirx.IterVar.CommReduce in kinds


def _window(s: Any, out: Any, block: Any, loops: Any, lanes: int) -> None:
    """Chunks of channels outside, the window inside, channels of a chunk innermost."""
    row = s.fuse(*loops[:-1]) if len(loops) > 2 else loops[0]
    size = _extent(s, loops[-1])
    chunk = next((n * lanes for n in CHUNKS if size and size % (n * lanes) == 0), None)
    if chunk is None:
        s.compute_at(block, loops[-1] if len(loops) == 2 else row, preserve_unit_loops=True)
        return
    outer, inner = s.split(loops[-1], [None, chunk])
    s.compute_at(block, outer, preserve_unit_loops=True)
    if _size(s, [row, outer]) * chunk >= PARALLEL_ELEMENTS:
        s.parallel(row)
    taps, channel = _taps_and_channel(s, block, s.get_loops(block)[2:])
    _vectors_inside(s, block, taps, channel, lanes)
    counts = [_extent(s, tap) or UNROLLED_TAPS + 1 for tap in taps]
    total = 1
    for tap, count in reversed(list(zip(taps, counts, strict=True))):
        total *= count
        if total > UNROLLED_TAPS:
            break
        s.unroll(tap)
    _, lane = s.split(inner, [None, lanes])
    s.vectorize(lane)


def _kinds(s: Any, block: Any, count: int) -> list[int]:
    return [int(v.iter_type) for v in s.get(block).iter_vars][-count:]


def _extent(s: Any, loop: Any) -> int:
    """Iterations of a loop, 0 if they are not known."""
    extent = s.get(loop).extent
    return int(extent) if isinstance(extent, tirx.IntImm) else 0


def _size(s: Any, loops: Any) -> int:
    """Iterations of a nest; unknown extents count as many."""
    total = 1
    for loop in loops:
        total *= _extent(s, loop) or 128
    return total
