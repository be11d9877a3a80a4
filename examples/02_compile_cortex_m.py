"""Compile a small convolutional network for a Cortex-M4, and run it there, emulated.

    python examples/02_compile_cortex_m.py --out out/shapes-m4

It learns to tell three drawn shapes apart in a few seconds, becomes a C project for a part with 128 K of flash and 32 K
of RAM, and runs in QEMU (Debian: gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm make). Without these
tools the project is still written, and run on this machine.
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
from qcompiler.report import print_report

SIZE = 24
EPOCHS = 12


def shapes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images [count, 1, SIZE, SIZE] of a disc, a ring or a cross, and which it is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    y, x = np.mgrid[:SIZE, :SIZE]
    images = []
    for label in labels:
        cy, cx, radius = rng.uniform(8, SIZE - 8, 2).tolist() + [rng.uniform(4, 7)]
        distance = np.hypot(y - cy, x - cx)
        cross = (np.minimum(abs(y - cy), abs(x - cx)) < 1.2) & (np.maximum(abs(y - cy), abs(x - cx)) < radius)
        drawn = (distance < radius, abs(distance - radius) < 1.2, cross)[label]
        images.append(drawn + rng.normal(0, 0.25, (SIZE, SIZE)))
    return np.asarray(images, np.float32)[:, None], labels


class Residual(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, C, H, W] -> the same."""
        return torch.relu(x + self.second(self.first(x)))


def network() -> nn.Module:
    """Stem, residual block, depthwise-separable layer, classifier."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), Residual(8),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), nn.Conv2d(8, 16, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def train(model: nn.Module) -> nn.Module:
    """Train on drawn shapes."""
    images, labels = (torch.from_numpy(a) for a in shapes(1024, seed=0))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[part]), labels[part]).backward()
            optimizer.step()
    return model.eval()


def main(out: Path) -> None:
    """Train, compile, print the figures, run on the emulated board."""
    torch.manual_seed(0)
    model = train(network())
    calibration, (images, labels) = shapes(64, seed=1)[0], shapes(200, seed=2)
    compiled = qc.compile(
        model,
        (torch.zeros(1, 1, SIZE, SIZE),),
        target="cortex-m4:flash=128K,ram=32K",
        recipe="w8a8-int",
        calibration=[(image[None],) for image in calibration],
        evaluation=[(image[None],) for image in images],
    )
    print_report(compiled.report)
    right = np.mean([compiled.run(i[None])[0].argmax() == k for i, k in zip(images, labels, strict=True)])
    print(f"right on {right:.1%} of {len(images)} shapes")

    folder = compiled.save(out, force=True)
    samples = [quantize_inputs(compiled.graph, [image[None]]) for image in images[:5]]
    try:
        run = compiled.target.simulate(compiled.graph, folder, samples, "qemu")
    except MissingToolError as missing:
        print(f"not run on an emulated board: {missing}")
        return
    print(
        f"in QEMU: {run.differing} integers differ from the reference, {run.instructions:,} instructions,"
        f" {run.flash_bytes} bytes of flash, {run.ram_bytes} bytes of RAM"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/shapes-m4"), help="artefact folder")
    main(parser.parse_args().out)
