"""No silent fallback: what a compile refuses to leave unsaid about its coverage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from qcompiler.errors import ConstraintError, UnsupportedError, UsageError, did_you_mean

if TYPE_CHECKING:
    from qcompiler.ir import Graph
    from qcompiler.recipe import Recipe
    from qcompiler.targets import Emission, KernelChoice, Target


def refuse_unmatched(recipe: Recipe, graph: Graph) -> None:
    """Refuse patterns of `ignore` and `rules` that match no module.

    Raises UsageError naming the nearest module path: a pattern that silently does nothing is most often a
    typing error.
    """
    paths = sorted({node.origin.module for node in graph.nodes})
    for pattern in recipe.unmatched_patterns(paths):
        raise UsageError(
            f"recipe pattern {pattern!r} matches no module of the model.{did_you_mean(pattern, paths)}"
        )


def check_left_in_float(recipe: Recipe, target: Target, context: Any) -> None:
    """No silent fallback: an op left in float must be named by `allow`, by `ignore` or by a rule.

    `allow` takes names of ops and categories of the op table. Raises UnsupportedError listing the others.
    """
    from qcompiler.ir import get_op
    from qcompiler.passes.quantize.plan import FLOAT, KEPT_HEAD

    plan = context.tables.get("plan")
    if plan is None:
        return
    allowed = set(recipe.allow)
    put_back = set(
        context.tables.get("put_back", ())
    )  # measured to be faster in float; a decision of the lock
    schemes = context.tables.get("schemes", {})  # branches that a recipe's own step put beside integer layers
    silent = []
    for node, decided in plan.nodes.items():
        if decided.scheme != FLOAT or node in put_back or decided.reason == KEPT_HEAD:
            continue
        if schemes.get(node.origin.module) == FLOAT:
            continue
        if node.op in allowed or get_op(node.op).category in allowed:
            continue
        if not any(value.dtype.is_float for value in node.outputs):
            continue
        if recipe.settings_for(node.origin.module, node.op).scheme != "float":
            silent.append(f"  {node.where()}: {decided.reason}")
    if silent:
        raise UnsupportedError(
            f"{len(silent)} ops would stay in float and recipe {recipe.name!r} does not allow it:\n"
            + "\n".join(silent[:20])
            + "\nName the op in `allow`, or the module in `ignore`."
        )


BORDERS = frozenset({"quantize", "dequantize"})
"""Ops between real numbers and codes; they are no part of the user's model and do not count as coverage."""


def check_kernels(target: Target, emission: Emission, allow_slow: bool) -> None:
    """Something was quantized, by the kernels that the target would choose first.

    Raises:
        UnsupportedError: no op of the artefact computes in integers.
        ConstraintError: a slower kernel had to be taken, and `allow_slow` is not set.
    """
    if not any(is_integer(choice) for choice in emission.kernels if choice.op not in BORDERS):
        reasons = [f"  {c.op} at {c.module or '(top level)'}: {c.why}" for c in emission.kernels if c.why]
        raise UnsupportedError("\n".join(["nothing was quantized: no op of the artefact computes in integers", *reasons[:20]]))
    slow = [(choice, faster) for choice in emission.kernels if (faster := _faster_types(target, choice))]
    if slow and not allow_slow:
        lines = [
            f"  {c.op} at {c.module or '(top level)'}: {c.kernel} on {c.dtype}, slower than on {faster}. {c.why}".rstrip(" ")
            for c, faster in slow[:20]
        ]
        raise ConstraintError(
            f"{len(slow)} ops need a slower kernel than the target's first choice:\n"
            + "\n".join(lines)
            + "\nAccept them with allow_slow (--allow-slow), or keep these modules in float with `ignore`."
        )


def refuse_slow(emission: Emission, allow_slow: bool) -> None:
    """Refuse kernels that the machine computes slowly for want of an instruction, unless that is accepted.

    Raises:
        ConstraintError: naming the kernels.
    """
    slow = [choice for choice in emission.kernels if choice.slow]
    if slow and not allow_slow:
        lines = [f"  {c.op} at {c.module or '(top level)'}: {c.kernel}: {c.slow}" for c in slow[:20]]
        raise ConstraintError(
            f"{len(slow)} ops would get slow kernels:\n" + "\n".join(lines) + "\nAccept them with allow_slow (--allow-slow)."
        )


def is_integer(choice: KernelChoice) -> bool:
    """True if the op computes on codes."""
    return re.search(r"int[2-8]\b", choice.dtype) is not None


def _faster_types(target: Target, choice: KernelChoice) -> str:
    """Types of the same widths, which the recipe asked for, that the op table lists earlier for the same kernel; "" if none."""
    listed = [kernel for kernel in target.kernels.get(choice.op, ()) if kernel.name == choice.kernel]
    types = [[t for t in (k.activation, k.weight) if t is not None] for k in listed]
    names = [" x ".join(t.name for t in kinds) for kinds in types]
    if choice.dtype not in names:
        return ""
    own = names.index(choice.dtype)
    widths = [t.bits for t in types[own]]
    return next((name for name, kinds in zip(names, types[:own], strict=False) if [t.bits for t in kinds] == widths), "")
