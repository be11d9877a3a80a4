"""Which layers of a quantized model the report compares with float, and the two runs behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.real_tokens import RealTokens
from qcompiler.report.layer_error import LayerErrors, Tap

if TYPE_CHECKING:
    from qcompiler.executors.torch_executor import TorchExecutor
    from qcompiler.ir import Node, Value
    from qcompiler.passes.quantize.plan import QuantPlan
    from qcompiler.report import LayerErrorRow

SHOWN = frozenset({"linear", "norm", "attention", "pool", "reduce"})
"""Categories of ops whose results are shown besides those of integer ops."""


def compare_layers(plan: QuantPlan, samples: Iterable[Sequence[np.ndarray]]) -> tuple[LayerErrorRow, ...]:
    """One row per layer in execution order: the float run beside the run rounded as the plan says.

    Both run the same graph, so values correspond one to one. A layer is compared after the activation that
    became the limits of its requantize. Its local error is that of the layer alone, fed with the operands of the
    float run: what rounding its weights and its result costs. (Rounding of an operand that is stored as codes
    belongs to the layer that made it.) Padding is left out.
    """
    from qcompiler.executors.reference import bind_inputs
    from qcompiler.executors.tensors import to_array
    from qcompiler.executors.torch_executor import TorchExecutor

    executor = TorchExecutor(plan.graph)
    layers = {plan.result_of(node): node for node in plan.graph.nodes if _shown(node, plan)}
    wanted = {*layers, *(value for node in layers.values() for value in node.operands if not value.is_const)}
    tokens = RealTokens(plan.graph)
    errors = LayerErrors(Tap(value, node.origin.module, node.op) for value, node in layers.items())
    for arrays in samples:
        tokens.of_sample(arrays)
        bindings = bind_inputs(plan.graph, [array.shape for array in arrays])
        exact: dict[Value, Any] = {}

        def compare(value: Value, tensor: Any, exact: dict[Value, Any] = exact) -> None:
            errors.add(value, *(tokens.select(value, to_array(t)) for t in (exact[value], tensor)))

        executor.run(arrays, taps=wanted, on_value=exact.__setitem__)
        executor.run(arrays, taps=layers, on_value=compare, plan=plan)
        for value, node in layers.items():
            alone = _alone(executor, plan, node, exact, bindings)
            errors.add_local(value, *(tokens.select(value, to_array(t)) for t in (exact[value], alone)))
    return errors.rows()


def _alone(
    executor: TorchExecutor, plan: QuantPlan, node: Node, exact: Mapping[Value, Any], bindings: Mapping[str, int]
) -> Any:
    """The result of one layer (with its fused activation), computed as planned from the float run's operands."""
    operands = [
        None if value is None else executor.constants[value] if value.is_const else exact[value]
        for value in node.inputs
    ]
    operands = executor.quantized_operands(node, operands, plan)
    (result,) = executor.run_node(node, operands, bindings)
    result = executor.stored(node.output, result, plan)
    decided = plan.nodes.get(node)
    if decided is None or decided.fused is None:
        return result
    rest = [None] * (len(decided.fused.inputs) - 1)  # its limits are constants of its own
    (result,) = executor.run_node(decided.fused, [result, *rest], bindings)
    return executor.stored(decided.fused.output, result, plan)


def _shown(node: Node, plan: QuantPlan) -> bool:
    from qcompiler.ir import get_op

    if len(node.outputs) != 1 or not node.output.dtype.is_float or plan.fused_into(node) is not None:
        return False
    return plan.is_integer(node) or get_op(node.op).category in SHOWN
