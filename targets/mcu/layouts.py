"""Order of a tensor's axes in memory.

An order is a permutation of the logical axes: row-major over `shape[order[0]], shape[order[1]], ...`. `(0, 1, 2, 3)`
is plain, `(0, 2, 3, 1)` is channels last for [N, C, H, W]. Moving axes about changes the order and copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Order = tuple[int, ...]


def plain(rank: int) -> Order:
    """Row-major in the logical order."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """[N, C, spatial...] with the channels innermost."""
    return (0, *range(2, rank), 1) if rank > 2 else plain(rank)


def equivalent(a: Order, b: Order, shape: Sequence[int]) -> bool:
    """True if both orders give the same bytes: axes of size 1 lie anywhere."""
    return [i for i in a if shape[i] != 1] == [i for i in b if shape[i] != 1]


def transposed(order: Order, perm: Sequence[int]) -> Order:
    """Order of the same bytes seen through `transpose(perm)`."""
    return tuple(perm.index(axis) for axis in order)


def strides(shape: Sequence[int], order: Order) -> tuple[int, ...]:
    """Elements between neighbours along each logical axis."""
    result = [0] * len(order)
    step = 1
    for axis in reversed(order):
        result[axis] = step
        step *= shape[axis]
    return tuple(result)


def reshaped(order: Order, before: Sequence[int], after: Sequence[int]) -> Order | None:
    """Order of the same bytes seen through a reshape; None where the reshape has to move them.

    Both shapes are cut into the shortest runs of axes with equal products. A run can be split or merged where it
    lies together and in order in memory.
    """
    runs = _runs(before, after)
    if runs is None:
        return order if equivalent(order, plain(len(before)), before) and len(before) == len(after) else None
    significant = [axis for axis in order if before[axis] != 1]
    position = {axis: i for i, axis in enumerate(significant)}
    placed: list[tuple[float, list[int]]] = []
    for olds, news in runs:
        kept = [axis for axis in olds if before[axis] != 1]
        if not kept:
            placed.append((-1.0, list(news)))
            continue
        if [position[axis] for axis in kept] != list(range(position[kept[0]], position[kept[0]] + len(kept))):
            return None
        placed.append((float(position[kept[0]]), list(news)))
    return tuple(axis for _, news in sorted(placed, key=lambda p: p[0]) for axis in news)


def _runs(before: Sequence[int], after: Sequence[int]) -> list[tuple[range, range]] | None:
    """Runs of axes of both shapes with equal products, in order; None for empty tensors."""
    if math.prod(before) == 0:
        return None
    runs, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        start_i, start_j = i, j
        left = right = 1
        while True:
            if left == right and (i > start_i or j > start_j):
                break
            if left <= right and i < len(before) or j == len(after):
                left *= before[i]
                i += 1
            else:
                right *= after[j]
                j += 1
        runs.append((range(start_i, i), range(start_j, j)))
    return runs
