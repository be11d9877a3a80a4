"""Small search problems: a network, a target with several widths, data."""

from __future__ import annotations

from qcompiler.compilation import build_passes  # noqa: F401  loaded early: worker processes need it
from qcompiler.ir import DType, Graph
from qcompiler.passes.quantize.assign_precision import AssignPrecision
from qcompiler.passes.quantize.calibrate_activations import CalibrateActivations
from qcompiler.passes.rounding.correct_bias import CorrectBias
from qcompiler.passes.rounding.round_nearest import RoundNearest
from qcompiler.recipe import load_recipe
from qcompiler.search.fast import FastEvaluator
from qcompiler.search.groups import find_groups
from qcompiler.search.recipes import usual_knobs
from qcompiler.search.space import Space
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
    found = usual_knobs(len(work.calibration), work.recipe) if knobs else ()
    return Space(found, find_groups(work.graph, work.recipe, work.target))


def problem(**options) -> FastEvaluator:
    work = workload(**options)
    return FastEvaluator(work, space_for(work))
