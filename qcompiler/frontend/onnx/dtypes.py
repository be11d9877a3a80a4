"""Element types and tensors of ONNX as those of the graph."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ...ir import DType
from ..context import Refusal

DTYPES: dict[int, DType] = {
    TensorProto.FLOAT: DType.float32,
    TensorProto.FLOAT16: DType.float16,
    TensorProto.BFLOAT16: DType.bfloat16,
    TensorProto.DOUBLE: DType.float64,
    TensorProto.INT8: DType.int8,
    TensorProto.INT16: DType.int16,
    TensorProto.INT32: DType.int32,
    TensorProto.INT64: DType.int64,
    TensorProto.UINT8: DType.uint8,
    TensorProto.UINT16: DType.uint16,
    TensorProto.UINT32: DType.uint32,
    TensorProto.BOOL: DType.bool,
    TensorProto.INT4: DType.int4,
    TensorProto.UINT4: DType.uint4,
    TensorProto.INT2: DType.int2,
    TensorProto.UINT2: DType.uint2,
}


def dtype_of(elem_type: int) -> DType:
    """The graph's type of an ONNX element type.

    Raises:
        Refusal: string, complex, float8 and other types that the graph does not have.
    """
    if elem_type not in DTYPES:
        known = elem_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(elem_type).lower() if known else f"number {elem_type}"
        raise Refusal(f"dtype {name} has no counterpart in the graph")
    return DTYPES[elem_type]


def elem_type_of(dtype: DType) -> int:
    """The ONNX element type of a graph type that is stored in its own width."""
    return next(elem for elem, known in DTYPES.items() if known is dtype)


def to_array(tensor: onnx.TensorProto) -> tuple[np.ndarray, DType]:
    """Elements of a tensor that lie in the message itself; sub-byte integers one per byte.

    Raises:
        Refusal: a type that the graph does not have.
        ValueError: the data do not have the size that the dimensions say.
    """
    dtype = dtype_of(tensor.data_type)
    count = prod(tensor.dims)
    if any(d < 0 for d in tensor.dims) or count > (1 << 40):
        raise ValueError(f"tensor {tensor.name!r} has dimensions {list(tensor.dims)}")
    if tensor.HasField("raw_data"):
        have = len(tensor.raw_data) * 8
        if not count * dtype.bits <= have < count * dtype.bits + 8 and dtype is not DType.bool:
            raise ValueError(f"tensor {tensor.name!r} has {have // 8} bytes for {count} elements of {dtype.name}")
    elif count > max(len(tensor.float_data), 1) and count > _stored(tensor):
        raise ValueError(f"tensor {tensor.name!r} has fewer elements than its dimensions {list(tensor.dims)}")
    return from_numpy(numpy_helper.to_array(tensor), dtype), dtype


def _stored(tensor: onnx.TensorProto) -> int:
    """Elements in the typed fields; two 4-bit numbers share an entry, four 2-bit ones."""
    fields = (tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data, tensor.float_data)
    return 4 * max(len(field) for field in fields)


def from_numpy(array: np.ndarray, dtype: DType) -> np.ndarray:
    """The array in the storage type of a graph type."""
    return array if array.dtype == dtype.numpy else array.astype(dtype.numpy)
