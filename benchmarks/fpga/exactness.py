"""HLS projects in C simulation: integers that differ from the reference interpreter, build time and speed.

    python -m benchmarks.fpga.exactness [--models resnet8 ds_cnn] [--recipes w8a8 w4a4] [--samples 1000] [--vendor 20]

Each model is compiled with `fpga-hls` once per recipe; every output integer of the test images is compared. `native` is
the project's C++ on this machine's own integers, `vendor` the same C++ with the vendor's ap_int types. Times are processor
time, compilers included.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qcompiler as qc
from benchmarks.models import MODELS
from qcompiler.boundary import quantize_inputs
from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph
from qcompiler.recipe import Recipe, load_recipe
from qcompiler.targets.fpga_hls.runtime import SimulationSession
from qcompiler.targets.fpga_hls.target import FpgaTarget

CALIBRATION = 64
VIT_BLOCK = "vit_one_block"
MODEL_NAMES = ("autoencoder", "ds_cnn", "resnet8", VIT_BLOCK)
MIDDLE = {"autoencoder": "layers.[2-6]*", "ds_cnn": "layers.[2-6]*", "resnet8": "stages.1*", VIT_BLOCK: "blocks*fc*"}
RECIPES = ("w8a8", "w4a4", "mixed", "pow2")
COMPILE_SECONDS = 60.0
"""Processor time that no network should take to become a complete, verified project."""


@dataclass(frozen=True)
class Row:
    """One model with one recipe; times are processor time of this machine."""

    model: str
    recipe: str
    units: int
    interval: int
    compile_s: float
    sqnr_db: float | None
    samples: int
    differing: int
    build_s: float
    ms_per_frame: float
    vendor_samples: int
    vendor_differing: int
    vendor_build_s: float
    vendor_ms_per_frame: float


def recipe(name: str, model: str) -> Recipe:
    """A recipe by its name in the table, for one of the models."""
    if name == "pow2":
        return load_recipe("w8a8-pow2")
    changes: dict[str, Any] = {
        "w8a8": {},
        "w4a4": {"weight_bits": 4, "activation_bits": 4, "rounding": "nearest"},
        # the layers in the middle narrow, those at the borders not
        "mixed": {"rounding": "nearest", "rules": [{"match": MIDDLE[model], "weight_bits": 4, "activation_bits": 4}]},
    }[name]
    return load_recipe("w8a8-int").with_changes(changes)


def load(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], np.ndarray, np.ndarray]:
    """(module, example inputs, calibration inputs, test inputs); of the transformer, the first of its blocks."""
    source = MODELS["vit_tiny_fmnist" if name == VIT_BLOCK else name]
    model, example = source.load()
    if name == VIT_BLOCK:
        model.blocks = model.blocks[:1]
    return model, example, source.calibration(CALIBRATION), source.evaluation(1000)[0]


def processor_seconds() -> float:
    """Used so far by this process and those that it waited for: compilers."""
    return sum(os.times()[:4])


def compare(graph: Graph, session: SimulationSession, samples: Sequence[Sequence[np.ndarray]]) -> tuple[int, float]:
    """(integers that differ, seconds of simulation)."""
    differing, seconds = 0, 0.0
    for arrays in samples:
        start = processor_seconds()
        found = session.run(arrays)
        seconds += processor_seconds() - start
        differing += sum(int((a != b).sum()) for a, b in zip(found, run_reference(graph, arrays), strict=True))
    return differing, seconds


def bench(name: str, recipe_name: str, count: int, vendor: int, target: str) -> Row:
    """Compile one model and simulate it both ways."""
    model, example, calibration, test = load(name)
    start = processor_seconds()
    compiled = qc.compile(
        model, example, target=target, recipe=recipe(recipe_name, name), calibration=[(x[None],) for x in calibration],
        evaluation=[(x[None],) for x in test[:20]],
    )  # fmt: skip
    took = processor_seconds() - start
    assert isinstance(compiled.target, FpgaTarget)
    samples = [quantize_inputs(compiled.graph, [x[None]]) for x in test[: max(count, vendor)]]
    found: dict[bool, tuple[float, int, float, int]] = {}
    for with_vendor, n in ((False, count), (True, vendor)):
        start = processor_seconds()
        session = SimulationSession(compiled.graph, compiled.target.option, Path(compiled.folder), with_vendor)
        built = processor_seconds() - start
        differing, seconds = compare(compiled.graph, session, samples[:n])
        found[with_vendor] = built, differing, 1000 * seconds / max(1, n), n
    native, slow = found[False], found[True]
    accuracy = compiled.report.accuracy
    return Row(
        name, recipe_name, len(session.plan.dataflow.units), max(u.interval for u in session.plan.dataflow.units), took,
        None if accuracy is None else accuracy.sqnr_db, native[3], native[1], native[0], native[2], slow[3], slow[1], slow[0], slow[2],
    )  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    head = (
        "| model | recipe | SQNR to float, dB | compile, s | native: frames, differing | ms per frame |"
        " vendor's types: frames, differing | ms per frame |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        sqnr = "" if r.sqnr_db is None else f"{r.sqnr_db:.1f}"
        lines.append(
            f"| {r.model} | {r.recipe} | {sqnr} | {r.compile_s:.0f} | {r.samples}, {r.differing} |"
            f" {r.ms_per_frame:.1f} | {r.vendor_samples}, {r.vendor_differing} | {r.vendor_ms_per_frame:.0f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the rows that are asked for; 1 if an integer differs or a network takes too long to compile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODEL_NAMES, default=list(MODEL_NAMES))
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--vendor", type=int, default=20)
    parser.add_argument("--target", default="fpga-hls")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models:
        for chosen in arguments.recipes:
            rows.append(bench(name, chosen, arguments.samples, arguments.vendor, arguments.target))
            print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in rows], indent=1))
    return int(any(r.differing or r.vendor_differing or r.compile_s > COMPILE_SECONDS for r in rows))


if __name__ == "__main__":
    sys.exit(main())
