"""Integer-only programs beside float and Q/DQ: accuracy, and integers that differ between runtime and reference.

    python -m benchmarks.bench_integer [--models minilm-l6] [--inputs 50] [--json FILE]

SQNR is that of the first output against the float model, on data that no one calibrated with, padding left out; of a
sentence encoder, whose first output has a row per token, also that of the embeddings, means over the tokens of length 1.
`differing` counts integers of all outputs, over `--inputs` samples, that ONNX Runtime (graph optimizations off and
on) gives otherwise than the reference interpreter.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import MODELS
from benchmarks.workloads import WORKLOADS
from qcompiler import metrics

Arrays = tuple[np.ndarray, ...]
ROWS = {"w8a8": "Q/DQ in ONNX Runtime", "w8a8-int": "integer only, dyadic", "w8a8-pow2": "integer only, powers of two"}


@dataclass(frozen=True)
class Case:
    """A model with data.

    Attributes:
        title: for the table.
        load: module and example inputs.
        shapes: dynamic shapes of torch.export.
        calibration, evaluation: samples, each a tuple of arrays with a batch axis of 1.
        labels: classes of the evaluation samples, None where accuracy is SQNR alone.
        embedded: figures of what users make of the first outputs, (float, quantized) -> name: value; None where they
            take them as they are.
    """

    title: str
    load: Callable[[], tuple[Any, tuple[Any, ...]]]
    shapes: Any
    calibration: Sequence[Arrays]
    evaluation: Sequence[Arrays]
    labels: np.ndarray | None = None
    embedded: Callable[[list[np.ndarray], list[np.ndarray]], dict[str, float]] | None = None


def case_of(name: str, inputs: int) -> Case:
    """One of the benches' models, or of the small trained networks (1,000 test images)."""
    if name in WORKLOADS:
        w = WORKLOADS[name]
        samples = w.evaluation()
        chosen = samples[:: max(1, len(samples) // inputs)][:inputs]
        calibration, evaluation = ([tuple(s[k] for k in w.inputs) for s in part] for part in (w.calibration(), chosen))
        embedded = (lambda real, found: w.score(real, found, chosen)) if w.transformer else None
        return Case(w.title, w.load, w.dynamic_shapes(), calibration, evaluation, embedded=embedded)
    model = MODELS[name]
    images, labels = model.evaluation()
    labels_of = labels if model.metric == "top1" else None
    return Case(model.title, model.load, None, _split(model.calibration(64)), _split(images), labels_of)


def _split(images: np.ndarray) -> list[Arrays]:
    return [(image[None],) for image in images]


def kept(sample: Arrays, output: np.ndarray) -> np.ndarray:
    """The output without padding tokens, where the second input is a mask of the first's shape."""
    masked = len(sample) > 1 and sample[1].shape == sample[0].shape and output.shape[:2] == sample[1].shape
    return output[sample[1] > 0] if masked else output


def bench(case: Case, recipe: str, inputs: int, folder: Path) -> dict[str, Any]:
    """Figures of one recipe."""
    import qcompiler as qc
    from qcompiler.boundary import dequantize_outputs, quantize_inputs
    from qcompiler.executors.reference import run_reference

    module, example = case.load()
    how = {"base": recipe, "name": recipe, "never_slower": False}
    compiled = qc.compile(
        module, example, target="onnx", recipe=how, calibration=case.calibration, dynamic_shapes=case.shapes,
        evaluation=case.evaluation[:2],
    )  # fmt: skip
    compiled.save(folder, force=True)
    integer = compiled.graph.level.value == "integer"
    sessions = [compiled.target.open(folder, 1, optimize) for optimize in (True, False)]
    real, found, differing = [], [], 0
    for index, sample in enumerate(case.evaluation):
        codes = quantize_inputs(compiled.graph, sample)
        got = sessions[0].run(codes)
        if integer and index < inputs:
            expected = run_reference(compiled.graph, codes)
            for outputs in (got, sessions[1].run(codes)):
                differing += sum(int((a != b).sum()) for a, b in zip(outputs, expected, strict=True))
        real.append(_float_output(module, sample))
        found.append(dequantize_outputs(compiled.graph, got)[0])
    tokens = [np.concatenate([kept(*pair) for pair in zip(case.evaluation, part, strict=True)]) for part in (real, found)]
    figures: dict[str, Any] = {"sqnr_db": metrics.sqnr(*tokens)}
    if case.embedded is not None:
        figures |= {f"embedding_{name}": value for name, value in case.embedded(real, found).items()}
    if case.labels is not None:
        figures |= {"top1_float": _top1(real, case.labels), "top1": _top1(found, case.labels)}
    if integer:
        figures |= {"differing": differing, "inputs": min(inputs, len(case.evaluation)), **_proof(compiled)}
    return figures


def _float_output(module: Any, sample: Arrays) -> np.ndarray:
    import torch

    with torch.no_grad():
        output = module(*[torch.from_numpy(a) for a in sample])
    return np.asarray(output)


def _top1(outputs: list[np.ndarray], labels: np.ndarray) -> float:
    return float((np.concatenate(outputs).argmax(-1) == labels).mean())


def _proof(compiled: Any) -> dict[str, Any]:
    """The widest accumulator that the proof found, and the worst of the chosen nonlinear functions."""
    steps = {step.name: step for step in compiled.steps}
    bits = [n.data["bits_needed"] for n in steps["prove_ranges"].notes if n.reason == "accumulator"]
    errors = [n.data[f"{n.data['form']}_sqnr_db"] for n in steps["integerize"].notes if "form" in n.data]
    return {"accumulator_bits": max(bits), "worst_function_db": min(errors, default=None)}


COLUMNS = (
    ("sqnr_db", "SQNR dB", "{:.2f}"),
    ("embedding_sqnr_db", "SQNR of embeddings, dB", "{:.2f}"),
    ("embedding_cosine", "cosine", "{:.4f}"),
    ("embedding_spearman", "Spearman", "{:.4f}"),
    ("top1_float", "top-1 float", "{:.4f}"),
    ("top1", "top-1", "{:.4f}"),
    ("differing", "differing", "{}"),
    ("inputs", "inputs", "{}"),
    ("accumulator_bits", "accumulator bits", "{}"),
    ("worst_function_db", "worst function dB", "{:.1f}"),
)


def markdown(title: str, table: dict[str, dict[str, Any]]) -> str:
    """One table."""
    columns = [c for c in COLUMNS if any(row.get(c[0]) is not None for row in table.values())]
    lines = [f"**{title}**", "", "| | " + " | ".join(c[1] for c in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for recipe, row in table.items():
        cells = ["" if row.get(key) is None else form.format(row[key]) for key, _, form in columns]
        lines.append(f"| {recipe}: {ROWS[recipe]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, run, print."""
    import tempfile

    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=[*WORKLOADS, *MODELS], default=[*WORKLOADS, "vit_tiny_fmnist"])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--inputs", type=int, default=50, help="samples compared with the reference")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    arguments = parser.parse_args()
    found = {}
    for name in arguments.models:
        case, found[name] = case_of(name, arguments.inputs), {}
        for recipe in arguments.rows:
            with tempfile.TemporaryDirectory() as folder:
                found[name][recipe] = bench(case, recipe, arguments.inputs, Path(folder) / "artefact")
            print(f"{name}: {recipe}: {json.dumps(found[name][recipe])}", file=sys.stderr, flush=True)
        print(markdown(case.title, found[name]), end="\n\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
