"""The first pass of a compile whose error exceeds a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.compilation import Data, Request, build_passes, capture_model
from qcompiler.evaluation import evaluate
from qcompiler.named_metrics import Pair
from qcompiler.recipe import load_recipe

if TYPE_CHECKING:
    from qcompiler.evaluation import Outputs
    from qcompiler.ir import Graph
    from qcompiler.passes.base import Context, Step


@dataclass(frozen=True)
class PassError:
    """Error after one pass, against the captured model on one sample.

    Attributes:
        name: of the pass.
        kind: `exact` or `lossy`.
        sqnr_db: signal to noise of the outputs; inf if they are equal.
        max_rel: max|a-b| / max|b| over all outputs.
        exceeds: an exact pass adds more than the bound on `max_rel`, or a lossy one falls below that on `sqnr_db`.
    """

    name: str
    kind: str
    sqnr_db: float
    max_rel: float
    exceeds: bool


def bisect_passes(request: Request, min_sqnr: float, max_rel: float) -> list[PassError]:
    """Run the pipeline and compare the outputs after every pass; stops after the first that exceeds its bound.

    Exact passes are compared with the graph before them, so that one bad pass is not blamed on those after it.
    """
    from qcompiler.passes.base import Context, Kind, run_passes
    from qcompiler.targets import get_target

    recipe = load_recipe(request.recipe)
    target = get_target(request.target)
    passes = build_passes(recipe, target)
    graph, examples = capture_model(request)
    data = Data.load(request, recipe, graph, examples)
    context = Context(target=target, samples=data.calibration, seed=request.seed)
    sample = data.evaluation[0]
    expected = _outputs(graph, context, sample)
    before = expected
    errors: list[PassError] = []

    for step in passes:
        graph, done = run_passes(graph, [step], context)
        got = _outputs(graph, context, sample)
        exact = done[0].kind is Kind.EXACT and not _has_codes(context)
        errors.append(_error(done[0], got, before if exact else expected, exact, min_sqnr, max_rel))
        if errors[-1].exceeds:
            break
        before = got
    return errors


def _has_codes(context: Context) -> bool:
    """True once the plan rounds something: what follows changes the function, whatever the pass calls itself."""
    plan = context.tables.get("plan")
    return plan is not None and bool(plan.activations or plan.weights)


def _outputs(graph: Graph, context: Context, sample: Any) -> Outputs:
    from qcompiler.executors.reference import run_reference
    from qcompiler.executors.tensors import to_array
    from qcompiler.executors.torch_executor import TorchExecutor
    from qcompiler.ir import Level

    if graph.level is not Level.FLOAT:
        return run_reference(graph, sample)
    plan = context.tables.get("plan") if _has_codes(context) else None
    plan = plan if plan is not None and plan.graph is graph else None
    return [to_array(t) for t in TorchExecutor(graph).run(sample, plan=plan)]


def _error(
    step: Step, got: Outputs, expected: Outputs, exact: bool, min_sqnr: float, max_rel: float
) -> PassError:
    sqnr = evaluate([Pair(got, expected)]).sqnr_db
    floats = [(a, b) for a, b in zip(got, expected, strict=True) if b.dtype.kind == "f"]
    worst = max((_relative(a, b) for a, b in floats), default=0.0)
    exceeds = worst > max_rel if exact else sqnr < min_sqnr
    return PassError(step.name, step.kind.value, sqnr, worst, exceeds)


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    largest = float(np.abs(expected).max(initial=0))
    worst = float(np.abs(got.astype(np.float64) - expected).max(initial=0))
    return worst / largest if largest else worst
