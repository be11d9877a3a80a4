"""Models that arrive quantized: their scales are kept, so only the rest of the pipeline runs.

What the file leaves in float stays so. The figures of the report compare with the float form of the same program:
dequantized weights, real activations.

An integer-only ONNX file of ours has no scales in it. Its program lies beside it in the artefact folder; it is taken
from there if the file is, byte for byte, what that program is written as.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.artifact import FLOAT_FOLDER, GRAPH_NAME, WEIGHTS_NAME
from qcompiler.errors import UsageError
from qcompiler.graph_files import read_graph
from qcompiler.lock import LOCK_NAME

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Level
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


def after_lowering(passes: Sequence[Pass], level: Level) -> list[Pass]:
    """The steps of a target's pipeline that take a program of this level."""
    from qcompiler.ir import Level

    names = [step.name for step in passes]
    rest = list(passes[names.index(LOWERING) + 1 :]) if LOWERING in names else []
    return [step for step in rest if Level.INTEGER in step.requires] if level is Level.INTEGER else rest


def integer_program(model: Any) -> tuple[Graph, Graph] | tuple[None, None]:
    """(program, float model) of an integer-only artefact that `model` is the file of; Nones for other models.

    Raises:
        UsageError: the file was changed, or lies in no whole artefact folder.
    """
    from qcompiler.frontend.capture import is_onnx

    if not isinstance(model, (str, os.PathLike)) or not is_onnx(model) or not os.path.isfile(model):
        return None, None
    from qcompiler.frontend.onnx import metadata_of

    path = Path(model)
    found = metadata_of(path)
    if found.get("level") != "integer":
        return None, None
    kept = path.parent / FLOAT_FOLDER
    if not (path.parent / LOCK_NAME).is_file() or not kept.is_dir():
        raise UsageError(
            f"{path} holds integers only, and no scales; it is read in its artefact folder, beside {GRAPH_NAME},"
            f" {WEIGHTS_NAME}, {LOCK_NAME} and {FLOAT_FOLDER}/"
        )
    program = read_graph(path.parent / GRAPH_NAME, path.parent / WEIGHTS_NAME)
    _check_written(program, path, found)
    return program, read_graph(kept / GRAPH_NAME, kept / WEIGHTS_NAME)


def _check_written(program: Graph, path: Path, metadata: dict[str, str]) -> None:
    """The same program gives the same bytes."""
    from qcompiler.targets import get_target

    target = get_target(metadata.get("target", ""))
    with tempfile.TemporaryDirectory() as folder:
        target.emit(program, Path(folder), metadata)
        written = (Path(folder) / target.artefact).read_bytes()
    if written != path.read_bytes():
        raise UsageError(f"{path} is not what {GRAPH_NAME} beside it says; it was changed, or written by another version")


def bring_in(
    captured: Graph,
    context: Context,
    after: Callable[[Graph, Step], None] | None,
    each: bool,
    float_graph: Graph | None = None,
) -> tuple[Graph, Graph, list[Step]]:
    """(program, float form, steps) of a captured quantized model; `float_graph` is the float form if it is known."""
    if float_graph is not None:
        return captured, float_graph, []
    from qcompiler.passes.base import run_passes
    from qcompiler.passes.canonicalize import canonicalize_passes
    from qcompiler.passes.canonicalize.widen_half import WidenHalf
    from qcompiler.passes.quantize.float_form import float_form
    from qcompiler.passes.quantize.fuse_qdq import FuseQdq

    wide, first = run_passes(captured, [WidenHalf()], context, after, each)
    steps: list[Any] = [FuseQdq(), *canonicalize_passes()]
    graph, done = run_passes(wide, steps, context, after, each)
    float_graph, _ = run_passes(float_form(wide), canonicalize_passes(), context)
    return graph, float_graph, [*first, *done]
