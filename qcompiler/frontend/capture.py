"""`capture`: everything that can be compiled becomes a graph."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import UsageError
from ..ir import Graph
from .export import Exported, export_module
from .program import to_graph

FORMS = (
    "an nn.Module, an ExportedProgram, a .pt2 or .onnx file, a Hugging Face model directory, or module.py:factory (the"
    " factory returns the module, or (module, example_inputs))"
)


def capture(
    model: Any,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    name: str | None = None,
    shapes: Mapping[str, Sequence[Any]] | None = None,
) -> Graph:
    """Turn a model into a graph at level FLOAT; at level QUANTIZED where it is quantized already.

    Args:
        model: an nn.Module, an ExportedProgram, an onnx.ModelProto, or a path: a .pt2 or .onnx file, a Hugging Face
            model directory, or `module.py:factory`. Files and directories are read without executing code of
            theirs; a factory is run.
        example_inputs: what the module is traced with: a tensor, a tuple (positional), a dictionary (keyword
            arguments), or a pair of both. Only modules need them; a model directory makes its own.
        dynamic_shapes: as torch.export takes it, or with plain strings for dimensions:
            `{"input_ids": {0: "batch", 1: "seq"}}`. None: every dimension is what the example has.
        name: of the graph.
        shapes: of an ONNX model's inputs, by name, in place of what the file says: sizes, or names of dimensions.

    Returns:
        The graph. Inputs have the names of the forward's parameters, outputs the keys of what it returns (`output_i`
        for positions). Weights share the module's memory.

    Raises:
        UsageError: a model or example inputs in a form that is not known, a file that is damaged.
        UnsupportedError: ops without a counterpart, all of them with their places.
        MissingToolError: a model directory without the package transformers.
    """
    if is_onnx(model):
        from .onnx import OnnxImport, import_onnx

        _refuse_extras("an ONNX model", dynamic_shapes, "name them in `shapes`")
        return import_onnx(model, OnnxImport(shapes, name))
    if shapes:
        raise UsageError("`shapes` are for ONNX models; others are traced with the shapes of their example inputs")
    return to_graph(export(model, example_inputs, dynamic_shapes, name))


def is_onnx(model: Any) -> bool:
    """True for the path of an .onnx file and for an onnx.ModelProto."""
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model).lower().endswith(".onnx")
    return type(model).__name__ == "ModelProto"


def export(model: Any, example_inputs: Any = None, dynamic_shapes: Any = None, name: str | None = None) -> Exported:
    """The ExportedProgram behind `capture`."""
    if isinstance(model, torch.nn.Module):
        return export_module(model, example_inputs, dynamic_shapes, name)
    if isinstance(model, torch.export.ExportedProgram):
        _refuse_extras("an ExportedProgram", dynamic_shapes)
        return Exported(model, name or "model")
    if isinstance(model, (str, os.PathLike)):
        return _export_path(os.fspath(model), example_inputs, dynamic_shapes, name)
    raise UsageError(f"a model is {FORMS}; got {type(model).__name__}")


def _export_path(path: str, example_inputs: Any, dynamic_shapes: Any, name: str | None) -> Exported:
    from .factory import load_factory, split_factory
    from .hugging_face import export_directory
    from .pt2 import load_pt2

    if os.path.isdir(path):
        return export_directory(Path(path), example_inputs, dynamic_shapes, name)
    factory = split_factory(path)
    if factory is not None:
        module, inputs = load_factory(*factory)
        if isinstance(module, torch.nn.Module):
            given = inputs if example_inputs is None else example_inputs
            return export_module(module, given, dynamic_shapes, name)
        return export(module, example_inputs, dynamic_shapes, name)
    if not os.path.exists(path):
        raise UsageError(f"no such model: {path}; a model is {FORMS}")
    _refuse_extras("a .pt2 file", dynamic_shapes)
    return Exported(load_pt2(Path(path)), name or Path(path).stem)


def _refuse_extras(what: str, dynamic_shapes: Any, instead: str = "give dynamic_shapes to torch.export instead") -> None:
    if dynamic_shapes is not None:
        raise UsageError(f"{what} has its dynamic dimensions already: {instead}")
