"""Models that arrive quantized: their scales are kept, so only the rest of the pipeline runs.

What the file leaves in float stays so. The figures of the report compare with the float form of the same program:
dequantized weights, real activations.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcompiler.ir import Graph
    from qcompiler.passes.base import Context, Pass, Step
    from qcompiler.recipe import Recipe

logger = logging.getLogger(__name__)
LOWERING = "lower_to_quantized"
"""The step of a pipeline that ends at level QUANTIZED, where an imported model joins it."""


def is_imported(graph: Graph) -> bool:
    """True for a captured graph that is quantized already."""
    from qcompiler.ir import Level

    return graph.level is not Level.FLOAT


def as_imported(recipe: Recipe) -> Recipe:
    """The recipe that says what is done: nothing is calibrated, assigned or rounded."""
    logger.warning(
        "the model is quantized already: its scales are kept, and recipe %r is not applied", recipe.name
    )
    return recipe.with_changes(
        {"name": "as imported", "description": "scales of the imported model", "scheme": "float", "rules": [], "ignore": []}
    )


def after_lowering(passes: Sequence[Pass]) -> list[Pass]:
    """The steps of a target's pipeline that take a quantized program."""
    names = [step.name for step in passes]
    return list(passes[names.index(LOWERING) + 1 :]) if LOWERING in names else []


def bring_in(
    captured: Graph, context: Context, after: Callable[[Graph, Step], None] | None, each: bool
) -> tuple[Graph, Graph, list[Step]]:
    """(integer program, float form, steps) of a captured quantized model."""
    from qcompiler.passes.base import run_passes
    from qcompiler.passes.canonicalize import canonicalize_passes
    from qcompiler.passes.quantize.float_form import float_form
    from qcompiler.passes.quantize.fuse_qdq import FuseQdq

    steps: list[Any] = [FuseQdq(), *canonicalize_passes()]
    graph, done = run_passes(captured, steps, context, after, each)
    float_graph, _ = run_passes(float_form(captured), canonicalize_passes(), context)
    return graph, float_graph, done
