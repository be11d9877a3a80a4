"""Weights of the next panel are asked for while this one is multiplied.

The first tile of rows of a panel reads its weights as fast as it multiplies, several times faster than they come from
beyond the cache; all others find them there. Spread over the tiles of the panel before, the same bytes arrive in time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx

LINE = 64
"""Bytes that come at a time."""
LOCALITY = 2
"""Into the second cache level: the first one holds this panel."""
NEAREST = 3
"""Into the first cache level."""
AHEAD = 8192
"""Bytes: what a stream of weights from memory takes to arrive, at the speed at which a kernel reads."""


def next_panel_prefetched(s: Any, weights: Any, panel: Any, mo: Any, no: Any) -> Any:
    """The schedule's PrimFunc, with a share of the next panel asked for before each tile.

    Args:
        s: schedule, done.
        weights: buffer [1, columns / tile, steps, ...].
        panel, mo, no: its loops over panels, tiles of rows, and tiles of columns in a panel.
    """
    loops = [s.get(loop) for loop in (panel, mo, no)]
    if not isinstance(loops[1].extent, tirx.IntImm):
        return s.mod["main"]  # nobody knows how many tiles share the work
    (count, rows, columns), (p, m, n) = ([loop.extent for loop in loops], [loop.loop_var for loop in loops])
    steps, *inner = (int(dim) for dim in weights.shape[2:])
    each = -(-steps // int(rows))
    place = tirx.min(p + 1, count - 1) * columns + n
    i = tirx.Var("i", "int32")
    step = tirx.min(m * each + i, steps - 1)
    lines = []
    for element in range(0, math.prod(inner), LINE // tvm.DataType(str(weights.dtype)).itemsize):
        at = [int(index) for index in np.unravel_index(element, inner)]
        address = tirx.address_of(tirx.BufferLoad(weights, [0, place, step, *at]))
        lines.append(tirx.Evaluate(tirx.call_intrin("void", tvm.ir.Op.get("tirx.prefetch"), address, 0, LOCALITY, 1)))
    asked = tirx.For(i, 0, each, tirx.ForKind.SERIAL, tirx.SeqStmt(lines) if len(lines) > 1 else lines[0])

    def with_prefetch(loop: Any) -> Any:
        if not loop.loop_var.same_as(n):
            return loop
        return tirx.For(n, loop.min, loop.extent, loop.kind, tirx.SeqStmt([asked, loop.body]), annotations=loop.annotations)

    function = s.mod["main"]
    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, with_prefetch)))


def stream_prefetched(s: Any, weights: Any, loop: Any, indices: Any, ahead: int) -> Any:
    """The schedule's PrimFunc, with weights asked for `ahead` bytes before they are read.

    What lies behind the end of the weights is asked for too: the next kernel's, where constants lie in order of execution.

    Args:
        s: schedule, done.
        weights: buffer.
        loop: that reads `weights[indices..., loop, ...]`, from the first place on; there may be further places.
        indices: expressions of the places of the outer axes.
        ahead: bytes.
    """
    held = s.get(loop)
    inner, last, *dims = int(held.extent), *(int(dim) for dim in weights.shape[len(indices) :])
    width = tvm.DataType(str(weights.dtype)).itemsize
    steps = max(1, ahead // (math.prod(dims) * width))

    def asked(place: Any) -> Iterator[Any]:
        for element in range(0, math.prod(dims), LINE // width):
            at = [int(index) for index in np.unravel_index(element, dims)]
            address = tirx.address_of(tirx.BufferLoad(weights, [*indices, place + steps, *at]))
            yield tirx.Evaluate(tirx.call_intrin("void", tvm.ir.Op.get("tirx.prefetch"), address, 0, NEAREST, 1))

    def with_prefetch(found: Any) -> Any:
        if not found.loop_var.same_as(held.loop_var):
            return found
        body = tirx.SeqStmt([*asked(found.loop_var), found.body])
        again = tirx.For(found.loop_var, found.min, found.extent, found.kind, body, annotations=found.annotations)
        rest = [line for place in range(inner, last) for line in asked(place)]
        return tirx.SeqStmt([*rest, again]) if rest else again

    function = s.mod["main"]
    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, with_prefetch)))
