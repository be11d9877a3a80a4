"""One training loop for all of the small networks, and how their weights are stored."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from benchmarks.models import MODELS, TrainedModel, fashion_mnist

EVALUATED = 10_000
CHUNK = 500
"""Test images that are run at once."""


@dataclass(frozen=True)
class Schedule:
    """AdamW, its rate rising to `rate` in a tenth of the steps and falling as a cosine after.

    Attributes:
        epochs: passes over the training images.
        batch: images of a step.
        rate: largest learning rate.
        decay: of the weights.
        shift: images are moved by up to this many of their 28 pixels, and mirrored half of the time;
            0: they stay as they are.
    """

    epochs: int
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.02
    shift: int = 2


def augment(images: torch.Tensor, shift: int, generator: torch.Generator) -> torch.Tensor:
    """Each image [n, 28, 28] mirrored or not, and moved; what comes in at the border is black."""
    count, side = len(images), images.shape[-1]
    padded = F.pad(images, (shift, shift, shift, shift))
    rows, columns = torch.randint(0, 2 * shift + 1, (2, count), generator=generator)
    rows, columns = rows[:, None] + torch.arange(side), columns[:, None] + torch.arange(side)
    mirrored = torch.rand(count, generator=generator) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def evaluate(model: TrainedModel, module: torch.nn.Module, count: int = EVALUATED) -> float:
    """`model.metric` of `module` on the first `count` test images."""
    module.eval()
    images, _ = fashion_mnist.read("t10k")
    with torch.no_grad():
        chunks = [model.prepare(images[i : min(i + CHUNK, count)]) for i in range(0, count, CHUNK)]
        outputs = np.concatenate([module(torch.from_numpy(chunk)).numpy() for chunk in chunks])
    inputs = np.concatenate(chunks) if model.metric == "auc" else outputs
    labels = fashion_mnist.read("t10k")[1][:count].astype(np.int64)
    return model.score(
        inputs, outputs, labels if model.normal is None else (labels != model.normal).astype(np.int64)
    )


def train(name: str, schedule: Schedule) -> None:
    """Train network `name` from seed 0 and write its weights beside its script.

    Classifiers learn the class by cross-entropy, a network of one class its input by squared error.
    """
    arguments = argparse.ArgumentParser(description=f"Train {name} on Fashion-MNIST and write its weights.")
    arguments.add_argument("--epochs", type=int, default=schedule.epochs)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    model = MODELS[name]
    module = model.untrained().to(memory_format=torch.channels_last)  # nearly twice as fast
    generator = torch.Generator().manual_seed(0)
    pixels, classes = fashion_mnist.read("train")
    chosen = np.ones(len(classes), bool) if model.normal is None else classes == model.normal
    images, labels = torch.from_numpy(pixels[chosen]), torch.from_numpy(classes[chosen].astype(np.int64))
    batches = len(images) // schedule.batch
    optimizer = torch.optim.AdamW(module.parameters(), schedule.rate, weight_decay=schedule.decay)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.rate, total_steps=options.epochs * batches, pct_start=0.1
    )
    for epoch in range(options.epochs):
        start, losses = time.perf_counter(), 0.0
        module.train()
        for chosen_now in torch.randperm(len(images), generator=generator)[: batches * schedule.batch].view(
            batches, -1
        ):
            pixels_now = images[chosen_now]
            if schedule.shift:
                pixels_now = augment(pixels_now, schedule.shift, generator)
            inputs = torch.from_numpy(model.prepare(pixels_now.numpy()))
            outputs = module(_channels_last(inputs))
            loss = (
                F.cross_entropy(outputs, labels[chosen_now])
                if model.normal is None
                else F.mse_loss(outputs, inputs)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
            losses += loss.item()
        seconds = time.perf_counter() - start
        print(
            f"epoch {epoch + 1}: loss {losses / batches:.4f}, {model.metric} of 2000 {evaluate(model, module, 2000):.4f}, {seconds:.0f} s",
            flush=True,
        )
    save(model, module)
    print(
        f"{name}: {model.metric} {evaluate(model, model.load()[0]):.4f} of {EVALUATED} test images, weights {model.weights}"
    )


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def save(model: TrainedModel, module: torch.nn.Module) -> None:
    """Matrices and kernels as float16, everything else as it is (variances of channels can be tiny)."""
    state = {name: value.half() if value.ndim >= 2 else value for name, value in module.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, model.weights)
