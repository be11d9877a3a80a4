"""Models on microcontrollers: instructions, RAM, flash, arena against its lower bound, integers that differ.

    python -m benchmarks.bench_mcu [--models resnet8 ds_cnn] [--targets cortex-m4 host-c] [--recipes w8a8-pow2]
                                   [--samples 20] [--host-samples 1000] [--json FILE]

Each model is compiled once per recipe; its integer program is then emitted for every target. On Cortex-M it runs in
QEMU on an emulated board, every output integer compared with the reference interpreter; instructions are counted there
and are no cycles. Flash and RAM are those of the model library in the linked program (code, constants; arena, worst
stack), K being 1000 bytes. On `host-c` the same C runs on this machine, the results of all layers compared. The program
runs in ONNX Runtime as well, on all inputs of the row with most, graph optimizations on and off (`w8a8-int`: integer ops
only; `w8a8-pow2`: Q/DQ in float32).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
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
from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams, constant
from qcompiler.passes.integer.rules_attention import PROBABILITY, exponentials
from qcompiler.targets import get_target

CORES = ("cortex-m4", "cortex-m55", "cortex-m7", "cortex-m33", "cortex-m3", "cortex-m0plus")
TARGETS = ("host-c", *CORES)
TINY = ("resnet8", "mobilenet_v1_025", "ds_cnn", "autoencoder", "vit_tiny_fmnist")
LARGE = ("efficientnet-lite0", "minilm-l6")
"""On the host only: their weights are larger than the emulated boards' flash."""
SOFTMAX = "softmax"
"""One operation alone, 8 rows of 100 codes, on boards only: instructions per element are printed below the table."""
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
    samples: int
    differing: int
    samples_ort: int
    differing_ort: int
    instructions: int | None
    flash: int | None
    ram: int | None
    arena: int
    arena_ratio: float
    as_predicted: bool | None
    sqnr_db: float
    top1: tuple[float, float] | None


@dataclass(frozen=True)
class Model:
    """A model with its data.

    Attributes:
        module: and `example`: what is compiled.
        calibration, evaluation: samples, each a tuple of arrays with a batch axis of 1.
        labels: classes of the evaluation samples, None where accuracy is SQNR alone.
    """

    module: torch.nn.Module
    example: tuple[torch.Tensor, ...]
    calibration: Sequence[Arrays]
    evaluation: Sequence[Arrays]
    labels: np.ndarray | None = None

    def top1(self, outputs: Sequence[Sequence[np.ndarray]]) -> tuple[float, float] | None:
        """Share of the first samples whose class is right: by their codes, and by the float model."""
        if self.labels is None:
            return None
        labels, samples = self.labels[: len(outputs)], self.evaluation[: len(outputs)]
        with torch.no_grad():
            real = [self.module(*[torch.from_numpy(a) for a in sample]) for sample in samples]
        right = ([np.argmax(out[0]) for out in found] == labels for found in (outputs, real))
        return tuple(float(np.mean(hits)) for hits in right)  # type: ignore[return-value]

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
        images, labels = MODELS[name].evaluation(1000)
        module, example = MODELS[name].load()
        calibration, evaluation = ([(image[None],) for image in part] for part in (MODELS[name].calibration(CALIBRATION), images))
        return Model(module, example, calibration, evaluation, labels if MODELS[name].metric == "top1" else None)
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


