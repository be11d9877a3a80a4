"""Ops that ONNX itself defines by other ops: their definition is used where there is no converter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import defs, helper

from ...ir import Value
from ...ir.dims import is_symbolic
from .dtypes import DTYPES, elem_type_of


def function_of(node: onnx.NodeProto, domain: str, version: int, arguments: Sequence[Any]) -> onnx.FunctionProto | None:
    """The definition of an op for these operands, None if ONNX has none."""
    try:
        schema = defs.get_schema(node.op_type, version, domain)
    except defs.SchemaError:
        return None
    if schema.has_function:
        return schema.function_body
    if not schema.has_context_dependent_function:
        return None
    types = [_type(a).SerializeToString() for a in arguments]
    versions = [v for v in schema.context_dependent_function_opset_versions if v <= version]
    if not versions:
        return None
    body = onnx.FunctionProto()
    body.ParseFromString(
        schema.get_context_dependent_function_with_opset_version(max(versions), node.SerializeToString(), types)
    )
    return body


def _type(value: Value | None) -> onnx.TypeProto:
    if value is None:
        return onnx.TypeProto()
    known = value.dtype in DTYPES.values()
    shape = [str(d) if is_symbolic(d) else int(d) for d in value.shape]
    return helper.make_tensor_type_proto(elem_type_of(value.dtype) if known else 0, shape)
