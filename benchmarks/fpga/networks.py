"""Whole networks as Verilog in Verilator: integers beside the reference, clocks beside the model.

    python -m benchmarks.fpga.networks [--models ds_cnn] [--frames 5] [--target fpga-hls:xc7z020]

Frames come one right after the other. `first` is the clock of the first frame's last word, `interval` the clocks between
the last two frames; the model follows every word through queues without end (`network_timing`).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import qcompiler as qc
from benchmarks.fpga.exactness import load, processor_seconds, recipe
from qcompiler.boundary import quantize_inputs
from qcompiler.executors.reference import run_reference
from qcompiler.graph_files import read_graph, write_graph
from qcompiler.ir import Graph
from qcompiler.targets import get_target
from qcompiler.targets.fpga_hls.emit import plan_network
from qcompiler.targets.fpga_hls.model.network_timing import network_timing
from qcompiler.targets.fpga_hls.target import FpgaTarget
from qcompiler.targets.fpga_hls.verilog.network import simulate_network

NAMES = ("autoencoder", "ds_cnn", "resnet8")
WITHIN = 0.05


@dataclass(frozen=True)
class Row:
    """One network; clocks as simulated and as the model says."""

    model: str
    units: int
    frames: int
    integers: int
    differing: int
    first: tuple[int, int]
    interval: tuple[int, int]
    seconds: float

    @property
    def off(self) -> float:
        """Largest deviation of the model."""
        return max(abs(model - found) / found for found, model in (self.first, self.interval))


def program(name: str, recipe_name: str, target: str, work: Path) -> Graph:
    """The compiled program of a network, kept in a folder for the next time."""
    folder = work / "programs" / f"{name}-{recipe_name}"
    if not folder.exists():
        model, example, calibration, test = load(name)
        compiled = qc.compile(
            model, example, target=target, recipe=recipe(recipe_name, name), calibration=[(x[None],) for x in calibration],
            evaluation=[(x[None],) for x in test[:20]],
        )  # fmt: skip
        folder.mkdir(parents=True)
        write_graph(compiled.graph, folder / "graph.txt", folder / "weights.safetensors")
    return read_graph(folder / "graph.txt", folder / "weights.safetensors")


def run(name: str, frames: int, target: str, work: Path) -> Row:
    """Simulate one network."""
    graph = program(name, "w8a8", target, work)
    found = get_target(target)
    assert isinstance(found, FpgaTarget)
    network = plan_network(graph, found.option).dataflow
    samples = [quantize_inputs(graph, [x[None]]) for x in load(name)[3][:frames]]
    start = processor_seconds()
    simulated = simulate_network(network, samples)
    seconds = processor_seconds() - start
    integers = differing = 0
    for arrays, outputs in zip(samples, simulated.outputs, strict=True):
        for got, want in zip(outputs, run_reference(graph, list(arrays)), strict=True):
            integers += want.size
            differing += int((got != want).sum())
    model = network_timing(network, frames)
    return Row(
        name, len(network.units), frames, integers, differing, (simulated.first, int(model.ends[0])),
        (simulated.interval, model.interval), seconds,
    )  # fmt: skip


def main() -> int:
    """Print a row per network; 1 if an integer differs or clocks are further off than 5 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--target", default="fpga-hls:xc7z020")
    parser.add_argument("--work", type=Path, default=Path("build/bench-fpga"))
    arguments = parser.parse_args()
    print("| network | units | frames | integers, differing | first frame: clocks, model | interval: clocks, model | off | simulation, s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    bad = False
    for name in arguments.models:
        r = run(name, arguments.frames, arguments.target, arguments.work)
        bad |= r.differing > 0 or r.off > WITHIN or not np.isfinite(r.off)
        print(
            f"| {r.model} | {r.units} | {r.frames} | {r.integers}, {r.differing} | {r.first[0]}, {r.first[1]} |"
            f" {r.interval[0]}, {r.interval[1]} | {100 * r.off:.2f} % | {r.seconds:.0f} |", flush=True,
        )  # fmt: skip
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
