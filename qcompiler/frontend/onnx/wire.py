"""The weights of a model file are left where they are: only the rest of the message is parsed.

Protobuf holds a whole message in memory, and its parser a second copy. Large tensors are most of a model, so the
raw data of initializers is cut out on the way in, by walking the wire format, and read from the file when asked for.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import UsageError

# Tensors below this size stay in the message.
INLINE_BYTES = 1 << 16

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # fields of ModelProto, GraphProto, TensorProto (onnx.proto)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Span:
    """Bytes [start, start + size) of a file."""

    start: int
    size: int


def split_weights(data: mmap.mmap | bytes) -> tuple[bytes, dict[int, Span]]:
    """(the message without large raw data, where the raw data of each initializer lies by its position).

    Raises:
        UsageError: the bytes are no protobuf message.
    """
    spans: dict[int, Span] = {}
    count = 0
    out = bytearray()
    for field, kind, head, start, end in _fields(data, 0, len(data)):
        if field == _GRAPH and kind == _BYTES:
            graph, count = _without_weights(data, start, end, spans, count)
            out += _tag(_GRAPH) + _varint(len(graph)) + graph
        else:
            out += data[head:end]
    return bytes(out), spans


def _without_weights(
    data: mmap.mmap | bytes, start: int, end: int, spans: dict[int, Span], count: int
) -> tuple[bytearray, int]:
    out = bytearray()
    for field, kind, head, first, last in _fields(data, start, end):
        if field != _INITIALIZER or kind != _BYTES:
            out += data[head:last]
            continue
        tensor = bytearray()
        if last - first > INLINE_BYTES:
            for inner, inner_kind, inner_head, a, b in _fields(data, first, last):
                if inner == _RAW_DATA and inner_kind == _BYTES and b - a > INLINE_BYTES:
                    spans[count] = Span(a, b - a)
                else:
                    tensor += data[inner_head:b]
        else:
            tensor += data[first:last]
        out += _tag(_INITIALIZER) + _varint(len(tensor)) + tensor
        count += 1
    return out, count


def _fields(data: mmap.mmap | bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(field, wire type, start of the tag, start of the contents, end) of each field in a message."""
    while at < end:
        head = at
        tag, at = _read_varint(data, at, end)
        field, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            size, at = _read_varint(data, at, end)
        elif kind == _VARINT:
            start = at
            _, stop = _read_varint(data, at, end)
            size, at = stop - start, start
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise UsageError("is no ONNX model: its bytes are no protobuf message")
        if field == 0 or at + size > end:
            raise UsageError("is truncated, or no ONNX model: a field reaches beyond the end of the message")
        yield field, kind, head, at, at + size
        at += size


def _read_varint(data: mmap.mmap | bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise UsageError("is truncated, or no ONNX model: a number does not end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(field: int) -> bytes:
    return _varint(field << 3 | _BYTES)
