"""Compile a small network for an FPGA, with weights that need no multiplier, and simulate its Verilog.

    python examples/07_compile_fpga.py --out out/waves-fpga

It learns to tell three wave forms apart in a few seconds and becomes a dataflow project for Vitis HLS twice: with plain
8-bit weights, and with weights that are sums of two signed powers of two, which are multiplied by shifts. Both run as C++
on this machine; with Verilator (Debian: verilator) the Verilog of the second one runs too, clock by clock.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

import qcompiler as qc
from qcompiler.boundary import quantize_inputs
from qcompiler.errors import MissingToolError
from qcompiler.recipe import load_recipe

LENGTH = 32
EPOCHS = 30


def waves(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy sines, square waves and sawtooths [count, LENGTH], and which it is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    phase = 2 * np.pi * (np.arange(LENGTH) / LENGTH * rng.uniform(1, 3, (count, 1)) + rng.random((count, 1)))
    forms = np.stack([np.sin(phase), np.sign(np.sin(phase)), (phase / np.pi) % 2 - 1])
    noise = rng.normal(0, 0.2, (count, LENGTH))
    return (forms[labels, np.arange(count)] + noise).astype(np.float32), labels


def train() -> nn.Module:
    """Three linear layers that have learned it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(LENGTH, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 3))
    inputs, labels = (torch.from_numpy(a) for a in waves(2048, seed=0))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[part]), labels[part]).backward()
            optimizer.step()
    return model.eval()


def main(out: Path) -> None:
    """Train, compile both ways, print what they take, simulate."""
    model, (inputs, labels) = train(), waves(300, seed=2)
    calibration = [(x[None],) for x in waves(64, seed=1)[0]]
    for digits in (None, 2):
        recipe = load_recipe("w8a8-int").with_changes({"weight_digits": digits})
        compiled = qc.compile(
            model, (torch.zeros(1, LENGTH),), target="fpga-hls:xc7a35t", recipe=recipe, calibration=calibration,
            evaluation=[(x[None],) for x in inputs],
        )  # fmt: skip
        right = np.mean([compiled.run(x[None])[0].argmax() == k for x, k in zip(inputs, labels, strict=True)])
        use = compiled.target.footprint(compiled.graph)
        kind = f"weights of {digits} signed digits" if digits else "8-bit weights"
        print(f"{kind}: right on {right:.1%}, {use['cycles']:.0f} clocks per frame, {use['dsp']:.0f} DSP, {use['lut']:.0f} LUT (estimates)")
    folder = compiled.save(out, force=True)
    samples = [quantize_inputs(compiled.graph, [x[None]]) for x in inputs[:5]]
    try:
        run = compiled.target.simulate(compiled.graph, folder, samples, "verilator")
    except MissingToolError as missing:
        print(f"its Verilog was not run: {missing}")
        return
    print(f"in Verilator: {run.differing} integers differ from the reference, {run.cycles} clocks between frames")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/waves-fpga"), help="artefact folder")
    main(parser.parse_args().out)
