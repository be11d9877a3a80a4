"""Runs a FLOAT graph with torch: exactly, or fake-quantized by a plan; differentiable on request.

The graph is translated once into a flat list of steps over numbered registers. A step is a torch function
with its attributes bound; steps whose attributes depend on symbolic dimensions are bound per set of sizes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from qcompiler.errors import InternalError, UsageError
from qcompiler.ir import Graph, Node, Value, get_op
from qcompiler.ir.dims import is_symbolic

from .fake_quant import PlanView, fake_quant_dynamic, weight_operand
from .reference import bind_inputs, last_uses, resolve_attribute
from .tensors import to_tensor
from .torch_context import Body, BuildContext, NumberTypes
from .torch_elementwise import BUILDERS as ELEMENTWISE
from .torch_elementwise import IN_PLACE
from .torch_layers import BUILDERS as LAYERS

if TYPE_CHECKING:
    from qcompiler.passes.quantize.plan import QuantPlan

BUILDERS = {**ELEMENTWISE, **LAYERS}
OnValue = Callable[[Value, Tensor], None]

# Sizes whose bound steps are kept; a sweep over ragged data meets many.
CACHED_SIZES = 8

# Ops whose result is always fresh memory, so that it may be overwritten once nobody else reads it.
_FRESH = frozenset(
    "linear matmul conv conv_transpose add sub mul div batch_norm layer_norm silu gelu relu clip hard_swish"
    " hard_sigmoid sigmoid tanh softmax attention".split()
)


@dataclass
class _Step:
    """One node. Registers: `reads` (0 is always None), `writes`, `frees` after it.

    `overwrite` is the in-place body, None where another reader needs the operand or it may alias one.
    """

    node: Node
    body: Body
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    frees: tuple[int, ...]
    overwrite: Body | None
    fresh: bool


class TorchExecutor:
    """A float graph as torch functions.

    Attributes:
        graph: the graph.
        constants: torch tensor per constant value. An entry may be replaced (by a parameter to train, say);
            later runs use it.

    Args:
        graph: at level FLOAT.
        dtype: what float32 values are held in; float64 holds every float value in float64.
        device: where to run, default CPU.
        autograd: record gradients. Otherwise runs record nothing (results may still enter autograd elsewhere,
            which tensors made in inference mode could not).
    """

    def __init__(
        self,
        graph: Graph,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        autograd: bool = False,
    ) -> None:
        self.graph = graph
        self.types = NumberTypes(dtype)
        self.device = torch.device(device or "cpu")
        self.autograd = autograd
        self._view = PlanView(dtype, self.device)
        self.constants = self._convert_constants()
        self._registers: dict[Value, int] = {}
        for value in graph.values():
            self._registers[value] = len(self._registers) + 1
        self._steps = self._translate()
        self._bodies = {s.node: s.body for s in self._steps if s.body is not _unbound}
        self._moving = [i for i, s in enumerate(self._steps) if _has_symbols(s.node)]
        self._bound: dict[tuple[tuple[str, int], ...], list[_Step]] = {}
        self._sized: dict[tuple[tuple[str, int], ...], dict[Node, Body]] = {}

    def run(
        self,
        inputs: Sequence[Any],
        taps: Collection[Value] = (),
        on_value: OnValue | None = None,
        plan: QuantPlan | None = None,
        known: Mapping[Value, Tensor] | None = None,
    ) -> list[Tensor]:
        """Run the graph; a value is freed after its last use.

        Args:
            inputs: one array or tensor per graph input, in order.
            taps: values to hand to `on_value` as they are computed. A tensor handed over is never overwritten.
            on_value: called as on_value(value, tensor), inputs and constants first, then in program order.
                With a plan, values in `plan.stored` come rounded.
            plan: rounds values, operands, weights and biases as the plan says.
            known: values as an earlier run on these inputs handed them over; what only they need is not computed.

        Returns:
            One tensor per graph output.

        Raises:
            UsageError: wrong number, shape or dtype of inputs, naming the input.
        """
        tensors = self._inputs(inputs)
        bindings = bind_inputs(self.graph, [tuple(t.shape) for t in tensors])
        wanted = set(taps) if on_value is not None else set()
        with contextlib.nullcontext() if self.autograd else torch.no_grad():
            registers: list[Any] = [None] * (len(self._registers) + 1)
            sources = [*zip(self.graph.inputs, tensors, strict=True), *self.constants.items()]
            for value, tensor in sources:
                if plan is not None and value in plan.stored:
                    rounding = self._view.quantizer(plan, value)
                    tensor = tensor if rounding is None else rounding(tensor)
                registers[self._registers[value]] = tensor
                if value in wanted and on_value is not None:
                    on_value(value, tensor)
            steps = self._steps_for(bindings)
            if known:
                for value, tensor in known.items():
                    registers[self._registers[value]] = tensor
                wanted |= known.keys()  # they are the caller's, and are not overwritten
                needed = self._needed(known)
                steps = [step for step in steps if step.node in needed]
            for step in steps:
                self._run_step(step, registers, plan, wanted, on_value)
            return [registers[self._registers[v]] for v in self.graph.outputs]

    def run_node(
        self,
        node: Node,
        operands: Sequence[Tensor | None],
        bindings: Mapping[str, int] | None = None,
    ) -> tuple[Tensor, ...]:
        """Run one node of the graph on tensors: for loops that go through the graph layer by layer.

        Args:
            node: of the graph.
            operands: one per node input; None takes the node's own constant, or an absent operand.
            bindings: values of symbolic dimensions.
        """
        body = self._bodies.get(node) or self._body_of_size(node, bindings or {})
        full = [
            self.constants.get(v) if t is None and v is not None else t
            for v, t in zip(node.inputs, operands, strict=True)
        ]
        with contextlib.nullcontext() if self.autograd else torch.no_grad():
            result = body(*full)
        return result if isinstance(result, tuple) else (result,)

    def _needed(self, known: Collection[Value]) -> set[Node]:
        """Nodes that the outputs need beside known values."""
        wanted, needed = set(self.graph.outputs), set()
        for step in reversed(self._steps):
            if any(v in wanted and v not in known for v in step.node.outputs):
                needed.add(step.node)
                wanted.update(step.node.operands)
        return needed

    def _body_of_size(self, node: Node, bindings: Mapping[str, int]) -> Body:
        """The body of a node with symbolic attributes; kept, since loops come back to it for every sample."""
        key = tuple(sorted(bindings.items()))
        if key not in self._sized:
            while len(self._sized) >= CACHED_SIZES:
                self._sized.pop(next(iter(self._sized)))
            self._sized[key] = {}
        bodies = self._sized[key]
        if node not in bodies:
            bodies[node] = self._build(node, bindings, BUILDERS)
        return bodies[node]

    def _run_step(
        self,
        step: _Step,
        registers: list[Any],
        plan: QuantPlan | None,
        wanted: Collection[Value],
        on_value: OnValue | None,
    ) -> None:
        operands = [registers[i] for i in step.reads]
        body = step.body
        if step.overwrite is not None and step.node.inputs[0] not in wanted:
            body = step.overwrite
        if plan is None:
            result = body(*operands)
        else:
            result = body(*self.quantized_operands(step.node, operands, plan))
        results = result if isinstance(result, tuple) else (result,)
        for index, value, tensor in zip(step.writes, step.node.outputs, results, strict=True):
            if plan is not None:
                tensor = self.stored(value, tensor, plan, step.fresh and not self.autograd)
            registers[index] = tensor
            if value in wanted and on_value is not None:
                on_value(value, tensor)
        for index in step.frees:
            registers[index] = None

    def stored(self, value: Value, tensor: Tensor, plan: QuantPlan, overwrite: bool = False) -> Tensor:
        """A computed value as later nodes read it: rounded where the plan stores codes."""
        rounding = self._view.quantizer(plan, value) if value in plan.stored else None
        return tensor if rounding is None else rounding(tensor, overwrite)

    def quantized_operands(self, node: Node, operands: list[Any], plan: QuantPlan) -> list[Any]:
        """Operands as an integer node reads them, changed in place; a float node's own otherwise."""
        weight = self._view.weight(plan, node)
        at = weight_operand(node, tuple(weight.shape)) if weight is not None else -1
        if plan.is_integer(node):
            scheme = plan.nodes[node]
            for index, value in enumerate(node.inputs):
                if value is None or index == at or value in plan.stored:
                    continue
                if scheme.scheme == "dynamic":
                    if index == 0:
                        operands[0] = fake_quant_dynamic(
                            operands[0], scheme.granularity, scheme.group_size, scheme.activation_dtype.bits
                        )
                    continue
                if scheme.scheme == "weight_only":
                    continue
                rounding = self._view.quantizer(plan, value)
                if rounding is not None:
                    operands[index] = rounding(operands[index])
        if at >= 0:
            operands[at] = weight
        bias = self._view.bias(plan, node)
        if bias is not None:
            operands[_bias_operand(node)] = bias
        return operands

    def _inputs(self, inputs: Sequence[Any]) -> list[Tensor]:
        tensors = []
        for value, given in zip(self.graph.inputs, inputs, strict=False):
            tensor = given if isinstance(given, Tensor) else to_tensor(np.asarray(given))
            target = self.types.of(value.dtype)
            accepted = (target, NumberTypes(torch.float32).of(value.dtype))
            if tensor.dtype not in accepted:
                raise UsageError(f"input {value.name!r} must be {value.dtype.name}, got {tensor.dtype}")
            tensors.append(tensor.to(self.device, target))
        if len(inputs) != len(tensors) or len(tensors) != len(self.graph.inputs):
            names = ", ".join(v.name for v in self.graph.inputs)
            raise UsageError(f"the model takes {len(self.graph.inputs)} inputs ({names}), got {len(inputs)}")
        return tensors

    def _convert_constants(self) -> dict[Value, Tensor]:
        filters = {n.inputs[1] for n in self.graph.nodes if n.op == "conv" and len(n.operands[1].shape) == 4}
        tensors = {}
        for value in self.graph.constants():
            tensor = to_tensor(np.zeros(()) if value.data is None else value.data).to(self.device, self.types.of(value.dtype))
            # One channels-last operand makes torch choose its faster channels-last convolutions.
            tensors[value] = (
                tensor.contiguous(memory_format=torch.channels_last) if value in filters else tensor
            )
        return tensors

    def _build(self, node: Node, bindings: Mapping[str, int], table: Mapping[str, Any]) -> Body:
        if node.op not in BUILDERS:
            raise InternalError(f"{node.where()}: the torch executor runs level float only")
        kinds = get_op(node.op).attrs
        attrs = {a.name: resolve_attribute(a.kind, node.attrs[a.name], bindings) for a in kinds}
        body: Body = table[node.op](BuildContext(node, attrs, self.types, self.device))
        return body

    def _translate(self) -> list[_Step]:
        """All steps; bodies of nodes with symbolic attributes are filled in per size."""
        last = last_uses(self.graph)
        steps = []
        for node in self.graph.nodes:
            body = _unbound if _has_symbols(node) else self._build(node, {}, BUILDERS)
            frees = tuple(self._registers[v] for v in last.get(node, ()))
            reads = tuple(0 if v is None else self._registers[v] for v in node.inputs)
            writes = tuple(self._registers[v] for v in node.outputs)
            overwrite = None
            if not self.autograd and node.op in IN_PLACE and self._may_overwrite(node):
                overwrite = self._build(node, {}, IN_PLACE)
            steps.append(_Step(node, body, reads, writes, frees, overwrite, node.op in _FRESH))
        return steps

    def _may_overwrite(self, node: Node) -> bool:
        value = node.operands[0]
        source = self.graph.producer(value)
        return source is not None and source.op in _FRESH and self.graph.sole_user(value) is node

    def _steps_for(self, bindings: dict[str, int]) -> list[_Step]:
        if not self._moving:
            return self._steps
        key = tuple(sorted(bindings.items()))
        if key not in self._bound:
            while len(self._bound) >= CACHED_SIZES:
                self._bound.pop(next(iter(self._bound)))
            steps = list(self._steps)
            for i in self._moving:
                step = steps[i]
                body = self._build(step.node, bindings, BUILDERS)
                steps[i] = _Step(step.node, body, step.reads, step.writes, step.frees, None, step.fresh)
            self._bound[key] = steps
        return self._bound[key]


def limit_threads(count: int) -> None:
    """Threads that torch uses inside one op, in this process."""
    torch.set_num_threads(count)


def _unbound(*operands: Tensor) -> Tensor:
    raise InternalError("step with symbolic attributes was not bound")


def _bias_operand(node: Node) -> int:
    operands = get_op(node.op).operands
    if "bias?" not in operands:
        raise InternalError(f"{node.where()}: the plan has a bias for an op without one")
    return operands.index("bias?")


def _has_symbols(node: Node) -> bool:
    for spec in get_op(node.op).attrs:
        value = node.attrs[spec.name]
        if spec.kind == "dim" and is_symbolic(value):
            return True
        if spec.kind == "dims" and any(is_symbolic(d) for d in value):
            return True
    return False
