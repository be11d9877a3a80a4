"""Small FLOAT graphs with random weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qcompiler.calibration import Samples, load_samples
from qcompiler.ir import DType, Graph, GraphBuilder, Origin


def conv_chain(size: int = 8, channels: int = 64) -> Graph:
    """Stem 3x3, two 3x3 convolutions with ReLU6, global mean, classifier."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("chain")
    h = b.input("image", DType.float32, (1, 3, size, size))
    width = 3
    for name in ("stem", "middle", "last"):
        b.origin = Origin(name)
        weight = rng.normal(0, 0.1, (channels, width, 3, 3)).astype(np.float32)
        h = b.op("conv", h, b.const(weight, name=f"{name}.weight"), b.const(np.zeros(channels, np.float32)),
                 strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))  # fmt: skip
        h = b.op("clip", h, min=0.0, max=6.0)
        width = channels
    b.origin = Origin("head")
    h = b.op("reshape", b.op("reduce_mean", h, axes=(2, 3), keepdims=True), shape=(1, channels))
    weight = rng.normal(0, 0.1, (10, channels)).astype(np.float32)
    return b.build([b.op("linear", h, b.const(weight, name="head.weight"))], ["logits"])


def calibration(graph: Graph, count: int = 2) -> Samples:
    """Random normal samples for the inputs of a graph."""
    rng = np.random.default_rng(1)

    def samples() -> Iterator[tuple[np.ndarray, ...]]:
        for _ in range(count):
            yield tuple(rng.normal(size=v.shape).astype(np.float32) for v in graph.inputs)

    return load_samples(list(samples()), graph)
