"""Analytic costs by group and choice: bytes of weights, and times and RAM to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from qcompiler.search.choices import Choice
    from qcompiler.search.groups import Group
    from qcompiler.search.space import Space

# Products per unit of time beside float32, on a CPU with 8-bit multiply-add. A prior: measurements correct it.
_SPEED = {"float": 1.0, "static": 2.0, "dynamic": 1.7, "weight_only": 1.0}
_PER_BYTE = 4.0
"""Products that take as long as the transfer of one byte of weights."""


def weight_bytes(group: Group, choice: Choice) -> float:
    """Bytes of the weights with their float32 scales (and a byte of zero point each where they are in groups)."""
    if choice.scheme == "float":
        return 4.0 * group.weights
    scales = group.channels if choice.per_channel else len(group.members)
    if choice.group_size:
        scales = group.weights / choice.group_size
    return group.weights * choice.weight_bits / 8 + 4.0 * scales


def time_units(group: Group, choice: Choice) -> float:
    """Float32 products that take as long; only ratios mean something."""
    narrow = 1.0 if choice.weight_bits >= 8 else 1.1  # unpacking
    return group.macs / _SPEED[choice.scheme] * narrow + _PER_BYTE * weight_bytes(group, choice)


def activation_units(group: Group, choice: Choice) -> float:
    """Width of what a group reads: which buffers live together is not known here, so that every group counts one."""
    return choice.activation_bits / 8


COSTS = {
    "size_bytes": weight_bytes,
    "latency_ms": time_units,
    "latency_ratio": time_units,
    "instructions": time_units,
    "ram_bytes": activation_units,
}
FIGURES = frozenset(COSTS)
"""Figures of a trial that are costs."""


def tables(space: Space, name: str) -> list[np.ndarray]:
    """A cost by group and choice."""
    return [np.array([COSTS[name](g, c) for c in g.choices]) for g in space.groups]
