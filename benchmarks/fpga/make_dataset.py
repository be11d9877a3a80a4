"""Synthesise random units and keep what they take: one line per unit in synthesis.jsonl, beside this file.

    python -m benchmarks.fpga.make_dataset [--count N] [--seconds S]

Unit i depends on i alone, so a run continues where the last one stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.fpga.draw_layers import draw_any_layer, draw_layer
from benchmarks.fpga.draw_units import alone
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.verilog.emit import emit_design
from qcompiler.targets.fpga_hls.verilog.synthesis import DSP_BITS, synthesize_all

DATASET = Path(__file__).parent / "synthesis.jsonl"
FAMILY = "xc7"


ANY, HELD_OUT = 1000, 3000
"""Units from these numbers on are of any kind; the closed forms were made without a look at those from the second on."""


def layer(index: int) -> Unit:
    """Unit `index` of the data set."""
    return (draw_layer if index < ANY else draw_any_layer)(np.random.default_rng([20, index]))


def rows() -> list[dict]:
    """What is synthesised already."""
    return [json.loads(line) for line in DATASET.read_text().splitlines()] if DATASET.exists() else []


def main() -> None:
    """Synthesise what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="first unit")
    parser.add_argument("--count", type=int, default=240, help="units from there on")
    parser.add_argument("--batch", type=int, default=6, help="units per run of yosys")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no run of yosys after so many")
    arguments = parser.parse_args()
    start = time.monotonic()
    done = {row["index"] for row in rows()}
    missing = [i for i in range(arguments.first, arguments.first + arguments.count) if i not in done]
    for at in range(0, len(missing), arguments.batch):
        if time.monotonic() - start > arguments.seconds:
            break
        units = {index: layer(index) for index in missing[at : at + arguments.batch]}
        designs = [emit_design(alone(unit, f"unit_{index}"), DSP_BITS[FAMILY]) for index, unit in units.items()]
        with DATASET.open("a") as file:
            for (index, unit), found in zip(units.items(), synthesize_all(designs, FAMILY), strict=True):
                file.write(json.dumps({"index": index, "unit": type(unit).__name__, **asdict(found)}) + "\n")


if __name__ == "__main__":
    main()
