"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747): 60,000 + 10,000 labelled grey images of 28x28.

The Debian package `dataset-fashion-mnist` brings the files. Elsewhere, the environment variable FASHION_MNIST
names a folder that holds the four `*-ubyte.gz` files.
"""

from __future__ import annotations

import gzip
import os
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from qcompiler.errors import MissingToolError, UsageError

Part = Literal["train", "t10k"]

PACKAGE = "dataset-fashion-mnist"
CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
MEAN, DEVIATION = 0.2860, 0.3530
"""Of all training pixels, as fractions of 255."""
_IMAGES_MAGIC, _LABELS_MAGIC = 0x00000803, 0x00000801  # unsigned bytes in 3 and in 1 dimensions


def folder() -> Path:
    """Where the files are."""
    return Path(os.environ.get("FASHION_MNIST", f"/usr/share/datasets/{PACKAGE.removeprefix('dataset-')}"))


@cache
def read(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 28, 28] uint8 and labels [n] uint8; `train` has 60,000 and `t10k`, the test set, 10,000.

    Raises:
        MissingToolError: the files are not there.
        UsageError: a file is damaged.
    """
    images = _read_idx(folder() / f"{part}-images-idx3-ubyte.gz", _IMAGES_MAGIC, 3)
    labels = _read_idx(folder() / f"{part}-labels-idx1-ubyte.gz", _LABELS_MAGIC, 1)
    if len(images) != len(labels):
        raise UsageError(f"{folder()}: {part} has {len(images)} images and {len(labels)} labels")
    return images, labels


def _read_idx(path: Path, magic: int, rank: int) -> np.ndarray:
    """One idx file: magic number, one big-endian uint32 per dimension, then the bytes."""
    if not path.is_file():
        raise MissingToolError(
            f"Fashion-MNIST is not installed ({path} does not exist). On Debian: apt-get install {PACKAGE}; "
            "elsewhere set FASHION_MNIST to a folder that holds the four *-ubyte.gz files"
        )
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise UsageError(f"{path} is damaged: {error}") from error
    header = np.frombuffer(data[: 4 * (1 + rank)], ">u4")
    shape = tuple(int(size) for size in header[1:])
    body = data[4 * (1 + rank) :]
    if len(header) != 1 + rank or header[0] != magic or len(body) != int(np.prod(shape)):
        raise UsageError(f"{path} is damaged: its header does not fit its {len(data)} bytes")
    return np.frombuffer(body, np.uint8).reshape(shape)


def normalise(images: np.ndarray) -> np.ndarray:
    """Pixels 0..255 to mean 0 and deviation 1, float32 of the same shape."""
    return ((images.astype(np.float32) / 255 - MEAN) / DEVIATION).astype(np.float32)
