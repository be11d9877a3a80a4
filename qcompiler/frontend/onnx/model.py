"""`import_onnx`: an ONNX file or message becomes a graph."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ...errors import GraphError, UnsupportedError, UsageError, did_you_mean
from ...ir import Graph, GraphBuilder, Level, Value, get_op, verify_graph
from ...ir.dims import Dim, Shape
from ..context import Refusal
from ..simulated import read_simulated
from .convert import FAILED, Converter, Scope, listed
from .dims import named_dim
from .dtypes import dtype_of
from .file import OnnxFile, check_header, open_onnx, refuse

Shapes = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class OnnxImport:
    """How to import a model.

    Attributes:
        shapes: input name -> its shape, integers or names of dynamic dimensions, in place of what the file says.
        name: of the graph; default: the file's name.
    """

    shapes: Shapes | None = None
    name: str | None = None


def import_onnx(model: str | os.PathLike[str] | onnx.ModelProto, request: OnnxImport | None = None) -> Graph:
    """Turn an ONNX model into a graph.

    Args:
        model: path of a file, or the message itself.
        request: see `OnnxImport`.

    Returns:
        The graph at level FLOAT, or QUANTIZED where the model has quantized ops. Inputs and outputs have the names
        they have in the model; initializers are constants, also those that old files list as inputs.

    Raises:
        UsageError: a file that cannot be read, or a graph that is none.
        UnsupportedError: ops, types or operator sets without a counterpart, all of them with their places.
    """
    request = request or OnnxImport()
    if isinstance(model, onnx.ModelProto):
        check_header(model, "the model")
        file = OnnxFile(model)
        name = request.name or model.graph.name or "model"
    else:
        path = Path(os.fspath(model))
        file = open_onnx(path)
        name = request.name or path.stem
    return _to_graph(file, name, request.shapes or {})


def _to_graph(file: OnnxFile, name: str, shapes: Shapes) -> Graph:
    source = file.proto.graph
    builder = GraphBuilder(name)
    converter = Converter(builder, file)
    scope: Scope = {}
    if source.sparse_initializer:
        raise UnsupportedError(f"{name}: sparse initializers are not read; store them densely")
    for position, tensor in enumerate(source.initializer):
        if tensor.name in scope:
            raise UsageError(f"{name}: initializer {tensor.name!r} is given twice")
        try:
            scope[tensor.name] = converter.constant(tensor, position)
        except Refusal as error:
            raise refuse(error, f"{name}: initializer {tensor.name!r}") from None
    _inputs(source, builder, scope, shapes, name)
    converter.walk(source.node, scope, converter.versions, {}, name)
    outputs: dict[str, Value] = {}
    for output in source.output:
        if output.name not in scope:
            raise UsageError(f"{name}: output {output.name!r} is computed by no node")
        if output.name in outputs:
            raise UsageError(f"{name}: output {output.name!r} is given twice")
        value = scope[output.name]
        if value is not FAILED and value is not None:
            outputs[output.name] = value
    if converter.refused:
        raise listed(converter.refused, name)
    graph = builder.build(list(outputs.values()), list(outputs))
    graph = read_simulated(graph)
    if any(get_op(n.op).category == "quantized" for n in graph.nodes):
        graph = graph.with_level(Level.QUANTIZED)
    try:
        verify_graph(graph)
    except GraphError as error:
        raise UsageError(f"{name}: {error}") from error
    return graph


def _inputs(source: onnx.GraphProto, builder: GraphBuilder, scope: Scope, shapes: Shapes, name: str) -> None:
    declared = [i for i in source.input if i.name not in scope]
    for wanted in shapes:
        if wanted not in {i.name for i in declared}:
            names = [i.name for i in declared]
            raise UsageError(f"{name} has no input {wanted!r}; it has {', '.join(names)}.{did_you_mean(wanted, names)}")
    seen: set[str] = set()
    for info in declared:
        if info.name in seen:
            raise UsageError(f"{name}: input {info.name!r} is declared twice")
        seen.add(info.name)
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            raise UnsupportedError(f"{name}: input {info.name!r} is {kind or 'of no type'}; only tensors are taken")
        try:
            dtype = dtype_of(info.type.tensor_type.elem_type)
        except Refusal as error:
            raise refuse(error, f"{name}: input {info.name!r}") from None
        scope[info.name] = builder.input(info.name, dtype, _shape(info, shapes.get(info.name), name))


def _shape(info: onnx.ValueInfoProto, given: Sequence[Any] | None, name: str) -> Shape:
    tensor = info.type.tensor_type
    declared = list(tensor.shape.dim) if tensor.HasField("shape") else None
    if given is not None:
        if declared is not None and len(given) != len(declared):
            raise UsageError(f"{name}: input {info.name!r} has {len(declared)} axes, the shape given for it {len(given)}")
        for axis, (want, dim) in enumerate(zip(given, declared or [], strict=False)):
            if dim.HasField("dim_value") and dim.dim_value > 0 and want != dim.dim_value:
                raise UsageError(
                    f"{name}: axis {axis} of input {info.name!r} is {dim.dim_value} in the file, which its weights may"
                    f" depend on; the shape given says {want}"
                )
        return tuple(_given(d, info.name) for d in given)
    if declared is None:
        raise UsageError(f"{name}: input {info.name!r} has no shape; give one: --shape {info.name}=1x3x224x224")
    return tuple(_dim(dim, info.name, axis) for axis, dim in enumerate(declared))


def _given(dim: Any, name: str) -> Dim:
    if isinstance(dim, str):
        return named_dim(dim)
    if int(dim) < 0:
        raise UsageError(f"shape of input {name!r}: {dim} is no size")
    return int(dim)


def _dim(dim: Any, name: str, axis: int) -> Dim:
    """A number, the name that the file gives, or one made of the input's name and the axis."""
    if dim.HasField("dim_value"):
        # Some exporters write -1 for an unknown size.
        return int(dim.dim_value) if dim.dim_value >= 0 else named_dim(f"{name}_{axis}")
    return named_dim(dim.dim_param or f"{name}_{axis}")


__all__ = ["OnnxImport", "import_onnx"]
