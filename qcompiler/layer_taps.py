"""Which layers of a quantized model the report compares with float, and the two runs behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.report.layer_error import LayerErrors, Tap

if TYPE_CHECKING:
    from qcompiler.ir import Node, Value
    from qcompiler.passes.quantize.plan import QuantPlan
    from qcompiler.report import LayerErrorRow

SHOWN = frozenset({"linear", "norm", "attention", "pool", "reduce"})
"""Categories of ops whose results are shown besides those of integer ops."""


def compare_layers(plan: QuantPlan, samples: Iterable[Sequence[np.ndarray]]) -> tuple[LayerErrorRow, ...]:
    """One row per layer in execution order: the float run beside the run rounded as the plan says.

    Both run the same graph, so values correspond one to one. A layer is compared after the activation that
    became the limits of its requantize.
    """
    from qcompiler.executors.torch_executor import TorchExecutor

    executor = TorchExecutor(plan.graph)
    layers = {plan.result_of(node): node for node in plan.graph.nodes if _shown(node, plan)}
    errors = LayerErrors(Tap(value, node.origin.module, node.op) for value, node in layers.items())
    for arrays in samples:
        exact: dict[Value, np.ndarray] = {}

        def keep(value: Value, tensor: Any, exact: dict[Value, np.ndarray] = exact) -> None:
            exact[value] = np.array(tensor)

        def compare(value: Value, tensor: Any, exact: dict[Value, np.ndarray] = exact) -> None:
            errors.add(value, exact.pop(value), np.asarray(tensor))

        executor.run(arrays, taps=layers, on_value=keep)
        executor.run(arrays, taps=layers, on_value=compare, plan=plan)
    return errors.rows()


def _shown(node: Node, plan: QuantPlan) -> bool:
    from qcompiler.ir import get_op

    if len(node.outputs) != 1 or not node.output.dtype.is_float or plan.fused_into(node) is not None:
        return False
    return plan.is_integer(node) or get_op(node.op).category in SHOWN
