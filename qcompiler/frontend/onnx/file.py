"""An .onnx file on disk: read without executing anything, sizes checked before memory is taken."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from ...errors import UnsupportedError, UsageError
from ...ir import DType
from ..context import Refusal
from .dtypes import dtype_of, from_numpy, to_array
from .wire import Span, split_weights

OLDEST, NEWEST = 6, 28
"""Operator sets that are read; 6 to 8 as the first exporters used them."""
OWN = "qcompiler."
"""Prefix of the keys of metadata that this compiler writes."""


@dataclass
class OnnxFile:
    """A model whose large weights are still on disk.

    Attributes:
        proto: everything but the raw data of large initializers.
        path: of the file; None for a model in memory.
        spans: where in the file the raw data of an initializer lies, by its position in the graph.
    """

    proto: onnx.ModelProto
    path: Path | None = None
    spans: Mapping[int, Span] = field(default_factory=dict)

    def tensor(self, tensor: onnx.TensorProto, span: Span | None = None) -> tuple[np.ndarray, DType]:
        """Elements of a tensor, wherever they lie.

        Raises:
            UsageError: missing or wrong data. Refusal: a type that the graph does not have.
        """
        try:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                path, span = self._external(tensor)
            elif span is None:
                return to_array(tensor)
            else:
                assert self.path is not None
                path = self.path
            return _read(tensor, path, span)
        except (ValueError, TypeError) as error:
            raise UsageError(f"initializer {tensor.name!r}: {error}") from error

    def _external(self, tensor: onnx.TensorProto) -> tuple[Path, Span]:
        info = {entry.key: entry.value for entry in tensor.external_data}
        location = info.get("location", "")
        if self.path is None:
            raise UsageError(f"initializer {tensor.name!r} lies in {location!r}: give the path of the model's file")
        folder = self.path.parent.resolve()
        path = (folder / location).resolve()
        if not location or os.path.isabs(location) or not path.is_relative_to(folder):
            raise UsageError(
                f"initializer {tensor.name!r} points to {location!r}, outside of the model's folder: refused"
            )
        if not path.is_file():
            raise UsageError(
                f"initializer {tensor.name!r} lies in {location!r}, which is missing; the file belongs beside {self.path.name}"
            )
        available = path.stat().st_size
        offset = int(info.get("offset", "0") or 0)
        size = int(info["length"]) if info.get("length") else available - offset
        if offset < 0 or size < 0 or offset + size > available:
            raise UsageError(
                f"initializer {tensor.name!r} wants bytes {offset} to {offset + size} of {location!r}, which has {available}"
            )
        return path, Span(offset, size)


def _read(tensor: onnx.TensorProto, path: Path, span: Span) -> tuple[np.ndarray, DType]:
    """Raw data in a file; sub-byte integers are unpacked."""
    dtype = dtype_of(tensor.data_type)
    shape = tuple(tensor.dims)
    count = prod(shape)
    if any(d < 0 for d in shape):
        raise ValueError(f"negative dimension in {list(shape)}")
    need = -(-count * dtype.bits // 8) if dtype is not DType.bool else count
    if span.size != need:
        raise ValueError(f"{span.size} bytes of data for shape {list(shape)} of {dtype.name}, which needs {need}")
    if dtype.bits < 8 and dtype is not DType.bool:
        stored = onnx.TensorProto(data_type=tensor.data_type, dims=shape, name=tensor.name)
        stored.raw_data = np.fromfile(path, np.uint8, span.size, offset=span.start).tobytes()
        return to_array(stored)
    array = np.fromfile(path, dtype.numpy, count, offset=span.start)
    return from_numpy(array, dtype).reshape(shape), dtype


def open_onnx(path: Path) -> OnnxFile:
    """Read a file up to its weights.

    Raises:
        UsageError: missing, empty, truncated, or no ONNX model.
        UnsupportedError: an operator set that is not read.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise UsageError(f"{path} is no file")
        if size == 0:
            raise UsageError(f"{path} is empty")
        with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            message, spans = split_weights(data)
    except FileNotFoundError:
        raise UsageError(f"no such model: {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UsageError as error:
        raise UsageError(f"{path} {error}") from None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(message)
    except (DecodeError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is truncated, or no ONNX model: {error}") from error
    check_header(proto, str(path))
    return OnnxFile(proto, path, spans)


def metadata_of(path: Path) -> dict[str, str]:
    """What this compiler noted in a file it wrote; empty for files of others.

    Raises:
        UsageError: as `open_onnx`.
    """
    entries = open_onnx(path).proto.metadata_props
    return {e.key.removeprefix(OWN): e.value for e in entries if e.key.startswith(OWN)}


def check_header(proto: onnx.ModelProto, where: str) -> None:
    """Refuse what is no model, and operator sets outside of the range that is read."""
    if not proto.HasField("graph") or not proto.graph.output:
        raise UsageError(f"{where} is no ONNX model: it has no graph with outputs")
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    default = versions.get("", versions.get("ai.onnx"))
    if default is None and any(node.domain in ("", "ai.onnx") for node in proto.graph.node):
        raise UsageError(f"{where} names no operator set (opset_import) for its ops")
    if default is not None and not OLDEST <= default <= NEWEST:
        raise UnsupportedError(
            f"{where} uses operator set {default}; {OLDEST} to {NEWEST} are read. Convert it with"
            " onnx.version_converter, or export it anew."
        )


def refuse(error: Refusal, what: str) -> UnsupportedError:
    """A refusal outside of any op."""
    return UnsupportedError(f"{what}: {error}")
