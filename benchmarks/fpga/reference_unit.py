"""The unit that clock and size are quoted for: 256 terms, 64 channels, 4 rows by 8 columns, 8-bit weights and codes.

    python -m benchmarks.fpga.reference_unit [--seeds 1 2 3]

Multipliers of 17 bits, an own shift per channel (8 different ones), an own zero point. Mapped by yosys for series 7; placed
and routed by nextpnr for Lattice ECP5-85, speed grade 6, as the only clock that open tools can tell.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from benchmarks.fpga.draw_units import alone
from qcompiler.targets.fpga_hls.stream import Folding, Scaling
from qcompiler.targets.fpga_hls.units import MatrixVector
from qcompiler.targets.fpga_hls.verilog.emit import emit_design
from qcompiler.targets.fpga_hls.verilog.synthesis import DSP_BITS, route_ecp5, synthesize


def reference_unit(pe: int = 4, simd: int = 8, weight_bits: int = 8, act_bits: int = 8, seed: int = 0) -> MatrixVector:
    """A matrix-vector unit of 256 by 64, weights at random."""
    rng = np.random.default_rng(seed)
    terms, channels = 256, 64
    weights = rng.integers(-(1 << weight_bits - 1), 1 << weight_bits - 1, (channels, terms))
    bias = rng.integers(-5000, 5000, channels)
    acc_bits = weight_bits + act_bits + 8 + 1
    multiplier = rng.integers(1 << 16, 1 << 17, channels) << rng.integers(0, 8, channels)
    multiplier[:2] = [1 << 16, (1 << 17) - 1 << 7]  # both ends, whatever the seed
    scaling = Scaling("dyadic", multiplier, 34, 3, -128, 127, 8, True)
    return MatrixVector(
        "unit", "reference", weights, bias, scaling, 1, weight_bits, act_bits, True, acc_bits, folding=Folding(pe, simd)
    )


LUTS, DSPS, MHZ = 600, 36, 110.0
"""What the unit should not exceed, and the clock that it should reach."""


def main() -> int:
    """Print what the unit takes and its clock for every seed of the router; 1 if it is too large or always too slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    arguments = parser.parse_args()
    network = alone(reference_unit(), "unit_4x8")
    use = synthesize(emit_design(network, DSP_BITS["xc7"]), "xc7")
    print(f"xc7 (yosys): {use.lut} LUT, {use.ff} FF, {use.dsp} DSP, {use.bram:g} BRAM36", flush=True)
    clocks = []
    for seed in arguments.seeds:
        clocks.append(route_ecp5(emit_design(network, DSP_BITS["ecp5"]), seed).mhz)
        print(f"ECP5 (nextpnr), seed {seed}: {clocks[-1]:.1f} MHz", flush=True)
    return int(use.lut > LUTS or use.dsp > DSPS or max(clocks) < MHZ)


if __name__ == "__main__":
    sys.exit(main())
