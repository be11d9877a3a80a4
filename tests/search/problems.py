"""Small search problems: a network, a target with several widths, data."""

from __future__ import annotations

import os
import time

from qcompiler.compilation import build_passes  # noqa: F401  loaded early: worker processes need it
from qcompiler.ir import DType, Graph
from qcompiler.passes.quantize.assign_precision import AssignPrecision
from qcompiler.passes.quantize.calibrate_activations import CalibrateActivations
from qcompiler.passes.rounding.correct_bias import CorrectBias
from qcompiler.passes.rounding.round_nearest import RoundNearest
from qcompiler.recipe import load_recipe
from qcompiler.search import costs
from qcompiler.search.evaluator import Evaluator
from qcompiler.search.fast import FastEvaluator
from qcompiler.search.goal import Goal
from qcompiler.search.groups import find_groups
from qcompiler.search.recipes import usual_knobs
from qcompiler.search.result import Settings
from qcompiler.search.space import Space
from qcompiler.search.store import Figure
from qcompiler.search.tuner import Tuner
from qcompiler.search.workers import Serial
from qcompiler.search.workload import Workload
from support.toy_networks import ToyKernel, ToyTarget, mobile_network, random_samples


class BitsTarget(ToyTarget):
    """A description with the pipeline that the fast path asks for; it emits nothing."""

    def pipeline(self, configs):
        steps = [AssignPrecision(configs.get("assign_precision")), CalibrateActivations(), RoundNearest(), CorrectBias()]
        return [s for s in steps if configs.get(s.name, ...) is not None]

    def quantizes(self, op):
        return op in self.kernels


def bits_target(*widths: int, capabilities=("accumulator_to_float", "float_islands", "dynamic_linear")) -> BitsTarget:
    table = ToyTarget().kernels
    for op in ("conv", "linear"):
        table[op] = tuple(ToyKernel(DType.uint8, DType[f"int{w}"], f"w{w}") for w in widths)
    table["dynamic_linear"] = (ToyKernel(None, DType.int8, "dynamic"),)
    return BitsTarget(kernels=table, capabilities=frozenset(capabilities))


def workload(graph: Graph | None = None, target=None, metric=None, seed: int = 0) -> Workload:
    graph = graph or mobile_network()
    data = [random_samples(graph, 8, s) for s in (1, 2, 3)]
    return Workload(graph, target or bits_target(8, 4, capabilities=("accumulator_to_float",)), load_recipe("w8a8"), *data, metric, seed)


def space_for(work: Workload, knobs: bool = False) -> Space:
    found = usual_knobs(len(work.calibration), work.recipe, work.target) if knobs else ()
    return Space(found, find_groups(work.graph, work.recipe, work.target))


def problem(**options) -> FastEvaluator:
    work = workload(**options)
    return FastEvaluator(work, space_for(work))


def cost_of(space: Space, config, name: str) -> float:
    """The formula of a cost, summed over the groups."""
    places = config[len(space.knobs) :]
    return float(sum(row[i] for row, i in zip(costs.tables(space, name), places, strict=True)))


class Exact:
    """In place of a compile: accuracy by fake quantization, size by formula; counts what it is asked for."""

    def __init__(self, fast: FastEvaluator) -> None:
        self.fast, self.calls = fast, 0

    def trial(self, config):
        self.calls += 1
        size = cost_of(self.fast.space, config, "size_bytes")
        values = {k: Figure(v, "measured") for k, v in self.fast.trial(config).items()}
        return {**values, "seconds": Figure(0.1, "measured"), "size_bytes": Figure(size, "measured")}


def tuner(study, evaluator: FastEvaluator, goal: Goal, workers=None, show=lambda p: None, **settings) -> Tuner:
    """A search on a toy problem whose final trials are simulated."""
    run = workers or Serial(evaluator)
    found = Tuner(evaluator, goal, study, run, Settings(**{"trials": 16, "generation": 4, **settings}), show)
    found.exact = Exact(evaluator)
    return found


class Sick(Evaluator):
    """Evaluators that fail at the configurations whose last group is at its last choice."""

    def __init__(self, workload: Workload, space: Space) -> None:
        self.fast = FastEvaluator(workload, space)

    def trial(self, config):
        if config[-1] == len(self.fast.space.groups[-1].choices) - 1:
            self.fail()
        return self.fast.trial(config)

    def fail(self):
        raise ValueError("sick")


class Hanging(Sick):
    def fail(self):
        time.sleep(60)


class Dying(Sick):
    def fail(self):
        os._exit(9)
