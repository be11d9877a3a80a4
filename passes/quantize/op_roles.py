"""What each op can do on codes. Names of the op table; which of them a target has a kernel for is the target's matter."""

from __future__ import annotations

from qcompiler.ir import Node

PRODUCTS = frozenset({"conv", "linear"})
"""Products with a constant weight: they decide where integers begin."""

LIMITS = frozenset({"relu", "clip"})
"""Limits of the number range, which a requantize applies for nothing."""

MOVEMENT = frozenset(
    {"reshape", "transpose", "expand", "slice", "pad", "gather", "gather_elements", "flip",
     "max_pool", "reduce_max", "reduce_min", "resize"}
)
"""The result consists of elements of operand 0 (or of real 0), so it keeps that operand's parameters."""

SUMS = frozenset({"add"})
MEANS = frozenset({"reduce_mean"})
JOINS = frozenset({"concat"})
FOLLOWERS = LIMITS | MOVEMENT | SUMS | MEANS | JOINS
"""Ops that compute on codes where their operands are codes already."""

CHEAP = LIMITS | MOVEMENT | MEANS
"""Followers that lose nothing, or next to nothing, on codes."""

KERNELS = {"add": "requantize_sum", "relu": "requantize", "clip": "requantize"}
"""The op that a follower becomes, where that is not the op itself: what the target must have a kernel for."""

FIXED_RANGES = {"softmax": (0.0, 1.0), "round_log2": (0.0, 1.0), "sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
"""Results whose range is known without data."""


def data_operands(node: Node) -> tuple[int, ...]:
    """Indices of the operands that are activations of the op: codes where the node computes in integers."""
    if node.op == "matmul":
        return (0, 1)
    if node.op in SUMS | JOINS:
        return tuple(range(len(node.inputs)))
    return (0,) if node.inputs else ()


def clip_limits(node: Node) -> tuple[float | None, float | None]:
    """(low, high) that a relu or clip node imposes, None for no limit."""
    return (0.0, None) if node.op == "relu" else (node.attrs["min"], node.attrs["max"])


def movement_on_codes(node: Node) -> bool:
    """False for the forms of a movement op that compute new numbers."""
    return node.op != "resize" or bool(node.attrs["mode"] == "nearest")


def is_global_mean(node: Node) -> bool:
    """True for the mean over all spatial axes of [N, C, spatial...], of known sizes."""
    value = node.inputs[0]
    rank = len(value.shape) if value is not None else 0
    axes = sorted(a % rank for a in node.attrs["axes"]) if rank else []
    return rank > 2 and axes == list(range(2, rank)) and all(isinstance(value.shape[a], int) for a in axes)  # type: ignore[union-attr]
