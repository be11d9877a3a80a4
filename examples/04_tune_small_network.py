"""Search for the bits of every layer of a small network within a size, for a Cortex-M4.

    python examples/04_tune_small_network.py --out out/digits-m4

A network learns the 8x8 digits of scikit-learn in a few seconds. `tune` then looks for the precisions that lose least
within a size between those of 4 and of 8 bits everywhere, from trials on this machine (a C compiler is needed, no
board). The same command again goes on from the trials that were kept, and ends at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import qcompiler as qc
from qcompiler.compilation import Request
from qcompiler.search.limits import Limits
from qcompiler.search.result import Progress, Settings
from qcompiler.search.tune import tune

CALIBRATION, TRAINED, SEARCH = 32, 1297, 250
"""The first images train, of them the very first calibrate; the next decide, the rest are only reported."""


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 images [N, 1, 8, 8] between -1 and 1, and what they show."""
    found = load_digits()
    return (found.images[:, None] / 8 - 1).astype(np.float32), found.target


def network() -> nn.Module:
    """Three convolutions and a classifier."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def train(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> nn.Module:
    """Train for a few seconds."""
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(12):
        for part in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
    return model.eval()


def main(out: Path, size: str, trials: int) -> None:
    """Train, search, save, compile the recipe that was found once more."""
    torch.manual_seed(0)
    images, labels = digits()
    model = train(network(), images[:TRAINED], labels[:TRAINED])

    def show(progress: Progress) -> None:
        print(f"{progress.stage} trial {progress.done} of {progress.total}, best: {progress.best}", flush=True)

    calibration = [(image[None],) for image in images[:CALIBRATION]]
    example = (torch.zeros(1, 1, 8, 8),)
    request = Request(
        model, example, target="cortex-m4", recipe="w8a8-int", calibration=calibration,
        evaluation=[(image[None],) for image in images[TRAINED : TRAINED + 2 * SEARCH]],
    )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    store = out.with_name(f"{out.name}.trials.sqlite")
    tuned = tune(request, Limits(size=size), Settings(trials=trials), store, show=show)
    folder = tuned.save(out, force=True)
    best, before = tuned.result.best, tuned.result.baseline
    for name, trial in (("8 bits everywhere", before), ("found", best)):
        print(f"{name}: {trial.value('size_bytes'):.0f} bytes, SQNR {trial.value('sqnr_db'):.1f} dB")
    for group, choice in best.config["groups"].items():
        print(f"  {group}: {choice}")

    again = qc.compile(model, example, target="cortex-m4", recipe=str(folder / "recipe.yaml"), calibration=calibration)
    rest = slice(TRAINED + SEARCH, None)
    right = np.mean([again.run(i[None])[0].argmax() == k for i, k in zip(images[rest], labels[rest], strict=True)])
    print(f"right on {right:.1%} of the digits that decided nothing; {tuned.result.resumed} trials were known before")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/digits-m4"), help="artefact folder")
    parser.add_argument("--max-size", default="12kB", help="of constants in flash")
    parser.add_argument("--trials", type=int, default=24, help="accuracy trials")
    given = parser.parse_args()
    main(given.out, given.max_size, given.trials)
