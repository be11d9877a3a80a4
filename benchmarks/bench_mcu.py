"""Models on microcontrollers: instructions, RAM, flash, arena against its lower bound, integers that differ.

    python -m benchmarks.bench_mcu [--models resnet8 ds_cnn] [--targets cortex-m4 host-c] [--recipes w8a8-pow2]
                                   [--samples 20] [--json FILE]

Each model is compiled once per target and recipe. On Cortex-M it runs in QEMU on an emulated board, every output
integer compared with the reference interpreter; instructions are counted there and are no cycles. Flash and RAM are
those of the model library in the linked program (code, constants; arena, worst stack), K being 1000 bytes. On `host-c`
the same C runs on this machine, the results of all layers compared. The program of every row runs in ONNX Runtime as
well, on the same inputs, graph optimizations off and on: all integers are the same (`w8a8-int`: integer ops only;
`w8a8-pow2`: Q/DQ in float32). Rows whose `program` is the same ran the same integer program.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qcompiler as qc
from benchmarks.models import MODELS
from benchmarks.workloads import WORKLOADS
from qcompiler import metrics
from qcompiler.boundary import quantize_inputs
from qcompiler.compilation import hash_graph
from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph
from qcompiler.targets import get_target

CORES = ("cortex-m4", "cortex-m55", "cortex-m7", "cortex-m33", "cortex-m3", "cortex-m0plus")
TARGETS = ("host-c", *CORES)
TINY = ("resnet8", "mobilenet_v1_025", "ds_cnn", "autoencoder", "vit_tiny_fmnist")
LARGE = ("efficientnet-lite0", "minilm-l6")
"""On the host only: their weights are larger than the emulated boards' flash."""
CALIBRATION = 64
LARGE_SAMPLES = 50
EVALUATED = 50
"""Samples of which the SQNR is taken."""

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Row:
    """One model on one target; None where a figure does not exist there."""

    model: str
    target: str
    recipe: str
    program: str
    samples: int
    differing: int
    differing_ort: int
    instructions: int | None
    flash: int | None
    ram: int | None
    arena: int
    arena_ratio: float
    as_predicted: bool | None
    sqnr_db: float


@dataclass(frozen=True)
class Model:
    """A model with its data.

    Attributes:
        module: and `example`: what is compiled.
        calibration, evaluation: samples, each a tuple of arrays with a batch axis of 1.
    """

    module: torch.nn.Module
    example: tuple[torch.Tensor, ...]
    calibration: Sequence[Arrays]
    evaluation: Sequence[Arrays]

    def sqnr_db(self, compiled: Any, count: int = EVALUATED) -> float:
        """Of the first output against the float model, tokens of padding left out."""
        real, found = [], []
        for sample in self.evaluation[:count]:
            with torch.no_grad():
                expected = np.asarray(self.module(*[torch.from_numpy(a) for a in sample]))
            got = compiled.run(*sample)[0]
            keep = sample[1] > 0 if len(sample) > 1 else np.ones(1, bool)
            real.append(expected[keep])
            found.append(got[keep])
        return metrics.sqnr(np.concatenate(real), np.concatenate(found))


