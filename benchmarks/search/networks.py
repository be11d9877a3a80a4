"""The networks of the search benchmark, captured, with three disjoint sets of data each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.workloads import WORKLOADS
from qcompiler.calibration import load_samples
from qcompiler.compilation import Request, build_passes, capture_model, split_passes
from qcompiler.ir import DType, Graph
from qcompiler.passes.base import Context, run_passes
from qcompiler.recipe import load_recipe
from qcompiler.search.workload import Workload
from qcompiler.targets import Kernel, Target, get_target

SMALL = ("resnet8", "ds_cnn", "mobilenet_v1_025", "autoencoder", "vit_tiny_fmnist")
NETWORKS = ("efficientnet-lite0", "minilm-l6", *SMALL)
RECIPE = load_recipe("w8a8").with_changes({"rounding": "nearest", "equalize": False, "never_slower": False})


def study_target(*weight_bits: int) -> Target:
    """8-bit activations, unsigned or signed, and weights of some widths: a description for simulation only."""
    portable = get_target("onnx")
    kernels = dict(portable.kernels)
    for op in ("conv", "linear"):
        kernels[op] = tuple(
            Kernel(f"simulated {a.name} x int{w}", a, DType[f"int{w}"])
            for w in weight_bits
            for a in (DType.uint8, DType.int8)
        )
    return replace(
        portable, name="study", kernels=kernels, capabilities=frozenset({"float_islands", "accumulator_to_float"})
    )


@dataclass(frozen=True)
class Network:
    """A captured network: graph at level FLOAT, and samples per split, each one input tuple with batch 1."""

    name: str
    graph: Graph
    calibration: list[tuple[np.ndarray, ...]]
    search: list[tuple[np.ndarray, ...]]
    report: list[tuple[np.ndarray, ...]]

    def workload(self, target: Target, seed: int = 0) -> Workload:
        """The search problem."""
        parts = [load_samples(part, self.graph) for part in (self.calibration, self.search, self.report)]
        return Workload(self.graph, target, RECIPE, *parts, None, seed)


def load(name: str) -> Network:
    """Capture a network and read its data."""
    module, example, parts = (_SPECIAL.get(name) or _small)(name)
    import torch

    batch = torch.export.Dim("batch", min=1, max=1024)
    inputs = tuple(torch.cat([x, x]) for x in example)  # a batch of one would be taken for a constant
    request = Request(module, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    captured, _ = capture_model(request)
    target = get_target("onnx")
    graph, _ = run_passes(captured, split_passes(build_passes(RECIPE, target))[0], Context(target=target))
    return Network(name, graph, *parts)


def _efficientnet(name: str) -> tuple[Any, Any, list[Any]]:
    module, example = WORKLOADS[name].load()
    judged = data.crops("evaluation", 7 * 7, seed=1)  # the photographs take turns: 7 of them
    split = [judged[[i for i in range(len(judged)) if i % 7 in chosen]] for chosen in ((0, 1, 2, 3), (4, 5, 6))]
    arrays = [data.crops("calibration", 512, seed=0), *split]
    return module, example, [[(x[None],) for x in part] for part in arrays]


def _minilm(name: str) -> tuple[Any, Any, list[Any]]:
    from benchmarks.workloads import _tokens

    module, example = WORKLOADS[name].load()
    fitted, judged = _tokens("calibration", 512, 0, pad=True), _tokens("evaluation", 32, 1, pad=True)
    tuples = [[(s["input_ids"], s["attention_mask"]) for s in part] for part in (fitted, judged[:16], judged[16:])]
    return module, example, tuples


def _small(name: str) -> tuple[Any, Any, list[Any]]:
    from benchmarks.models import MODELS

    model = MODELS[name]
    module, example = model.load()
    judged = model.evaluation(512)[0]
    return module, example, [[(x[None],) for x in part] for part in (model.calibration(512), judged[:256], judged[256:])]


_SPECIAL: dict[str, Callable[[str], tuple[Any, Any, list[Any]]]] = {
    "efficientnet-lite0": _efficientnet,
    "minilm-l6": _minilm,
}
