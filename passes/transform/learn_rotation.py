"""Learn the rotation of a residual stream from calibration data, by Cayley descent.

The noise of rounding to a grid of fixed size grows with the square of the range. With x the norms' results [n, D] and w
the rows of the readers' weights (norm weight folded in), the loss is the sum of squared ranges per power,

    L(R) = mean over norms (|x R|_p / rms)^2 + mean over readers and rows (|w R|_p / rms)^2

where the p-norm over all entries (over one row, for weights) stands for the largest, so that it has a gradient. Steps
stay on the orthogonal matrices: with A = G R^T - R G^T skew,

    R <- (I + a/2 A)^-1 (I - a/2 A) R                  (Li, Fuxin and Todorovic 2020, "Cayley transform", eq. 4)

SpinQuant (Liu et al. 2024) learns the same matrices with the network's loss; this needs no backward pass through it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qcompiler.ir import Graph, Node
from qcompiler.passes.base import Context

from .residual_stream import Stream
from .site_rows import SampleRows, rows_of

POWER = 10
ROWS = 256
"""Rows of each norm's operand that the loss looks at."""
WEIGHT_ROWS = 256
"""Rows of each reader's weight that the loss looks at."""


@dataclass(frozen=True)
class Learned:
    """R [D, D], float64, orthogonal, with the loss of the start and of the result."""

    matrix: np.ndarray
    before: float
    after: float


def learn_stream_rotation(
    graph: Graph, stream: Stream, start: np.ndarray, context: Context, steps: int, learning_rate: float
) -> Learned:
    """The best rotation seen on the way from `start`.

    Args:
        graph: that the stream is of.
        stream: to be rotated.
        start: [D, D], orthogonal.
        context: with calibration samples.
        steps: of the descent.
        learning_rate: a = learning_rate / |A|, the spectral size of a step; falls along a half cosine.

    Raises:
        UsageError: there is no calibration data, or it holds NaN.
    """
    found = rows_of(graph, list(dict.fromkeys(n.operands[0] for n in stream.norms)), context, ROWS)
    rows = [_normalised(found[n.operands[0]], n) for n in stream.norms]
    weights = [_folded(n, reader) for n in stream.norms for reader, _ in graph.uses(n.output)]
    return descend(start, rows, weights, steps, learning_rate)


def descend(start: np.ndarray, rows: list[Tensor], weights: list[Tensor], steps: int, learning_rate: float) -> Learned:
    """Minimise L from `start`; rows [n, D] and weights [N, D] float64."""
    current = torch.from_numpy(np.array(start, np.float64))
    best, least, first = current, float("inf"), 0.0
    for step in range(steps + 1):
        turned = current.clone().requires_grad_()
        with torch.enable_grad():
            loss = _loss(turned, rows, weights)
            (gradient,) = torch.autograd.grad(loss, turned)
        value = float(loss.detach())
        first = value if step == 0 else first
        if value < least:
            best, least = current, value
        rate = learning_rate * 0.5 * (1 + float(np.cos(np.pi * step / max(steps, 1))))
        current = cayley_step(current, gradient, rate)
    return Learned(best.numpy(), first, least)


def cayley_step(r: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """One step on the orthogonal matrices, against the gradient; `rate` is the size of the turn."""
    skew = gradient @ r.T - r @ gradient.T
    size = float(torch.linalg.matrix_norm(skew, 2))
    if size == 0:
        return r
    half = (rate / size / 2) * skew
    eye = torch.eye(len(r), dtype=r.dtype)
    return torch.linalg.solve(eye + half, (eye - half) @ r)


def _loss(r: Tensor, rows: list[Tensor], weights: list[Tensor]) -> Tensor:
    spread = [_peak((x @ r).flatten()) for x in rows]
    spread += [_peak(w @ r).mean() for w in weights]
    return torch.stack(spread).sum() / len(rows)


def _peak(x: Tensor) -> Tensor:
    """(p-norm / rms)^2 over the last axis."""
    scale = x.detach().abs().amax(-1, keepdim=True).clamp_min(1e-30)
    high = ((x / scale).abs() ** POWER).sum(-1) ** (2 / POWER) * scale[..., 0] ** 2
    return high / (x**2).mean(-1).clamp_min(1e-30)


def _normalised(samples: list[SampleRows], norm: Node) -> Tensor:
    """What the norm computes before its weight and bias, float64."""
    x = torch.from_numpy(np.concatenate([s.rows for s in samples]).astype(np.float64))
    if norm.op == "layer_norm":
        x = x - x.mean(1, keepdim=True)
    return x / torch.sqrt((x**2).mean(1, keepdim=True) + norm.attrs["eps"])


def _folded(norm: Node, reader: Node) -> Tensor:
    weight, gamma = reader.operands[1].data, norm.inputs[1]
    assert weight is not None
    some = weight[np.linspace(0, len(weight) - 1, min(len(weight), WEIGHT_ROWS)).astype(int)].astype(np.float64)
    if gamma is not None and gamma.data is not None:
        some = some * gamma.data
    return torch.from_numpy(some)
