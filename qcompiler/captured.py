"""The user's model as a graph, with what a trace of it brings along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qcompiler.errors import UsageError

if TYPE_CHECKING:
    from qcompiler.compilation import Request
    from qcompiler.ir import Graph


@dataclass(frozen=True)
class Captured:
    """A captured model.

    Attributes:
        graph: at level FLOAT, or QUANTIZED where the model is quantized already.
        examples: the tensors it was traced with, none if the form has none.
        ranges: least and largest size of the dynamic dimensions that were declared with limits, by name.
    """

    graph: Graph
    examples: list[Any]
    ranges: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)


def capture_request(request: Request) -> Captured:
    """The model of a request."""
    from qcompiler.frontend.capture import capture, export, is_onnx
    from qcompiler.frontend.program import declared_ranges, to_graph

    if is_onnx(request.model):
        graph = capture(request.model, None, request.dynamic_shapes, shapes=request.shapes)
        return Captured(graph, tensors_in(request.example_inputs))
    if request.shapes:
        raise UsageError("shapes are for ONNX models; others are traced with the shapes of their example inputs")
    exported = export(request.model, request.example_inputs, dynamic_shapes=request.dynamic_shapes)
    return Captured(to_graph(exported), tensors_in(exported.program.example_inputs), declared_ranges(exported))


def tensors_in(structure: Any) -> list[Any]:
    """Leaves of nested tuples, lists and mappings that are tensors, in order."""
    if isinstance(structure, Mapping):
        structure = list(structure.values())
    if isinstance(structure, list | tuple):
        return [leaf for part in structure for leaf in tensors_in(part)]
    return [structure] if hasattr(structure, "shape") else []
