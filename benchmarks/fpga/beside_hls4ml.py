"""A small network of linear layers and one of convolutions, compiled here and by hls4ml: what both take, and simulation.

    python -m benchmarks.fpga.beside_hls4ml

Multipliers and memories by the same closed forms for both: a DSP block per multiplier that exists in hardware, block RAM
of 18 Kbit by FINN's form for the memory that feeds them, both of layers that start a vector every so many clocks. Times
are processor time of this process and the compilers that it starts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qcompiler as qc
from qcompiler.boundary import quantize_inputs
from qcompiler.targets.fpga_hls.legalize import legalize
from qcompiler.targets.fpga_hls.model.closed_forms import finn_bram18, hls4ml_reuse_factors
from qcompiler.targets.fpga_hls.parts import parse_option
from qcompiler.targets.fpga_hls.runtime import SimulationSession
from qcompiler.targets.fpga_hls.stream import Unit, divisors
from qcompiler.targets.fpga_hls.units import MatrixVector

WEIGHT_BITS = 8
SAMPLES = 1000
OVERHEAD = 6
"""Clocks that hls4ml's streamed convolutions need per pixel beside the reuse factor."""


@dataclass(frozen=True)
class Layer:
    """One layer at one interval, of hls4ml and of ours."""

    network: str
    layer: str
    clocks: int
    dsp: tuple[int, int]
    bram18: tuple[int, int]


@dataclass(frozen=True)
class Simulated:
    """Seconds to build and to run `SAMPLES` inputs, of hls4ml and of ours."""

    network: str
    build: tuple[float, float]
    run: tuple[float, float]

    @property
    def faster(self) -> float:
        """How many times."""
        return sum((self.build[0], self.run[0])) / sum((self.build[1], self.run[1]))


def networks() -> dict[str, tuple[torch.nn.Module, tuple[int, ...]]]:
    """By name: module and shape of its input."""
    torch.manual_seed(0)
    relu = torch.nn.ReLU
    mlp = torch.nn.Sequential(
        torch.nn.Linear(16, 64), relu(), torch.nn.Linear(64, 32), relu(), torch.nn.Linear(32, 32), relu(), torch.nn.Linear(32, 5)
    )
    cnn = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), relu(), torch.nn.Conv2d(8, 16, 3), relu())
    return {"linear layers": (mlp.eval(), (16,)), "convolutions": (cnn.eval(), (3, 16, 16))}


def memory(multipliers: int, products: int) -> int:
    """Blocks of 18 Kbit that feed so many multipliers."""
    depth = products // multipliers
    return finn_bram18(multipliers * WEIGHT_BITS, depth) if depth > 1 else 0


def layers(name: str, units: list[Unit]) -> list[Layer]:
    """Each layer for some of hls4ml's legal reuse factors, and our smallest folding that is no slower."""
    rows = []
    for unit in units:
        if not isinstance(unit, MatrixVector):
            continue
        products = unit.rows * unit.columns
        factors = hls4ml_reuse_factors(unit.columns, unit.rows)
        for factor in (factors[len(factors) // 3], factors[2 * len(factors) // 3]):
            clocks = factor if unit.vectors == 1 else factor + OVERHEAD
            theirs = products // factor
            ours = min(
                (pe * simd for pe in divisors(unit.rows) for simd in divisors(unit.columns) if products // (pe * simd) <= clocks),
                key=lambda lanes: (lanes, memory(lanes, products)),
            )
            rows.append(Layer(name, unit.name, clocks, (theirs, ours), (memory(theirs, products), memory(ours, products))))
    return rows


def seconds() -> float:
    """Processor time so far, compilers that ended included."""
    return sum(os.times()[:4])


def simulate(name: str, module: torch.nn.Module, graph: Any, inputs: np.ndarray, folder: Path) -> Simulated:
    """Build and run both C simulations."""
    with contextlib.redirect_stdout(sys.stderr):  # hls4ml tells what it does
        return _simulate(name, module, graph, inputs, folder)


def _simulate(name: str, module: torch.nn.Module, graph: Any, inputs: np.ndarray, folder: Path) -> Simulated:
    import hls4ml

    shape = inputs.shape[1:]
    start = seconds()
    config = hls4ml.utils.config_from_pytorch_model(
        module, shape, default_precision="ap_fixed<16,6>", granularity="name", default_reuse_factor=16
    )
    theirs = hls4ml.converters.convert_from_pytorch_model(
        module, hls_config=config, output_dir=str(folder / "hls4ml"), backend="Vitis", io_type="io_stream"
    )
    theirs.compile()
    built = seconds()
    theirs.predict(np.ascontiguousarray(inputs if inputs.ndim == 2 else inputs.transpose(0, 2, 3, 1)))
    ran = seconds()
    codes = [quantize_inputs(graph, [x[None]]) for x in inputs]
    before = seconds()
    session = SimulationSession(graph, parse_option(""))
    ready = seconds()
    for arrays in codes:
        session.run(arrays)
    return Simulated(name, (built - start, ready - before), (ran - built, seconds() - ready))


def main() -> int:
    """Print both tables; 1 if a layer of ours takes more, or simulation is not five times as fast."""
    rows, simulated = [], []
    for name, (module, shape) in networks().items():
        inputs = np.random.default_rng(0).uniform(-1, 1, (SAMPLES, *shape)).astype(np.float32)
        compiled = qc.compile(
            module, (torch.zeros(1, *shape),), target="fpga-hls", recipe="w8a8-int", calibration=[(x[None],) for x in inputs[:32]],
            evaluation=[(x[None],) for x in inputs[32:40]],
        )  # fmt: skip
        rows += layers(name, list(legalize(compiled.graph).dataflow.units))
        with tempfile.TemporaryDirectory() as folder:
            simulated.append(simulate(name, module, compiled.graph, inputs, Path(folder)))
    print("| network | layer | clocks per vector | hls4ml: DSP, BRAM18 | ours: DSP, BRAM18 |\n|---|---|---|---|---|")
    for r in rows:
        print(f"| {r.network} | {r.layer} | {r.clocks} | {r.dsp[0]}, {r.bram18[0]} | {r.dsp[1]}, {r.bram18[1]} |")
    print(f"\n| C simulation of {SAMPLES} inputs | hls4ml: build, run, s | ours: build, run, s | faster |\n|---|---|---|---|")
    for s in simulated:
        print(f"| {s.network} | {s.build[0]:.1f}, {s.run[0]:.2f} | {s.build[1]:.1f}, {s.run[1]:.2f} | {s.faster:.1f}x |")
    worse = [r for r in rows if r.dsp[1] > r.dsp[0] or r.bram18[1] > r.bram18[0]]
    return int(bool(worse) or any(s.faster < 5 for s in simulated))


if __name__ == "__main__":
    sys.exit(main())
