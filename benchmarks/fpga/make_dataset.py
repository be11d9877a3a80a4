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

from benchmarks.fpga.draw_layers import draw_layer
from benchmarks.fpga.draw_units import alone
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.verilog.emit import emit_design
from qcompiler.targets.fpga_hls.verilog.synthesis import DSP_BITS, synthesize

DATASET = Path(__file__).parent / "synthesis.jsonl"
FAMILY = "xc7"


def layer(index: int) -> Unit:
    """Unit `index` of the data set."""
    return draw_layer(np.random.default_rng([20, index]))


def rows() -> list[dict]:
    """What is synthesised already."""
    return [json.loads(line) for line in DATASET.read_text().splitlines()] if DATASET.exists() else []


def main() -> None:
    """Synthesise what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after the unit in which so many have passed")
    arguments = parser.parse_args()
    start = time.monotonic()
    done = {row["index"] for row in rows()}
    for index in range(arguments.count):
        if index in done or time.monotonic() - start > arguments.seconds:
            continue
        unit = layer(index)
        found = synthesize(emit_design(alone(unit, "unit_alone"), DSP_BITS[FAMILY]), FAMILY)
        with DATASET.open("a") as file:
            file.write(json.dumps({"index": index, "unit": type(unit).__name__, **asdict(found)}) + "\n")


if __name__ == "__main__":
    main()
