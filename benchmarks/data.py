"""Photographs and sentences that come inside ordinary packages, split for calibration and evaluation.

No photograph and no help topic serves both purposes. Everything is a function of its seed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics
from typing import Literal

import numpy as np
from PIL import Image

Split = Literal["calibration", "evaluation"]

# Package, folder and files. The seven natural scenes judge; calibration gets what is left, which is less like
# them: a portrait, an eye's retina, tissue under the microscope, galaxies, and grey photographs.
PHOTOGRAPHS: dict[Split, tuple[tuple[str, str], ...]] = {
    "evaluation": (
        ("skimage", "data/astronaut.png"),
        ("skimage", "data/chelsea.png"),
        ("skimage", "data/coffee.png"),
        ("skimage", "data/motorcycle_left.png"),
        ("skimage", "data/rocket.jpg"),
        ("sklearn", "datasets/images/china.jpg"),
        ("sklearn", "datasets/images/flower.jpg"),
    ),
    "calibration": (
        ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
        ("skimage", "data/camera.png"),
        ("skimage", "data/coins.png"),
        ("skimage", "data/hubble_deep_field.jpg"),
        ("skimage", "data/ihc.png"),
        ("skimage", "data/retina.jpg"),
    ),
}
SIDE = 224


def crops(split: Split, count: int, seed: int = 0) -> np.ndarray:
    """Random square crops as EfficientNet-Lite wants them: [count, 3, 224, 224] float32, (pixel - 127) / 128.

    The photographs take turns; a crop's side is between 160 pixels (half of a small photograph's shorter side)
    and the whole shorter side.
    """
    random = np.random.default_rng(seed)
    photographs = [_photograph(*where) for where in PHOTOGRAPHS[split]]
    out = np.empty((count, 3, SIDE, SIDE), np.float32)
    for i in range(count):
        image = photographs[i % len(photographs)]
        width, height = image.size
        shorter = min(width, height)
        side = int(random.integers(min(160, shorter // 2), shorter + 1))
        x, y = int(random.integers(0, width - side + 1)), int(random.integers(0, height - side + 1))
        pixels = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
        out[i] = (np.asarray(pixels, np.float32).transpose(2, 0, 1) - 127) / 128
    return out


def varied(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Crops in other light: gamma, brightness and a gain per colour drawn anew, half of them mirrored, some with colours swapped.

    Calibration photographs are few, and the mean of a crop's activations is mostly its photograph's.
    """
    random = np.random.default_rng(seed)
    out = np.empty_like(images)
    for i, image in enumerate(images):
        light = (image * 128 + 127) / 255
        light = np.clip(light, 0, 1) ** random.uniform(0.6, 1.6)
        gain = random.uniform(0.6, 1.4, size=(3, 1, 1)) * random.uniform(0.7, 1.2)
        light = np.clip(light * gain + random.uniform(-0.15, 0.15), 0, 1)
        if random.random() < 0.5:
            light = light[:, :, ::-1]
        if random.random() < 0.3:
            light = light[random.permutation(3)]
        out[i] = (np.rint(light * 255) - 127) / 128
    return out


@cache
def _photograph(package: str, name: str) -> Image.Image:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is not installed: pip install qcompiler[models]"
    return Image.open(Path(spec.origin).parent / name).convert("RGB")


def sentences(split: Split, count: int, seed: int = 0) -> list[str]:
    """English sentences of 6 to 60 words from the help topics that Python carries, each at most once.

    Every other topic, in the order of a fixed shuffle, belongs to the other split; what both repeat is
    evaluation's. The topics change a little from one Python version to the next.

    Raises:
        ValueError: there are fewer than `count`.
    """
    names = np.random.default_rng(0).permutation(sorted(topics))
    mine = _distinct(names[0::2])
    if split == "calibration":
        judged = set(mine)
        mine = [sentence for sentence in _distinct(names[1::2]) if sentence not in judged]
    if len(mine) < count:
        raise ValueError(f"{split} has {len(mine)} sentences, not {count}")
    order = np.random.default_rng(seed).permutation(len(mine))
    return [mine[i] for i in order[:count]]


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(sentence for name in names for sentence in _sentences_of(topics[name])))


def _sentences_of(topic: str) -> list[str]:
    """Running text only: paragraphs of indented code, grammar and tables have other shapes."""
    prose = [block for block in topic.split("\n\n") if re.match(r" {0,3}[A-Z]", block) and "::=" not in block]
    parts = [s for block in prose for s in re.split(r"(?<=[.?!])\s+(?=[A-Z])", " ".join(block.split()))]
    return [s for s in parts if s.endswith((".", "?", "!")) and 6 <= len(s.split()) <= 60]
