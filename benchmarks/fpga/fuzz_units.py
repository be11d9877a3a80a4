"""Random units in the simulators beside their definition, first with streams that never wait, then with streams that do.

    python -m benchmarks.fpga.fuzz_units [--count 220] [--simulators verilator icarus] [--keep FILE]

`--keep` writes what every batch gave to a file, and a run that was cut off continues behind it.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.fpga.draw_units import KINDS, alone, draw_codes, draw_unit
from benchmarks.fpga.unit_bodies import run_unit
from qcompiler.targets.fpga_hls.model.timing import unit_clocks
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.units import Weighted
from qcompiler.targets.fpga_hls.verilog.emit import emit_design
from qcompiler.targets.fpga_hls.verilog.simulate import Stimulus, simulate_stalled

FRAMES = 2
STALLS = (0, 5)
BATCH = 22
"""Units compiled together: the C++ compiler's own time is shared, and its memory stays below a gigabyte."""


def stimulus(unit: Unit, name: str, rng: np.random.Generator) -> tuple[Stimulus, list[np.ndarray]]:
    """Random inputs for a unit, and what should come out."""
    inputs = [draw_codes(rng, port, FRAMES) for port in unit.inputs]
    dsp_bits = int(rng.choice([18, 25]))
    return Stimulus(emit_design(alone(unit, name), dsp_bits), inputs, FRAMES), run_unit(unit, inputs, FRAMES)


def fuzz(count: int, seed: int, simulator: str) -> collections.Counter:
    """Run `count` units with all `STALLS` and count the integers that differ and, without stalls, the clocks that do.

    Returns:
        `units`, `digits` (those of them with weights of few digits), `integers`, `differing`, `clocks` (units whose last
        word came in another clock than the model says).
    """
    rng = np.random.default_rng(seed)
    found: collections.Counter = collections.Counter({"differing": 0, "clocks": 0})
    drawn = [draw_unit(KINDS[i % len(KINDS)], rng) for i in range(count)]
    cases = [stimulus(unit, f"case{i}", rng) for i, unit in enumerate(drawn)]
    for stall, traces in zip(STALLS, simulate_stalled([case for case, _ in cases], STALLS, simulator), strict=True):
        for unit, (_, expected), trace in zip(drawn, cases, traces, strict=True):
            for want, got in zip(expected, trace.outputs, strict=True):
                found["integers"] += want.size
                found["differing"] += want.size if got.size != want.size else int((got.reshape(want.shape) != want).sum())
            last = max(int(clocks[-1]) if len(clocks) else -1 for clocks in trace.clocks)
            if not stall and last != unit_clocks(unit, FRAMES):
                found["clocks"] += 1
                found[f"clocks of {type(unit).__name__}"] += 1
    found["units"] = count
    found["digits"] = sum(isinstance(unit, Weighted) and unit.digits > 0 for unit in drawn)
    return found


def main() -> int:
    """Print a row per simulator; 1 if an integer or a clock differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simulators", nargs="+", default=["verilator", "icarus"])
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    kept = json.loads(arguments.keep.read_text()) if arguments.keep and arguments.keep.exists() else {}
    print("| simulator | units | of these with weights of few digits | integers, free and stalled | differing | units with other clocks |")
    print("|---|---|---|---|---|---|", flush=True)
    bad = False
    for simulator in arguments.simulators:
        found: collections.Counter = collections.Counter()
        for start in range(0, arguments.count, BATCH):
            size = min(BATCH, arguments.count - start)
            key = f"{simulator} {arguments.seed} {start} {size}"
            if key not in kept:
                kept[key] = dict(fuzz(size, arguments.seed * 100_000 + start, simulator))
                print(f"{key}: {kept[key]}", file=sys.stderr, flush=True)
                if arguments.keep:
                    arguments.keep.parent.mkdir(parents=True, exist_ok=True)
                    arguments.keep.write_text(json.dumps(kept))
            found.update(kept[key])
        bad |= bool(found["differing"] or found["clocks"])
        print(
            f"| {simulator} | {found['units']} | {found['digits']} | {found['integers']} | {found['differing']} | {found['clocks']} |",
            flush=True,
        )
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
