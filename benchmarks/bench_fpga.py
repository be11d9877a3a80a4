"""All figures of the FPGA target, part by part.

    python -m benchmarks.bench_fpga [--parts networks unit] [--again] [--work build/bench-fpga]

    exactness   C++ against the reference: native integers (1000 inputs) and the vendor's types (20), and compile times
    units       random units in Verilator against their definition: integers, clocks against the closed forms
    networks    whole networks in Verilator: integers, clocks against the model
    unit        the 4 x 8 unit of 8 bits: what yosys maps it to, the clock that nextpnr reaches on ECP5
    resources   predicted DSP, block RAM, LUTs and flip-flops against yosys, on units that the fit has not seen
    hls4ml      the same small networks by hls4ml: DSP, block RAM at equal intervals; C simulation
    qonnx       the same programs as QONNX in the executor of the qonnx package
    oracle      programs as QONNX in the C simulation of hls4ml
    digits      weights of few signed digits beside 8-bit weights: accuracy, LUTs, DSP blocks

A part that is done is kept in the work folder and printed from there; `--again` runs it anew.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "exactness": tuple(
        ("benchmarks.fpga.exactness", "--models", model, "--recipes", *recipes)
        for model, recipes in (
            ("autoencoder", ("w8a8",)), ("ds_cnn", ("w8a8", "w4a4")), ("resnet8", ("w8a8", "mixed")), ("vit_one_block", ("w8a8",)),
        )
    ),
    "units": (("benchmarks.fpga.fuzz_units", "--count", "220", "--simulators", "verilator", "--keep", "build/bench-fpga/units.json"),),
    "networks": tuple(("benchmarks.fpga.networks", "--models", model) for model in ("autoencoder", "ds_cnn", "resnet8")),
    "unit": (("benchmarks.fpga.reference_unit",),),
    "resources": (("benchmarks.fpga.learn_resources",),),
    "hls4ml": (("benchmarks.fpga.beside_hls4ml",),),
    "qonnx": (("benchmarks.fpga.beside_qonnx",),),
    "oracle": tuple(
        ("benchmarks.fpga.hls4ml_oracle", "--models", name)
        for name in ("linear layers", "convolutions", "residual", "depthwise", "autoencoder")
    ),
    "digits": (("benchmarks.fpga.few_digits", "--keep", "build/bench-fpga/few-digits.json"),),
}  # fmt: skip
"""Modules of a part with their arguments; each is kept on its own."""


def run(part: str, work: Path, again: bool) -> bool:
    """Run what is missing of a part and print all of it; whether all of it holds."""
    fine = True
    for index, (module, *arguments) in enumerate(PARTS[part]):
        kept = work / f"{part}-{index}.md"
        print(f"\n## {part}: python -m {' '.join([module, *arguments])}\n", flush=True)
        if again and "--keep" in arguments:  # rows of the same bench
            Path(arguments[arguments.index("--keep") + 1]).unlink(missing_ok=True)
        if again or not kept.exists():
            done = subprocess.run([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)
            fine &= done.returncode == 0
            if done.returncode == 0:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(done.stdout, encoding="utf-8")
            print(done.stdout, flush=True)
        else:
            print(kept.read_text(encoding="utf-8"), flush=True)
    return fine


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the parts asked for; 1 if a figure is missed, which the part names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("build/bench-fpga"))
    given = parser.parse_args(arguments)
    missed = [part for part in given.parts if not run(part, given.work, given.again)]
    if missed:
        print(f"missed or failed: {', '.join(missed)}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
