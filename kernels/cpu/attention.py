"""Cached attention on CPUs: row by row, sums of a tile of keys on the stack, the weighted sum of values in registers."""

from __future__ import annotations

from typing import Any

from qcompiler.kernels.common.attention import DEPTH, PREFIX


def is_attention(s: Any) -> bool:
    """True for a kernel of `targets/tvm/attention.py`."""
    return any(name.startswith(PREFIX) for name in _names(s))


def _names(s: Any) -> list[str]:
    return [str(s.get(block).name_hint) for block in s.get_child_blocks(s.get_sblock("root"))]


def schedule(s: Any) -> None:
    """Place the stages and make vectors."""
    out = s.get_sblock("out")
    row, column = s.get_loops(out)
    names = [name for name in _names(s) if name != "out"]
    for name in reversed(names):
        kind = name.removeprefix(PREFIX)
        block = s.get_sblock(name)
        if kind.startswith("sums"):
            scores = s.get_sblock(f"{PREFIX}scores{kind.removeprefix('sums').partition('_')[0]}")
            s.compute_at(block, s.get_loops(scores)[-2], preserve_unit_loops=True)  # its loop over tiles
        else:
            s.compute_at(block, row, preserve_unit_loops=True)
    s.parallel(row)
    for name in names:
        _vectors(s, s.get_sblock(name), name.removeprefix(PREFIX))
    _, lane = s.split(column, [None, DEPTH])
    s.vectorize(lane)


def _vectors(s: Any, block: Any, kind: str) -> None:
    if kind.startswith(("sums", "exps")):
        s.vectorize(s.get_loops(block)[-1])
    elif kind == "held":
        _, lane = s.split(s.get_loops(block)[-1], [None, DEPTH])
        s.vectorize(lane)
    elif kind.endswith("_places"):
        *_, place, o = s.get_loops(block)
        s.reorder(o, place)
        s.vectorize(place)
        s.vectorize(s.get_loops(s.decompose_reduction(block, o))[-1])
    elif kind.startswith("mixed"):
        *_, c, o, i = s.get_loops(block)
        part, lane = s.split(c, [None, DEPTH])
        s.reorder(o, i, part, lane)
        s.vectorize(lane)
        zeros = s.get_loops(s.decompose_reduction(block, o))
        s.vectorize(zeros[-1])
        s.unroll(zeros[-2])
        s.unroll(part)
