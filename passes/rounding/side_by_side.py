"""Run a float graph and its quantized form side by side, one node at a time over all samples.

Methods that correct a layer for the errors of the layers before it need, at each layer, what it reads and gives on
both sides, for all their samples, with the earlier layers already corrected. Running node by node over all samples
costs one pass per side; running the network anew for each layer would cost as many passes as there are layers.

Only what a later node still reads is kept, so the peak is about twice the largest value times the number of samples;
`sample_batches.choose_samples` limits that number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qcompiler.calibration.padding import find_token_mask
from qcompiler.executors.reference import bind_inputs, last_uses
from qcompiler.executors.tensors import to_tensor
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph, Node, Value
from qcompiler.passes.quantize.plan import QuantPlan
from qcompiler.passes.quantize.sample_batches import batches


@dataclass
class Part:
    """Some samples of one shape, run together.

    Attributes:
        bindings: values of symbolic dimensions.
        real, rounded: live values of the float and of the quantized side.
        keep: bool [batch, sequence], True for tokens that are no padding; None where all count.
        both: the float side is run too.
    """

    bindings: dict[str, int]
    real: dict[Value, Tensor]
    rounded: dict[Value, Tensor]
    keep: Tensor | None = None
    both: bool = True


@dataclass
class Layer:
    """A node with a weight, as the visitor sees it; lists have one entry per part.

    inputs are what the node reads on the quantized side (rounded), targets the float outputs, outputs those of the
    quantized side with the present weight and bias, before the result is rounded. A visitor that changes the weight
    in the plan sets `stale`; one that changes the bias only may add to `outputs` in place.
    """

    node: Node
    parts: list[Part]
    inputs: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    stale: bool = False


@dataclass(frozen=True, eq=False)
class Unit:
    """Nodes that follow one another and are learned together.

    Attributes:
        name: for notes and checkpoints.
        nodes: in program order.
        layers: those of them whose weights are learned.
        outputs: values that are read outside, or returned.
    """

    name: str
    nodes: tuple[Node, ...]
    layers: tuple[Node, ...]
    outputs: tuple[Value, ...]


class SideBySide:
    """The walk. `visit(layer)` is called for each node of `layers`, in program order, and may change the plan there."""

    def __init__(self, graph: Graph, plan: QuantPlan, samples: Sequence[Any], least: int = 1) -> None:
        """least: into how many parts the samples are split at least, where there are so many."""
        self.graph, self.plan = graph, plan
        self.executor = TorchExecutor(graph)
        self.mask = find_token_mask(graph, "auto")
        most = max(1, len(samples) // least)
        chunks = [chunk[i : i + most] for chunk in batches(graph, samples) for i in range(0, len(chunk), most)]
        self.parts = [self._part(chunk) for chunk in chunks]

    def run(self, layers: Sequence[Node], visit: Callable[[Layer], None], keep_inputs: bool = False) -> None:
        """Walk the graph up to the last of `layers`.

        keep_inputs: the visitor reads `layer.inputs`; without, they are freed as early as possible.
        """
        wanted, remaining, last = set(layers), len(layers), last_uses(self.graph)
        with torch.no_grad():
            for node in self.graph.nodes:
                if not remaining:
                    break
                if node in wanted:
                    remaining -= 1
                    self._layer(node, visit, keep_inputs, last.get(node, []))
                    continue
                for part in self.parts:
                    self._store(part, node, self._real(part, node), self._rounded(part, node))
                    _free(part, last.get(node, []))

    def run_before(self, layers: Sequence[Node], visit: Callable[[Node], None]) -> None:
        """Walk the graph up to the last of `layers`; `visit` is called before each is run and may set its weight.

        What the layer reads is `rows_before`. Parts with `both` unset are run on the quantized side only.
        """
        wanted, remaining, last = set(layers), len(layers), last_uses(self.graph)
        with torch.no_grad():
            for node in self.graph.nodes:
                if node in wanted:
                    visit(node)
                    remaining -= 1
                if not remaining:
                    break
                for part in self.parts:
                    self._store(part, node, self._real(part, node) if part.both else (), self._rounded(part, node))
                    _free(part, last.get(node, []))

    def rows_before(self, node: Node, over: Value | None = None) -> Iterator[tuple[Tensor | None, Tensor]]:
        """Per part, the rows [tokens or pixels, channels] of operand 0 on the float and on the quantized side, without padding.

        None for the float side of parts that have none. With `over`, a live value of the same tokens, every row is divided
        by the root mean square of that value's row on the quantized side.
        """
        value = node.inputs[0]
        assert value is not None
        for part in self.parts:
            operand = self._operands(part, node)[0]
            assert operand is not None
            rounded = self._rows_read(node, part, operand)
            real = self._rows_read(node, part, part.real[value]) if part.both else None
            if over is not None:
                size = self._rows(over, part, part.rounded[over]).square().mean(1, keepdim=True).clamp_min(1e-20).rsqrt()
                rounded, real = rounded * size, None if real is None else real * size
            yield real, rounded

    def _rows_read(self, node: Node, part: Part, tensor: Tensor) -> Tensor:
        """What the layer multiplies by its matrix: for a convolution of one pixel, those that its strides visit."""
        if node.op != "conv":
            assert node.inputs[0] is not None
            return self._rows(node.inputs[0], part, tensor)
        steps = (slice(None), slice(None), *(slice(None, None, s) for s in node.attrs["strides"]))
        return tensor[steps].movedim(1, -1).reshape(-1, tensor.shape[1])

    def _rows(self, value: Value, part: Part, tensor: Tensor) -> Tensor:
        tokens = self.token_axes(value, part)
        if tokens is not None and part.keep is not None:
            tensor = tensor.movedim(tokens, (0, 1))[part.keep]
        return tensor.reshape(-1, tensor.shape[-1])

    def run_units(self, units: Sequence[Unit], visit: Callable[[Unit], None]) -> None:
        """Walk the graph up to the last of `units`, runs of nodes that follow one another.

        `visit` is called before a unit is run on the quantized side and may set weights in the plan. Then
        `part.rounded` has what the unit reads and `part.real` what it gives in the float network.
        """
        first = {unit.nodes[0]: unit for unit in units}
        last, remaining, skip = last_uses(self.graph), len(units), 0
        with torch.no_grad():
            for node in self.graph.nodes:
                if skip:
                    skip -= 1
                    continue
                if not remaining:
                    break
                nodes: Sequence[Node] = (node,)
                if node in first:
                    nodes, skip, remaining = first[node].nodes, len(first[node].nodes) - 1, remaining - 1
                for part in self.parts:
                    for member in nodes:
                        part.real.update(zip(member.outputs, self._real(part, member), strict=True))
                if node in first:
                    visit(first[node])
                dying = [value for member in nodes for value in last.get(member, [])]
                for part in self.parts:
                    for member in nodes:
                        for value, tensor in zip(member.outputs, self._rounded(part, member), strict=True):
                            part.rounded[value] = self.executor.stored(value, tensor, self.plan)
                    _free(part, dying)

    def token_axes(self, value: Value, part: Part) -> tuple[int, int] | None:
        """(batch, sequence) axes of a value that has padding in this part."""
        return None if part.keep is None or self.mask is None else self.mask.axes(value, tuple(value.shape))

    def _layer(self, node: Node, visit: Callable[[Layer], None], keep_inputs: bool, dying: Sequence[Value]) -> None:
        layer = Layer(node, self.parts)
        for part in self.parts:
            layer.targets.append(self._real(part, node)[0])
            operands = self._operands(part, node)
            layer.outputs.append(self.executor.run_node(node, operands, part.bindings)[0])
            if keep_inputs:
                assert operands[0] is not None
                layer.inputs.append(operands[0])
            else:
                _free(part, dying)
        visit(layer)
        for i, part in enumerate(self.parts):
            output = self._rounded(part, node)[0] if layer.stale else layer.outputs[i]
            self._store(part, node, (layer.targets[i],), (output,))
            _free(part, dying)

    def _real(self, part: Part, node: Node) -> tuple[Tensor, ...]:
        return self.executor.run_node(node, [_live(part.real, v) for v in node.inputs], part.bindings)

    def _rounded(self, part: Part, node: Node) -> tuple[Tensor, ...]:
        return self.executor.run_node(node, self._operands(part, node), part.bindings)

    def _operands(self, part: Part, node: Node) -> list[Tensor | None]:
        """What the node reads on the quantized side: rounded operands, weight and bias of the plan."""
        operands = [self.executor.constants.get(v, part.rounded.get(v)) if v is not None else None for v in node.inputs]
        return list(self.executor.quantized_operands(node, operands, self.plan))

    def _store(self, part: Part, node: Node, real: Sequence[Tensor], rounded: Sequence[Tensor]) -> None:
        part.real.update(zip(node.outputs, real, strict=part.both))
        for value, b in zip(node.outputs, rounded, strict=True):
            part.rounded[value] = self.executor.stored(value, b, self.plan)

    def _part(self, chunk: list[Sequence[Any]]) -> Part:
        arrays = chunk[0] if len(chunk) == 1 else [np.concatenate(a) for a in zip(*chunk, strict=True)]
        tensors = {v: to_tensor(np.asarray(a)) for v, a in zip(self.graph.inputs, arrays, strict=True)}
        bindings = bind_inputs(self.graph, [tuple(t.shape) for t in tensors.values()])
        keep = None if self.mask is None else self.mask.keep([np.asarray(a) for a in arrays])
        rounded = {v: self.executor.stored(v, t, self.plan) for v, t in tensors.items()}
        return Part(bindings, tensors, rounded, keep)


def _live(values: dict[Value, Tensor], value: Value | None) -> Tensor | None:
    """A live value; None (which makes the executor take the constant) for constants and absent operands."""
    return None if value is None or value.is_const else values[value]


def _free(part: Part, values: Sequence[Value]) -> None:
    for value in values:
        part.real.pop(value, None)
        part.rounded.pop(value, None)
