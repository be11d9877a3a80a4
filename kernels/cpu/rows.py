"""Everything that is no product: row reductions, pools, depthwise convolutions, copies, elementwise kernels.

The stages of a kernel are computed for one row of the output at a time, so that what lies between them stays in the
first cache level; the innermost loop runs over whole vectors.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

PARALLEL_ELEMENTS = 1 << 15


def schedule(s: Any, by_rows: bool, vector: int) -> None:
    """Schedule the stages of a kernel.

    Args:
        s: TVM's schedule, whose last stage is `out`.
        by_rows: the first axis of the output are rows that every other stage shares.
        vector: elements per step of the innermost loop.
    """
    out = s.get_sblock("out")
    others = [b for b in s.get_child_blocks(s.get_sblock("root")) if s.get(b).name_hint != "out"]
    loops = s.get_loops(out)
    row = s.fuse(*loops[:-1]) if len(loops) > 1 and not others else loops[0]
    if others:
        for block in reversed(others):
            s.compute_at(block, row, preserve_unit_loops=True)
    last = s.get_loops(out)[-1]
    extent = s.get(last).extent
    size = int(extent) if isinstance(extent, tirx.IntImm) else 0
    if len(loops) > 1 and _elements(s, loops) >= PARALLEL_ELEMENTS:
        s.parallel(row)
    if size % vector == 0 and size:
        _, inner = s.split(last, [None, vector])
        s.vectorize(inner)


def _elements(s: Any, loops: Any) -> int:
    return 0
