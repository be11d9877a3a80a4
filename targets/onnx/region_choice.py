"""Which layers to compute in integers, given what each costs either way: a minimum cut.

Layers are on one of two sides, real or integer; a layer costs its time on its side, and a value that crosses costs
its conversion. The cheapest assignment of such a sum is a minimum s-t cut (Greig, Porteous and Seheult 1989,
section 2), which networkx finds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import networkx

REAL, INTEGER = "real side", "integer side"


@dataclass(frozen=True)
class Layer:
    """Times of one layer in ms; `movable` is False for what computes on real numbers anyway."""

    real_ms: float
    integer_ms: float
    movable: bool = True


def cheapest_real(
    layers: Mapping[Hashable, Layer], crossings: Iterable[tuple[Hashable, Hashable, float]]
) -> tuple[set[Hashable], float]:
    """Layers that are cheaper on real numbers, all things counted.

    Args:
        layers: by key.
        crossings: (producer, reader, ms if they are on different sides).

    Returns:
        The keys to compute on real numbers, and the ms that saves against all of them in integers.
    """
    view = networkx.DiGraph()
    view.add_nodes_from((REAL, INTEGER))
    for key, layer in layers.items():
        # an arc is cut where its tail is on the real (source) side and its head on the integer (sink) side
        view.add_edge(REAL, key, capacity=layer.integer_ms if layer.movable else float("inf"))
        view.add_edge(key, INTEGER, capacity=layer.real_ms if layer.movable else 0.0)
    for a, b, cost in crossings:
        for tail, head in ((a, b), (b, a)):
            before = view.edges[tail, head]["capacity"] if view.has_edge(tail, head) else 0.0
            view.add_edge(tail, head, capacity=before + cost)
    least, (real_side, _) = networkx.minimum_cut(view, REAL, INTEGER)
    immovable = {REAL, *(key for key, layer in layers.items() if not layer.movable)}
    all_integer = sum(c for a, b, c in view.edges.data("capacity") if a in immovable and b not in immovable)
    return {key for key in layers if key in real_side and layers[key].movable}, float(all_integer - least)
