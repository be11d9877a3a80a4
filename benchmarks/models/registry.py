"""What a small trained network offers: itself, its data, and how its outputs are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from benchmarks.models import fashion_mnist
from qcompiler.errors import UsageError

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class TrainedModel:
    """A small network trained on Fashion-MNIST, with its data.

    Attributes:
        name: folder of its model, training script and weights.
        title: for tables.
        build: the network with random weights.
        input_shape: of one sample, without the batch axis.
        macs: multiplications of one inference in convolutions, linear layers and products of attention.
        metric: what `score` returns: "top1" (fraction right) or "auc" (area under the ROC curve).
        normal: class that the network is trained on alone; None: all ten.
    """

    name: str
    title: str
    build: Callable[[], torch.nn.Module]
    input_shape: tuple[int, ...]
    macs: int
    metric: str = "top1"
    normal: int | None = None

    @property
    def weights(self) -> Path:
        """Where the trained weights are."""
        return FOLDER / self.name / "weights.safetensors"

    def example_inputs(self) -> tuple[torch.Tensor]:
        """One batch of one sample of zeros."""
        return (torch.zeros(1, *self.input_shape),)

    def untrained(self, seed: int = 0) -> torch.nn.Module:
        """The network in training mode, with weights that depend on `seed` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build()

    def load(self) -> tuple[torch.nn.Module, tuple[torch.Tensor]]:
        """The trained network in evaluation mode, and example inputs.

        Raises:
            UsageError: there are no weights, or they are another network's.
        """
        module = self.untrained()
        if not self.weights.is_file():
            raise UsageError(f"{self.name} is not trained: run python -m benchmarks.models.{self.name}.train")
        try:
            module.load_state_dict({name: value.float() for name, value in load_file(self.weights).items()})
        except RuntimeError as error:  # torch lists what is missing, unexpected, or of another shape
            raise UsageError(f"{self.weights} is not of this network: {error}") from error
        return module.eval(), self.example_inputs()

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Images [n, 28, 28] uint8 as the network takes them: [n, *input_shape] float32.

        Images are resampled (bilinear) to the input's height and width, or padded where those are 32x32, and
        their one channel is repeated. A flat input is an image of 20 columns, row after row.
        """
        channels, height, width = (
            self.input_shape if len(self.input_shape) == 3 else (1, self.input_shape[0] // 20, 20)
        )
        x = torch.from_numpy(fashion_mnist.normalise(images))[:, None]
        background = -fashion_mnist.MEAN / fashion_mnist.DEVIATION
        if (height, width) == (32, 32):
            x = F.pad(x, (2, 2, 2, 2), value=background)
        elif (height, width) != (28, 28):
            x = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
        return x.expand(-1, channels, -1, -1).reshape(-1, *self.input_shape).contiguous().numpy()

    def calibration(self, count: int = 256, seed: int = 0) -> np.ndarray:
        """Training images as the network takes them: [count, *input_shape] float32.

        Raises:
            MissingToolError: Fashion-MNIST is not installed.
        """
        images, labels = fashion_mnist.read("train")
        if self.normal is not None:
            images = images[labels == self.normal]
        chosen = np.random.default_rng(seed).permutation(len(images))[:count]
        return self.prepare(images[np.sort(chosen)])

    def training(self, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Training images as the network takes them, [count, *input_shape] float32, and their classes [count] int64.

        Raises:
            MissingToolError: Fashion-MNIST is not installed.
        """
        images, labels = fashion_mnist.read("train")
        chosen = np.random.default_rng(seed).permutation(len(images))[:count]
        return self.prepare(images[chosen]), labels[chosen].astype(np.int64)

    def evaluation(self, count: int = 1000) -> tuple[np.ndarray, np.ndarray]:
        """The first test images, [count, *input_shape] float32, and their labels [count] int64.

        The labels are classes, or for a network of one class 0 where the image is of it and 1 where it is not.

        Raises:
            MissingToolError: Fashion-MNIST is not installed.
        """
        images, labels = (array[:count] for array in fashion_mnist.read("t10k"))
        classes = labels.astype(np.int64)
        return self.prepare(images), classes if self.normal is None else (classes != self.normal).astype(
            np.int64
        )

    def score(self, inputs: np.ndarray, outputs: np.ndarray, labels: np.ndarray) -> float:
        """`metric` of the outputs [n, ...] for inputs [n, *input_shape] and labels [n] from `evaluation`."""
        if self.metric == "top1":
            return float((outputs.argmax(-1) == labels).mean())
        return area_under_curve(((outputs - inputs) ** 2).reshape(len(inputs), -1).mean(1), labels)


def area_under_curve(values: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a sample labelled 1 has a larger value than one labelled 0; ties count half."""
    positive, negative = values[labels == 1], np.sort(values[labels == 0])
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.mean() / (2 * len(negative)))
