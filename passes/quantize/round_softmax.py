"""Round the weights of attention to powers of two, or of the square root of two.

    P' = s 2^(-step q),  q = clip(round(-log2(P / s) / step), 0, 2^b - 1)

(FQ-ViT, Lin et al. 2022, section 3.3, step 1; RepQ-ViT, Li et al. 2023, section 3.3, step 1/2.) A few bits with equal
steps drop the many small weights, which together are most of a flat row; powers of two keep them and are coarse for
the few large weights of a peaked row. Step, scale s and whether the last code stands for 0, or equal steps after all,
are chosen per softmax by the squared error of P V on calibration data. The product with the values reads the numbers
a code stands for as int16, which a table or a shift gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from pydantic import Field

from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph, Node, Rewriter, Value, rewrite
from qcompiler.ir.ops.rounding import log2_table
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result


class RoundSoftmaxConfig(PassConfig):
    """How softmax results that a matmul reads are rounded.

    Attributes:
        bits: of a code; None leaves softmax alone.
        steps: candidates, in powers of two.
        scales: candidates for the scale: 2^-k for k in 0, 1/2, .. up to this many halves.
        equal_steps: among the candidates.
        samples: calibration samples that candidates are scored on.
    """

    bits: int | None = Field(None, ge=2, le=8)
    steps: tuple[float, ...] = (1.0, 0.5)
    scales: int = Field(6, ge=0)
    equal_steps: bool = True
    samples: int = Field(32, ge=1)


class RoundSoftmax(Pass):
    """See the module docstring."""

    name = "round_softmax"
    kind = Kind.LOSSY
    must_follow = ("split_attention",)

    def __init__(self, config: RoundSoftmaxConfig | None = None) -> None:
        self.config = config or RoundSoftmaxConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Needs `context.samples`, or the decisions of a lock file."""
        bits = self.config.bits
        if bits is None:
            return Result(graph, False)
        sites = [n for n in graph.nodes if n.op == "softmax" and _product(graph, n) is not None]
        keys = [f"{i}:{n.origin.module}" for i, n in enumerate(sites)]
        locked = (context.locked or {}).get(self.name)
        if locked is None:
            choices = self._measure(graph, sites, context, bits)
        else:
            choices = {n: dict(locked[key]) for n, key in zip(sites, keys, strict=True)}
        context.decisions[self.name] = {key: choices[n] for n, key in zip(sites, keys, strict=True)}
        chosen = {n: attrs for n, attrs in choices.items() if attrs}

        def visit(new: Rewriter, node: Node) -> Value | None:
            if node not in chosen:
                return None
            (kept,) = new.keep(node)
            return new.op("round_log2", kept, name="rounded", **chosen[node])

        result = rewrite(graph, visit, self.name) if chosen else graph
        return Result(result, bool(chosen), tuple(_note(n, choices[n]) for n in sites))

    def _measure(self, graph: Graph, sites: list[Node], context: Context, bits: int) -> dict[Node, dict[str, Any]]:
        if not sites:
            return {}
        samples, count = context.samples, min(len(context.samples), self.config.samples)
        executor, grid = TorchExecutor(graph), candidates(bits, self.config)
        values = {n: (n.output, second) for n in sites if (second := _product(graph, n)) is not None}
        errors = {n: np.zeros(len(grid)) for n in sites}
        for index in np.linspace(0, len(samples) - 1, count).round():
            seen: dict[Value, np.ndarray] = {}
            taps = {v for pair in values.values() for v in pair}
            executor.run(samples[int(index)], taps, lambda v, t, seen=seen: seen.__setitem__(v, np.asarray(t)))
            for node, (weights, read) in values.items():
                errors[node] += list(_errors(seen[weights], seen[read], grid))
        best = {n: grid[int(e.argmin())] for n, e in errors.items()}
        return {n: attrs if attrs["step"] else {} for n, attrs in best.items()}


def candidates(bits: int, config: RoundSoftmaxConfig) -> list[dict[str, Any]]:
    """Attributes of `round_log2`; step 0 stands for equal steps from 0 to the scale."""
    scales = [2.0 ** (-half / 2) for half in range(config.scales + 1)]
    powers = [
        {"bits": bits, "step": step, "scale": scale, "zero": zero}
        for step, scale, zero in product(config.steps, scales, (False, True))
    ]
    equal = [{"bits": bits, "step": 0.0, "scale": scale, "zero": True} for scale in scales]
    return [*powers, *(equal if config.equal_steps else [])]


def round_weights(weights: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
    """Attention weights, float32, as a candidate rounds them."""
    top = (1 << attrs["bits"]) - 1
    if not attrs["step"]:
        step = attrs["scale"] / top
        return np.asarray(np.minimum(np.rint(weights / step), top) * step)
    with np.errstate(divide="ignore"):
        exact = np.log2(weights / np.float32(attrs["scale"])) / np.float32(-attrs["step"])
    return np.asarray(log2_table(attrs)[np.clip(np.rint(exact), 0, top).astype(np.int64)])


def _errors(weights: np.ndarray, values: np.ndarray, grid: list[dict[str, Any]]) -> Iterator[float]:
    """Squared error of the product [..., tokens, width] under each candidate."""
    for attrs in grid:
        yield float(np.square((round_weights(weights, attrs) - weights) @ values).sum())


def _note(node: Node, attrs: dict[str, Any]) -> Note:
    if not attrs:
        return Note(node.where(), False, "equal steps give the product less error")
    return Note(node.where(), True, f"step {attrs['step']}, scale {attrs['scale']:.3g}", attrs)


def _product(graph: Graph, node: Node) -> Value | None:
    """The values that a softmax weighs: the other operand of the one matmul that reads it, None without one."""
    users = graph.uses(node.output)
    if len(users) != 1 or users[0][0].op != "matmul" or users[0][1] != 0:
        return None
    return users[0][0].operands[1]
