"""Error of every layer of a quantized model against the float one, for the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.report import LayerErrorRow

if TYPE_CHECKING:
    from qcompiler.ir import Node, Value
    from qcompiler.passes.quantize.plan import QuantPlan

SHOWN = frozenset({"linear", "norm", "attention", "pool", "reduce"})
"""Categories of ops whose results are shown besides those of integer ops."""


@dataclass
class _Sums:
    signal: float = 0.0
    noise: float = 0.0
    shift: float = 0.0
    worst: float = 0.0
    count: int = 0

    def add(self, got: np.ndarray, expected: np.ndarray) -> None:
        error = got.astype(np.float64) - expected
        self.signal += float((expected.astype(np.float64) ** 2).sum())
        self.noise += float((error**2).sum())
        self.shift += float(error.sum())
        self.worst = max(self.worst, float(np.abs(error).max(initial=0)))
        self.count += error.size


def layer_errors(plan: QuantPlan, samples: Iterable[Sequence[np.ndarray]]) -> tuple[LayerErrorRow, ...]:
    """One row per layer in execution order: the float run beside the run rounded as the plan says.

    Both run the same graph, so values correspond one to one. Where an activation became the limits of the layer
    before it, the layer is compared after that activation.
    """
    from qcompiler.executors.torch_executor import TorchExecutor

    executor = TorchExecutor(plan.graph)
    taps = {plan.result_of(node): node for node in plan.graph.nodes if _shown(node, plan)}
    sums: dict[Value, _Sums] = {value: _Sums() for value in taps}
    for arrays in samples:
        exact: dict[Value, np.ndarray] = {}

        def keep(value: Value, tensor: Any, exact: dict[Value, np.ndarray] = exact) -> None:
            exact[value] = np.array(tensor)

        def compare(value: Value, tensor: Any, exact: dict[Value, np.ndarray] = exact) -> None:
            sums[value].add(np.asarray(tensor), exact.pop(value))

        executor.run(arrays, taps=taps, on_value=keep)
        executor.run(arrays, taps=taps, on_value=compare, plan=plan)
    return tuple(_row(node, sums[value]) for value, node in taps.items() if sums[value].count)


def _shown(node: Node, plan: QuantPlan) -> bool:
    from qcompiler.ir import get_op

    if len(node.outputs) != 1 or not node.output.dtype.is_float or plan.fused_into(node) is not None:
        return False
    return plan.is_integer(node) or get_op(node.op).category in SHOWN


def _row(node: Node, sums: _Sums) -> LayerErrorRow:
    if sums.noise == 0:
        sqnr = float("inf")
    else:
        sqnr = float(10 * np.log10(sums.signal / sums.noise)) if sums.signal else float("-inf")
    return LayerErrorRow(
        module=node.origin.module,
        op=node.op,
        sqnr_cumulative_db=sqnr,
        max_abs_error=sums.worst,
        mean_shift=sums.shift / sums.count,
        rms=float(np.sqrt(sums.signal / sums.count)),
    )
