"""Random units in the simulators beside their definition."""

from __future__ import annotations

import argparse
import collections

import numpy as np

from benchmarks.fpga.draw_units import KINDS, alone, draw_codes, draw_unit
from benchmarks.fpga.unit_bodies import run_unit
from qcompiler.targets.fpga_hls.model.timing import unit_clocks
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.verilog.emit import emit_design
from qcompiler.targets.fpga_hls.verilog.simulate import Stimulus, simulate

FRAMES = 2


def stimulus(unit: Unit, name: str, rng: np.random.Generator, stall: int) -> tuple[Stimulus, list[np.ndarray]]:
    """Random inputs for a unit, and what should come out."""
    inputs = [draw_codes(rng, port, FRAMES) for port in unit.inputs]
    dsp_bits = int(rng.choice([18, 25]))
    return Stimulus(emit_design(alone(unit, name), dsp_bits), inputs, FRAMES, stall), run_unit(unit, inputs, FRAMES)


def fuzz(count: int, seed: int, simulator: str, stall: int = 0, batch: int = 44, kinds: tuple[str, ...] = KINDS) -> collections.Counter:
    """Run `count` units and count the integers that differ and, without stalls, the clocks that do.

    Returns:
        `units`, `integers`, `differing`, `clocks` (units whose last word came in another clock than the model says).
    """
    rng = np.random.default_rng(seed)
    found: collections.Counter = collections.Counter()
    for start in range(0, count, batch):
        drawn = [draw_unit(kinds[i % len(kinds)], rng) for i in range(start, min(count, start + batch))]
        cases = [stimulus(unit, f"case{i}", rng, stall) for i, unit in enumerate(drawn)]
        traces = simulate([case for case, _ in cases], simulator)
        for unit, (_, expected), trace in zip(drawn, cases, traces):
            found["units"] += 1
            for want, got in zip(expected, trace.outputs):
                found["integers"] += want.size
                found["differing"] += want.size if got.size != want.size else int((got.reshape(want.shape) != want).sum())
            last = max(int(clocks[-1]) if len(clocks) else -1 for clocks in trace.clocks)
            if not stall and last != unit_clocks(unit, FRAMES):
                found["clocks"] += 1
                found[f"clocks of {type(unit).__name__}"] += 1
    return found


def main() -> None:
    """Print one line per simulator and kind of handshake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simulators", nargs="+", default=["verilator", "icarus"])
    arguments = parser.parse_args()
    for simulator in arguments.simulators:
        for stall in (0, 5):
            print(simulator, "stalls" if stall else "free", dict(fuzz(arguments.count, arguments.seed + stall, simulator, stall)))


if __name__ == "__main__":
    main()
