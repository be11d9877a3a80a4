"""Which pass brings how much: recipes that switch one thing after the other on, in fake quantization.

    python -m benchmarks.ablation [--models minilm-l6 smollm2] [--rows ...] [--samples N] [--anew]

W8A8 with static ranges per tensor. MiniLM in dB of the sentence embeddings, SmolLM2 in perplexity. Every row is what the
rows above it do, and what its name says; rows that say "instead" stand alone. The plan is run by the torch executor, so
no artefact is written and nothing is timed. Rows are kept in out/ablation as they are finished; `--anew` computes them
again.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path("out/ablation")
PLAIN: dict[str, Any] = {
    "base": "w8a8", "weight_range": "minmax", "activation_range": {"method": "minmax"}, "smooth": False,
    "bias_correction": False, "equalize": False, "never_slower": False, "round_embeddings": False,
}  # fmt: skip
MODERATE = {"smooth": "auto", "passes": {"split_channels": {"enabled": False}}}

MINILM: dict[str, Mapping[str, Any]] = {
    "min-max, nearest": {},
    "+ least-squares weight scales": {"weight_range": "mse"},
    "+ ranges by measured error": {"activation_range": {"method": "auto"}},
    "+ smoothing, folded": {"smooth": "auto", "passes": {"smooth_activations": {"multiply": False}}},
    "+ smoothing by a multiply behind GELU": {"passes": {}},
    "+ bias correction": {"bias_correction": True},
    "+ rotation of the value heads": {"passes": {"rotate_values": {}}},
    "layer norm reparameterization instead of smoothing": {
        "instead": True, "weight_range": "mse", "passes": {"reparameterize_layer_norm": {}}
    },
}  # fmt: skip
SMOLLM2: dict[str, Mapping[str, Any]] = {
    "min-max, nearest": {"keep_head": True},
    "+ least-squares weight scales": {"weight_range": "mse"},
    "+ smoothing": MODERATE,
    "+ splitting of massive channels": {"passes": {}},
    "+ scheme by site": {"scheme": "auto", "granularity": "token"},
    "rotation of stream and values instead of smoothing": {
        "instead": True, "keep_head": True, "weight_range": "mse", "passes": {"rotate_residual": {}, "rotate_values": {}}
    },
}  # fmt: skip


def recipes(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Row -> recipe, with what the rows above it changed."""
    found, current = {}, dict(PLAIN)
    for name, changes in rows.items():
        own = {k: v for k, v in changes.items() if k != "instead"}
        if changes.get("instead"):
            found[name] = {**PLAIN, **own}
        else:
            current = {**current, **own}
            found[name] = current
    return found


class Minilm:
    """SQNR of sentence embeddings."""

    unit, rows, default = "dB", MINILM, 64

    def __init__(self, samples: int) -> None:
        from benchmarks.workloads import WORKLOADS
        from qcompiler.compilation import Request, capture_model

        self.workload = WORKLOADS["minilm-l6"]
        model, example = self.workload.load()
        shapes = self.workload.dynamic_shapes()
        self.graph = capture_model(Request(model, example, dynamic_shapes=shapes))[0]
        self.calibration = self.workload.calibration()
        self.evaluation = self.workload.evaluation()[:samples]
        self.expected = self._outputs(self.graph, None)

    def _outputs(self, graph: Any, plan: Any) -> list[np.ndarray]:
        from qcompiler.executors.torch_executor import TorchExecutor

        executor = TorchExecutor(graph)
        return [np.asarray(executor.run([s[n] for n in self.workload.inputs], plan=plan)[0]) for s in self.evaluation]

    def judge(self, graph: Any, plan: Any) -> float:
        """DB."""
        return self.workload.score(self.expected, self._outputs(graph, plan), self.evaluation)["sqnr_db"]


class Smollm2:
    """Perplexity on the first windows of the text."""

    unit, rows, default = "perplexity", SMOLLM2, 12

    def __init__(self, samples: int) -> None:
        import torch

        from benchmarks.llm_rows import logits_module
        from benchmarks.smollm2 import WINDOW, calibration_windows, evaluation_windows
        from qcompiler.compilation import Request, capture_model

        shapes = {"input_ids": {1: torch.export.Dim("seq", min=2, max=WINDOW)}}
        example = (torch.zeros(1, 16, dtype=torch.long),)
        self.graph = capture_model(Request(logits_module(), example, dynamic_shapes=shapes))[0]
        self.calibration = [(w,) for w in calibration_windows()]
        self.windows = evaluation_windows(samples)

    def judge(self, graph: Any, plan: Any) -> float:
        """Perplexity."""
        from benchmarks.llm_rows import perplexity
        from qcompiler.executors.torch_executor import TorchExecutor

        executor = TorchExecutor(graph)
        return perplexity(lambda ids: np.asarray(executor.run([ids], plan=plan)[0]), self.windows)


MODELS: dict[str, Callable[[int], Any]] = {"minilm-l6": Minilm, "smollm2": Smollm2}


def quantized(model: Any, recipe: Mapping[str, Any]) -> tuple[Any, Any]:
    """The transformed graph and the finished plan of a recipe."""
    from qcompiler.calibration import load_samples
    from qcompiler.compilation import build_passes
    from qcompiler.passes.base import Context, run_passes
    from qcompiler.recipe import load_recipe
    from qcompiler.targets import get_target

    target = get_target("onnxruntime-cpu")
    passes = [p for p in build_passes(load_recipe(recipe), target) if p.name != "lower_to_quantized"]
    context = Context(target=target, samples=load_samples(model.calibration, model.graph))
    graph, _ = run_passes(model.graph, passes, context)
    return graph, context.tables["plan"]


def run(name: str, wanted: list[str] | None, samples: int | None, anew: bool) -> tuple[str, dict[str, float]]:
    """Figures of the rows of one model, from disk where they are."""
    kind = MODELS[name]
    count = samples or kind.default
    model = None
    figures: dict[str, float] = {}
    for row, recipe in recipes(kind.rows).items():
        if wanted and row not in wanted:
            continue
        file = FOLDER / name / f"{row.replace(' ', '-').replace(',', '').replace('+', 'and')}-{count}.json"
        if anew or not file.is_file():
            print(f"{name}: {row}", file=sys.stderr, flush=True)
            model = model or kind(count)
            value = model.judge(*quantized(model, recipe))
            gc.collect()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"value": value, "samples": count}))
        figures[row] = json.loads(file.read_text())["value"]
    return kind.unit, figures


def table(name: str, unit: str, figures: Mapping[str, float]) -> str:
    """Markdown."""
    lines = [f"| {name} | {unit} |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {row} | {value:.2f} |" for row, value in figures.items())])


def main() -> None:
    """Run or show the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rows", nargs="+", help="only these, by their names in the table")
    parser.add_argument("--samples", type=int, help="sentences (64) or windows (12) to judge on")
    parser.add_argument("--anew", action="store_true", help="compute the rows again")
    options = parser.parse_args()
    for name in options.models:
        unit, figures = run(name, options.rows, options.samples, options.anew)
        print(table(name, unit, figures) + "\n", flush=True)


if __name__ == "__main__":
    main()