def bench(name: str, recipe: str, targets: Sequence[str], on_host: int, on_board: int) -> Iterator[Row]:
    """Compile one model, and run it on each target: `on_host` samples on `host-c`, `on_board` in QEMU."""
    model = load(name)
    compiled = qc.compile(
        model.module, model.example, target="host-c", recipe=recipe, calibration=model.calibration,
        evaluation=model.evaluation[:2],
    )  # fmt: skip
    graph, session = compiled.graph, compiled.target.open(compiled.folder)
    many = on_host if "host-c" in targets else on_board
    codes = [quantize_inputs(graph, sample) for sample in model.evaluation[:many]]
    found = [session.run(arrays) for arrays in codes]
    common = {
        "model": name, "recipe": recipe, "sqnr_db": model.sqnr_db(compiled), "top1": model.top1(found),
        "samples_ort": len(codes), "differing_ort": differing_in_ort(graph, codes, found),
    }  # fmt: skip
    for target in targets:
        print(f"{name}, {recipe}: {target}", file=sys.stderr, flush=True)
        if target == "host-c":
            same = compiled.target.verify(graph, compiled.folder, codes)
            differing = same.differing + sum(check.differing for check in same.ops["host build"])
            memory = compiled.report.memory
            yield Row(
                **common, target=target, samples=len(codes), differing=differing, instructions=None, flash=None, ram=None,
                arena=memory.arena_bytes, arena_ratio=memory.arena_ratio, as_predicted=None,
            )  # fmt: skip
            continue
        board = get_target(target)
        with tempfile.TemporaryDirectory() as folder:
            board.emit(graph, Path(folder), {})
            memory = board.memory(Path(folder))
            run = board.simulate(graph, Path(folder), codes[:on_board], "qemu")
        yield Row(
            **common, target=target, samples=run.samples, differing=run.differing, instructions=run.instructions,
            flash=run.flash_bytes, ram=run.ram_bytes, arena=run.arena_bytes, arena_ratio=memory.ratio,
            as_predicted=(memory.flash, memory.ram) == (run.flash_bytes, run.ram_bytes),
        )  # fmt: skip


def softmax_instructions(target: str, shape: tuple[int, int] = (8, 100)) -> float:
    """Executed per element of a softmax by table over int8 codes, the call included; checked against the reference."""
    b = GraphBuilder("softmax", Level.INTEGER)
    x = b.input("x", DType.int8, shape, QuantParams(DType.int8, np.float32(1 / 16)))
    y = b.op("softmax_lookup", x, constant(exponentials(1 / 16), name="exponentials"), quant=PROBABILITY, name="y")
    graph, board = b.build([y]), get_target(target)
    codes = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    with tempfile.TemporaryDirectory() as folder:
        board.emit(graph, Path(folder), {})
        run = board.simulate(graph, Path(folder), [(codes,)], "qemu")
    assert run.differing == 0
    return run.instructions / codes.size


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
        "| model | recipe | target | Minstructions | RAM KB | flash KB | arena KB | arena / bound | as predicted | SQNR dB |"
        " top-1 / float | differing integers | in ONNX Runtime |"
    )
    lines = [head, "|" + "---|" * 13]
    for row in rows:
        cells: list[Any] = [
            row.model, row.recipe, row.target, _scaled(row.instructions, 1e6), _scaled(row.ram, 1e3), _scaled(row.flash, 1e3),
            _scaled(row.arena, 1e3), f"{row.arena_ratio:.3f}", {None: "", True: "yes", False: "NO"}[row.as_predicted],
            f"{row.sqnr_db:.1f}", "" if row.top1 is None else "{:.3f} / {:.3f}".format(*row.top1),
            f"{row.differing} in {row.samples} samples", f"{row.differing_ort} in {row.samples_ort}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _scaled(value: int | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.2f}"


def main() -> int:
    """Print the table; status 1 if an integer differs or memory is not as predicted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*TINY, *LARGE, SOFTMAX], choices=[*MODELS, *LARGE, SOFTMAX])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--recipes", nargs="+", default=["w8a8-int"], choices=["w8a8-int", "w8a8-pow2"])
    parser.add_argument("--samples", type=int, default=20, help="in QEMU")
    parser.add_argument("--host-samples", type=int, default=1000, help="on host-c, of the small models")
    parser.add_argument("--large-samples", type=int, default=LARGE_SAMPLES, help="on host-c, of the large models")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in given.models:
        if name == SOFTMAX:
            continue
        targets = [t for t in given.targets if name not in LARGE or t == "host-c"]
        on_host = given.large_samples if name in LARGE else given.host_samples
        for recipe in given.recipes if targets else ():
            rows += bench(name, recipe, targets, on_host, given.samples)
    print(markdown(rows))
    boards = [target for target in given.targets if target != "host-c"]
    for target in boards if SOFTMAX in given.models else ():
        print(f"\nsoftmax on {target}: {softmax_instructions(target):.1f} instructions per element")
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return int(any(row.differing or row.differing_ort or row.as_predicted is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
