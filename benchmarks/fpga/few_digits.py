"""Weights of few signed digits beside 8-bit weights, on trained networks: accuracy, and what the folded network takes.

    python -m benchmarks.fpga.few_digits [--models resnet8 ds_cnn] [--digits 0 3 2 1] [--keep FILE]

All are recipe `w8a8-int`, for the target's default part; 0 digits are plain 8-bit weights. `same folding` is what the units
with weights take at the foldings that the plain weights were given, where only the products differ. Every network's C++ is
run on test images and compared with the reference interpreter; the accuracy is that of the reference on all images.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import qcompiler as qc
from benchmarks.models import MODELS
from qcompiler.recipe import load_recipe
from qcompiler.targets.fpga_hls.dataflow import Dataflow
from qcompiler.targets.fpga_hls.emit import plan_network
from qcompiler.targets.fpga_hls.model.fit import estimate
from qcompiler.targets.fpga_hls.model.resources import total, unit_usage
from qcompiler.targets.fpga_hls.target import FpgaTarget
from qcompiler.targets.fpga_hls.units import Weighted

CALIBRATION = 64
NAMES = ("resnet8", "ds_cnn")


def products(network: Dataflow, foldings: dict[str, Any]) -> tuple[int, int]:
    """(LUTs, DSP blocks) of the units with weights, folded as given."""
    units = [unit.folded(**foldings[unit.name]) for unit in network.units if isinstance(unit, Weighted)]
    use = total([unit_usage(unit) for unit in units])
    return use.lut, use.dsp


def foldings(network: Dataflow) -> dict[str, Any]:
    """Of the units with weights."""
    return {
        unit.name: {key: getattr(unit.folding, key) for key in unit.choices} for unit in network.units if isinstance(unit, Weighted)
    }


def bench(name: str, digits: int, samples: int, simulated: int, plain: dict[str, Any] | None) -> dict[str, Any]:
    """One network with one format; `plain` is what `foldings` gave for 0 digits."""
    source = MODELS[name]
    model, example = source.load()
    changes = {"weight_digits": digits} if digits else {}
    test, labels = source.evaluation(samples)
    compiled = qc.compile(
        model, example, target="fpga-hls", recipe=load_recipe("w8a8-int").with_changes(changes),
        calibration=[(x[None],) for x in source.calibration(CALIBRATION)], evaluation=[(x[None],) for x in test[:32]],
    )  # fmt: skip
    assert isinstance(compiled.target, FpgaTarget)
    network = plan_network(compiled.graph, compiled.target.option).dataflow
    right, differing = 0, 0
    for i, x in enumerate(test):
        (codes,) = compiled.reference(x[None], raw=True)
        right += int(codes.argmax()) == int(labels[i])
        if i < simulated:
            differing += int((compiled.run(x[None], raw=True)[0] != codes).sum())
    found = estimate(network, compiled.target.option.part.family)
    taken = foldings(network) if plain is None else plain
    assert compiled.report.accuracy is not None
    return {
        "model": name, "digits": digits, "accuracy": right / len(test), "sqnr_db": compiled.report.accuracy.sqnr_db,
        "differing": differing, "interval": found.interval, "lut": found.whole.lut, "dsp": found.whole.dsp,
        "bram": found.whole.bram, "products": products(network, taken), "foldings": taken,
    }  # fmt: skip


def main() -> int:
    """Print a row per network and format; 1 if an integer differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--digits", nargs="+", type=int, choices=(0, 1, 2, 3), default=[0, 3, 2, 1])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--simulated", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="rows that are done, to continue from")
    given = parser.parse_args()
    kept: dict[str, Any] = json.loads(given.keep.read_text()) if given.keep and given.keep.exists() else {}
    print(
        "| network | digits | accuracy | SQNR, dB | integers that differ | clocks per frame | LUT | DSP | BRAM36 |"
        " same folding: LUT, DSP of units with weights |\n|---|---|---|---|---|---|---|---|---|---|", flush=True,
    )  # fmt: skip
    bad = False
    for name in given.models:
        for digits in sorted(given.digits, key=lambda d: (d > 0, -d)):
            key = f"{name} {digits} {given.samples} {given.simulated}"
            if key not in kept:
                plain = kept.get(f"{name} 0 {given.samples} {given.simulated}", {}).get("foldings")
                kept[key] = bench(name, digits, given.samples, given.simulated, plain)
                if given.keep:
                    given.keep.parent.mkdir(parents=True, exist_ok=True)
                    given.keep.write_text(json.dumps(kept))
            r = kept[key]
            bad |= r["differing"] > 0
            print(
                f"| {name} | {digits or 'any'} | {r['accuracy']:.3f} | {r['sqnr_db']:.1f} | {r['differing']} | {r['interval']} |"
                f" {r['lut']} | {r['dsp']} | {r['bram']:g} | {r['products'][0]}, {r['products'][1]} |", flush=True,
            )  # fmt: skip
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
