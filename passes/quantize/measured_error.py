"""How far a plan is from the float graph, measured with the fake-quant executor on data that was held back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.calibration.padding import TokenMask, find_token_mask
from qcompiler.calibration.signature import to_numpy
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph, Value
from qcompiler.passes.quantize.plan import QuantPlan
from qcompiler.passes.quantize.sample_batches import batches, choose_samples

HELD_BACK = 8
"""Most samples that a decision is measured on."""


def split_samples(samples: Any, fraction: float = 0.25) -> tuple[Any, Any]:
    """(samples to fit, samples to judge by); the same for both where there is only one."""
    split = samples.split(fraction)
    return split.calibration, split.evaluation


class ErrorMeter:
    """Compares plans with the float graph on fixed samples; float outputs are computed once.

    Args:
        graph: the float graph that defines the right answer.
        samples: to judge by; at most `HELD_BACK` of them are used.
    """

    def __init__(self, graph: Graph, samples: Any) -> None:
        self.graph = graph
        chosen = choose_samples(graph, samples, HELD_BACK, 1 << 40)
        self.chunks = [_stack(chunk) for chunk in batches(graph, chosen)]
        self.mask = find_token_mask(graph, "auto")
        executor = TorchExecutor(graph)
        self.expected = [self._outputs(executor.run(chunk), chunk) for chunk in self.chunks]

    def sqnr_db(self, plan: QuantPlan) -> float:
        """Signal to noise in dB over all float outputs, each weighted by its own power; padding left out."""
        executor = TorchExecutor(plan.graph)
        power, noise = np.zeros(len(self.graph.outputs)), np.zeros(len(self.graph.outputs))
        for chunk, expected in zip(self.chunks, self.expected):
            for i, (a, b) in enumerate(zip(expected, self._outputs(executor.run(chunk, plan=plan), chunk))):
                power[i] += np.square(a, dtype=np.float64).sum()
                noise[i] += np.square(np.subtract(a, b, dtype=np.float64)).sum()
        used = power > 0
        ratio = float((noise[used] / power[used]).mean()) if used.any() else 0.0
        return 200.0 if ratio <= 1e-20 else float(-10 * np.log10(ratio))

    def _outputs(self, tensors: Sequence[Any], chunk: Sequence[np.ndarray]) -> list[np.ndarray]:
        keep = None if self.mask is None else self.mask.keep(chunk)
        arrays = []
        for value, tensor in zip(self.graph.outputs, tensors):
            array = to_numpy(tensor, "an output")
            arrays.append(_unpadded(array, value, self.mask, keep) if value.dtype.is_float else array[:0])
        return arrays


def _unpadded(array: np.ndarray, value: Value, mask: TokenMask | None, keep: Any) -> np.ndarray:
    axes = None if mask is None or keep is None else mask.axes(value, array.shape)
    if axes is None:
        return array
    kept: np.ndarray = np.moveaxis(array, axes, (0, 1))[np.asarray(keep)]
    return kept


def _stack(chunk: list[Sequence[Any]]) -> list[np.ndarray]:
    return [np.concatenate([np.asarray(a) for a in arrays]) if len(arrays) > 1 else np.asarray(arrays[0]) for arrays in zip(*chunk)]
