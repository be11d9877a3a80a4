"""Train a small network with 4-bit weights and learned steps, and compile it to the integers it was trained with.

    python examples/05_qat_lsq.py --out out/ds-cnn-lsq

DS-CNN of `benchmarks/models` learns for a few epochs on some images of Fashion-MNIST (Debian: dataset-fashion-mnist)
with rounded weights and activations, whose step sizes are trained too (LSQ: Esser et al. 2020, arXiv:1902.08153). Steps
are powers of two, so that rescaling is a shift and rounds nothing twice (Jain et al. 2020, arXiv:1903.08066). The
compiler reads the steps out of the model's arithmetic; nothing is calibrated.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import qcompiler as qc
from qcompiler.executors.reference import run_reference

sys.path.insert(0, str(Path(__file__).parent.parent))  # the networks are not part of the package
from benchmarks.models import MODELS  # noqa: E402

NETWORK = MODELS["ds_cnn"]
BATCH = 50


def passing(value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """`value`, with the gradient of another expression."""
    return (value - gradient).detach() + gradient


class LearnedStep(nn.Module):
    """Rounds to codes in [low, high], less a zero point, times a step. The logarithm of the step is what is trained."""

    def __init__(self, low: int, high: int, start: torch.Tensor, zero: int = 0) -> None:
        super().__init__()
        self.low, self.high, self.zero = low, high, zero
        self.exponent = nn.Parameter(torch.log2(start))

    def step(self, elements: int = 1) -> torch.Tensor:
        """The step, a power of two. Its gradient is scaled by the number of elements that it sums over (LSQ, 2.2)."""
        share = (elements * self.high) ** -0.5
        exponent = passing(self.exponent, self.exponent * share)
        return torch.exp2(passing(exponent.round(), exponent))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Real numbers that codes stand for."""
        step = self.step(x.numel() // self.exponent.numel())
        codes = torch.clamp(x / step + self.zero, self.low, self.high)
        return (passing(codes.round(), codes) - self.zero) * step


class Layer(nn.Module):
    """A convolution or linear layer with rounded weights, bias and result."""

    def __init__(self, layer: nn.Module, bits: int, result: LearnedStep | None, relu: bool) -> None:
        super().__init__()
        self.layer, self.relu = layer, relu
        high = (1 << (bits - 1)) - 1
        axes = tuple(range(1, layer.weight.dim()))
        start = 2 * layer.weight.detach().abs().mean(axes, keepdim=True) / high**0.5  # LSQ, 2.1
        self.weight, self.result = LearnedStep(-high, high, start), result

    def forward(self, x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """x with the step of its codes: the bias is rounded to the accumulator's step."""
        weight = self.weight(self.layer.weight)
        bias_step = (step * self.weight.step()).reshape(-1)
        bias = passing((self.layer.bias / bias_step).round() * bias_step, self.layer.bias)
        if isinstance(self.layer, nn.Conv2d):
            y = self.layer._conv_forward(x, weight, bias)
        else:
            y = nn.functional.linear(x, weight, bias)
        y = torch.relu(y) if self.relu else y
        return y if self.result is None else self.result(y)


class QuantizedDSCNN(nn.Module):
    """The trained network with its batch norms folded, rounded everywhere."""

    def __init__(self, network: nn.Module, bits: int, ranges: list[float]) -> None:
        super().__init__()
        steps = [LearnedStep(0, 255, torch.tensor(top / 255)) for top in ranges[1:]]
        self.input = LearnedStep(0, 255, torch.tensor(ranges[0] / 127), zero=128)  # normalized images have a sign
        folded = [fuse_conv_bn_eval(part[0], part[1]) for part in network.layers]
        widths = [8, *[bits] * (len(folded) - 1)]  # the first layer has little to save
        self.layers = nn.ModuleList(Layer(f, w, s, True) for f, w, s in zip(folded, widths, steps[:-1], strict=True))
        self.pool, self.pooled = network.pool, steps[-1]
        self.classifier = Layer(network.classifier, 8, None, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 1, 49, 10] to logits."""
        x, step = self.input(x), self.input.step()
        for layer in self.layers:
            x, step = layer(x, step), layer.result.step()
        return self.classifier(self.pooled(self.pool(x)).flatten(1), self.pooled.step())


def largest(network: nn.Module, images: torch.Tensor) -> list[float]:
    """Largest magnitudes of the input, of every layer's result, and behind the pool."""
    found = [float(images.abs().max())]
    with torch.no_grad():
        for layer in network.layers:
            images = layer(images)
            found.append(float(images.max()))
        return [*found, float(network.pool(images).max())]


def train(model: nn.Module, images: np.ndarray, labels: np.ndarray, epochs: int) -> None:
    """A few epochs from the trained network."""
    inputs, classes = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(inputs) // BATCH))
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for chosen in torch.randperm(len(inputs), generator=generator).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[chosen]), classes[chosen]).backward()
            optimizer.step()
            schedule.step()


def trained_codes(model: QuantizedDSCNN, x: torch.Tensor) -> list[np.ndarray]:
    """Integers of the training graph: of the input, of every layer's result, behind the pool."""
    found: list[np.ndarray] = []

    def note(module: LearnedStep, _: object, y: torch.Tensor) -> None:
        found.append((y / module.step() + module.zero).numpy())

    quantizers = [model.input, *(layer.result for layer in model.layers), model.pooled]
    hooks = [q.register_forward_hook(note) for q in quantizers]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def compiled_codes(compiled: qc.Compiled, x: np.ndarray) -> list[np.ndarray]:
    """The same of the compiled program."""
    found: list[np.ndarray] = []
    codes = [v for n in compiled.graph.nodes if n.op in ("quantize", "requantize") for v in n.outputs]
    run_reference(compiled.graph, [x], codes, lambda _, array: found.append(array))
    return found


def main() -> None:
    """Train, compile, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="out/ds-cnn-lsq", help="artefact folder to write")
    parser.add_argument("--bits", type=int, default=4, help="of the weights")
    parser.add_argument("--images", type=int, default=1500, help="to train on")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--target", default="onnx")
    options = parser.parse_args()
    torch.manual_seed(0)
    network, example = NETWORK.load()
    images, labels = NETWORK.training(options.images)
    model = QuantizedDSCNN(network, options.bits, largest(network, torch.from_numpy(images[:200])))
    test, truth = NETWORK.evaluation(500)

    def right(module: nn.Module) -> float:
        with torch.no_grad():
            return 100 * float((module(torch.from_numpy(test)).argmax(-1).numpy() == truth).mean())

    print(f"float: {right(network):.1f}% right; {options.bits}-bit weights, not trained: {right(model):.1f}%")
    train(model, images, labels, options.epochs)
    model.eval()
    print(f"{options.bits}-bit weights, trained with learned steps: {right(model):.1f}%")
    samples = [(image[None],) for image in test[:16]]
    compiled = qc.compile(model, example, target=options.target, evaluation=samples)
    compiled.save(options.out, force=True)
    differing = values = 0
    for (image,) in samples:
        pairs = zip(trained_codes(model, torch.from_numpy(image)), compiled_codes(compiled, image), strict=True)
        for theirs, ours in pairs:
            differing, values = differing + int((theirs != ours).sum()), values + ours.size
    print(f"{differing} of {values} integers differ from the training graph's; wrote {options.out}")


if __name__ == "__main__":
    main()