def load(name: str) -> Model:
    """One of the small trained networks, or one of the benches' large models with inputs of one size."""
    if name in MODELS:
        images = (MODELS[name].calibration(CALIBRATION), MODELS[name].evaluation(1000)[0])
        module, example = MODELS[name].load()
        calibration, evaluation = ([(image[None],) for image in part] for part in images)
        return Model(module, example, calibration, evaluation)
    work = WORKLOADS[name]
    module, example = work.load()
    parts = [[tuple(sample[key] for key in work.inputs) for sample in part()] for part in (work.calibration, work.evaluation)]
    calibration = [_padded(sample, example) for sample in parts[0]]
    apart = max(1, len(parts[1]) // LARGE_SAMPLES)
    return Model(module, example, calibration, parts[1][::apart][:LARGE_SAMPLES])


def _padded(sample: Arrays, example: Sequence[torch.Tensor]) -> Arrays:
    """Tokens and mask filled up with zeros to the length that the model is compiled for."""
    return tuple(
        np.pad(a, [(0, int(n) - m) for n, m in zip(e.shape, a.shape, strict=True)])
        for a, e in zip(sample, example, strict=True)
    )


def bench(name: str, model: Model, target: str, samples: int, recipe: str) -> Row:
    """Compile one model for one target and run it."""
    compiled = qc.compile(
        model.module, model.example, target=target, recipe=recipe, calibration=model.calibration,
        evaluation=model.evaluation[:2],
    )  # fmt: skip
    codes = [quantize_inputs(compiled.graph, sample) for sample in model.evaluation[:samples]]
    memory = compiled.report.memory
    assert memory is not None
    common = {
        "model": name, "target": target, "recipe": recipe, "samples": len(codes), "sqnr_db": model.sqnr_db(compiled),
        "arena_ratio": memory.arena_ratio, "program": hash_graph(compiled.graph)[7:15],
    }  # fmt: skip
    if target == "host-c":
        found = compiled.target.verify(compiled.graph, compiled.folder, codes)
        differing = found.differing + sum(check.differing for check in found.ops["host build"])
        session = compiled.target.open(compiled.folder)
        ort = differing_in_ort(compiled.graph, codes, [session.run(arrays) for arrays in codes])
        return Row(
            **common, differing=differing, differing_ort=ort, instructions=None, flash=None, ram=None, arena=memory.arena_bytes, as_predicted=None
        )
    with tempfile.TemporaryDirectory() as folder:
        saved = compiled.save(Path(folder) / "out", float_model=False)
        run = compiled.target.simulate(compiled.graph, saved, codes, "qemu")
    ort = differing_in_ort(compiled.graph, codes, [run_reference(compiled.graph, arrays) for arrays in codes])
    predicted = (memory.flash_bytes, memory.ram_bytes) == (run.flash_bytes, run.ram_bytes)
    return Row(
        **common, differing=run.differing, differing_ort=ort, instructions=run.instructions, flash=run.flash_bytes, ram=run.ram_bytes,
        arena=run.arena_bytes, as_predicted=predicted,
    )  # fmt: skip


def differing_in_ort(graph: Graph, samples: Sequence[Sequence[np.ndarray]], expected: Sequence[Sequence[np.ndarray]]) -> int:
    """Output integers of the same program that ONNX Runtime gives otherwise, graph optimizations on and off."""
    onnx, count = get_target("onnx"), 0
    with tempfile.TemporaryDirectory() as folder:
        onnx.emit(graph, Path(folder), {})
        for session in (onnx.open(Path(folder), 1, optimize) for optimize in (True, False)):
            for arrays, outputs in zip(samples, expected, strict=True):
                count += sum(int((a != b).sum()) for a, b in zip(session.run(arrays), outputs, strict=True))
    return count


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    head = (
        "| model | target | recipe | program | Minstructions | RAM KB | flash KB | arena KB | arena / bound | as predicted | SQNR dB |"
        " differing integers | in ONNX Runtime |"
    )
    lines = [head, "|" + "---|" * 13]
    for row in rows:
        cells: list[Any] = [
            row.model, row.target, row.recipe, row.program, _scaled(row.instructions, 1e6), _scaled(row.ram, 1e3), _scaled(row.flash, 1e3),
            _scaled(row.arena, 1e3), f"{row.arena_ratio:.3f}", {None: "", True: "yes", False: "NO"}[row.as_predicted],
            f"{row.sqnr_db:.1f}", f"{row.differing} in {row.samples} samples", row.differing_ort,
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _scaled(value: int | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.2f}"


def main() -> int:
    """Print the table; status 1 if an integer differs or memory is not as predicted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*TINY, *LARGE], choices=[*MODELS, *LARGE])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--recipes", nargs="+", default=["w8a8-int"], choices=["w8a8-int", "w8a8-pow2"])
    parser.add_argument("--samples", type=int, default=20, help="on Cortex-M; host-c runs 50 times as many of tiny models")
    parser.add_argument("--large-samples", type=int, default=LARGE_SAMPLES, help="of the large models")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in given.models:
        model = load(name)
        for target in given.targets:
            for recipe in given.recipes:
                if name in LARGE and target != "host-c":
                    continue
                many = given.samples if target != "host-c" else given.large_samples if name in LARGE else 50 * given.samples
                rows.append(bench(name, model, target, many, recipe))
                print(f"{name} on {target}, {recipe}: {asdict(rows[-1])}", file=sys.stderr, flush=True)
    print(markdown(rows))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return int(any(row.differing or row.differing_ort or row.as_predicted is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
