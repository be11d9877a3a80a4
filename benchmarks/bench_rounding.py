"""What learned rounding gains over nearest codes on a few layers of pretrained networks.

    python -m benchmarks.bench_rounding                      all rows
    python -m benchmarks.bench_rounding --rows smollm2 --steps 200

EfficientNet-Lite0: the layers of one block in 4 bits, the rest in 8. SmolLM2: the linear layers of its first block in
4 bits, groups of 64, activations real. `unit error` is the power of the error of what is reconstructed (a layer, a block)
over that with nearest codes, on calibration samples that were not learned from; SQNR is that of the network's outputs
on the evaluation data.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qcompiler import metrics
from qcompiler.calibration import load_samples
from qcompiler.compilation import Request, build_passes, capture_model
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph
from qcompiler.passes.base import Context, Step, run_passes
from qcompiler.recipe import load_recipe
from qcompiler.targets import get_target

EVALUATED = 8
TOKENS = 128
"""Of a calibration sample of the language model."""


@dataclass(frozen=True)
class Case:
    """A network, its data, and which of its layers are learned.

    Attributes:
        title: for the table.
        load: graph, calibration and evaluation samples.
        recipe: with nearest codes.
        layers: pattern of the modules that are learned, and their settings.
        methods: roundings compared.
    """

    title: str
    load: Callable[[], tuple[Graph, list[Any], list[Any]]]
    recipe: dict[str, Any]
    layers: dict[str, Any]
    methods: Sequence[str]


def _efficientnet() -> tuple[Graph, list[Any], list[Any]]:
    from benchmarks.workloads import WORKLOADS

    workload = WORKLOADS["efficientnet-lite0"]
    with contextlib.redirect_stdout(sys.stderr):  # the package says that it has loaded its weights
        loaded = workload.load()
    graph, _ = capture_model(Request(*loaded))
    return graph, workload.calibration(), workload.evaluation()[:EVALUATED]


def _smollm2() -> tuple[Graph, list[Any], list[Any]]:
    from benchmarks.llm_rows import logits_module
    from benchmarks.smollm2 import calibration_windows, evaluation_windows

    sequence = {"input_ids": {1: torch.export.Dim("seq", min=2, max=512)}}
    example = (torch.zeros(1, 16, dtype=torch.long),)
    graph, _ = capture_model(Request(logits_module(), example, dynamic_shapes=sequence))
    calibration = [(window[:, :TOKENS],) for window in calibration_windows(16)]
    return graph, calibration, [(window[:, :TOKENS],) for window in evaluation_windows(EVALUATED)]


CASES = {
    "efficientnet": Case(
        "EfficientNet-Lite0, block 10, 4-bit weights",
        _efficientnet,
        {
            "base": "w8a8", "rounding": "nearest", "equalize": False, "smooth": False, "never_slower": False,
            "activation_range": {"method": "minmax"},
        },  # fmt: skip
        {"match": "_blocks.10", "ops": ["conv"], "weight_bits": 4},
        ("adaround", "brecq"),
    ),
    "smollm2": Case(
        "SmolLM2-135M, first block, W4 group 64",
        _smollm2,
        {"base": "w4a16", "rounding": "nearest"},
        {"match": "*layers.0"},
        ("autoround",),
    ),
}


def run(case: Case, graph: Graph, data: Any, method: str, steps: int) -> tuple[Any, Step | None]:
    """The plan with the case's layers rounded by `method`, and the step that did it."""
    settings = case.layers if method == "nearest" else {**case.layers, "rounding": method}
    changed = {} if method == "nearest" else {"passes": {f"round_{method}": {"steps": steps}}}
    target = get_target("onnx")
    recipe = load_recipe({**case.recipe, "rules": [settings], **changed})
    context = Context(target=target, samples=load_samples(data, graph))
    passes = [step for step in build_passes(recipe, target) if step.name != "lower_to_quantized"]
    _, done = run_passes(graph, passes, context)
    return context.tables["plan"], next((step for step in done if step.name == f"round_{method}"), None)


def outputs(graph: Graph, samples: Sequence[Any], plan: Any = None) -> np.ndarray:
    """The first output of every sample, flattened."""
    executor = TorchExecutor(graph)
    loaded = load_samples(list(samples), graph)
    return np.concatenate([np.asarray(executor.run(sample, plan=plan)[0]).ravel() for sample in loaded])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | rounding | unit error | SQNR, dB | seconds |")
    print("|---|---|---|---|---|", flush=True)
    for case in (CASES[name] for name in options.rows):
        graph, calibration, evaluation = case.load()
        exact = outputs(graph, evaluation)
        for method in ("nearest", *case.methods):
            start = time.process_time()
            plan, step = run(case, graph, calibration, method, options.steps)
            seconds = time.process_time() - start
            notes = () if step is None else step.notes
            ratios = {n.data["error_ratio"] for n in notes if "error_ratio" in n.data} or {1.0}
            unit = f"{min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else f"{ratios.pop():.2f}"
            sqnr = metrics.sqnr(exact, outputs(plan.graph, evaluation, plan))
            print(f"| {case.title} | {method} | {unit} | {sqnr:.2f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
