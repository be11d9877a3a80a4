"""Programs with powers of two as scales, compiled for FPGAs and written as QONNX: three ways to the same integers.

    python -m benchmarks.fpga.beside_qonnx [--models resnet8] [--samples 16] [--python PYTHON]

The reference interpreter, the C++ of the project on this machine, and the executor of the qonnx package, which has an
environment of its own, made in the work folder unless `--python` names one that has it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import qcompiler as qc
from benchmarks.environments import environment
from benchmarks.fpga.exactness import load, recipe
from benchmarks.import_trained import EXECUTE, QONNX_PINS
from qcompiler.boundary import dequantize_outputs, quantize_inputs
from qcompiler.executors.reference import run_reference

NAMES = ("resnet8", "ds_cnn", "autoencoder")


def main() -> int:
    """Print a row per network; 1 if a number differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--python", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/bench-fpga"))
    given = parser.parse_args()
    python = given.python or environment(given.work / "qonnx", QONNX_PINS)
    given.work.mkdir(parents=True, exist_ok=True)
    print("| network | outputs | C simulation: differing | qonnx executor: differing |\n|---|---|---|---|", flush=True)
    bad = False
    for name in given.models:
        model, example, calibration, test = load(name)
        compiled = qc.compile(
            model, example, target="fpga-hls", recipe=recipe("pow2", name), calibration=[(x[None],) for x in calibration],
            evaluation=[(x[None],) for x in test[:20]],
        )  # fmt: skip
        path, data = compiled.save_qonnx(given.work / f"{name}.onnx"), given.work / f"{name}.npz"
        wanted, simulated = [], 0
        for x in test[: given.samples]:
            codes = run_reference(compiled.graph, quantize_inputs(compiled.graph, [x[None]]))
            simulated += sum(int((a != b).sum()) for a, b in zip(compiled.run(x[None], raw=True), codes, strict=True))
            wanted.append(dequantize_outputs(compiled.graph, codes)[0])
        np.savez(data, x=test[: given.samples], y=np.stack(wanted))
        done = subprocess.run([python, "-c", EXECUTE, path, data], check=True, capture_output=True, text=True)
        differing, count, *_ = json.loads(done.stdout.splitlines()[-1])
        print(f"| {name} | {count} | {simulated} | {differing} |", flush=True)
        bad |= bool(simulated or differing)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
