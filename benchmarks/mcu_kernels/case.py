"""A kernel call with the result the reference interpreter gives, and its form in the harness's files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, GraphBuilder, Level, QuantParams, Value

# Kernel -> its number in harness_ops.h.
OPS = {
    name: number
    for number, name in enumerate(
        (
            "conv2d_s8", "conv2d_add_s8", "depthwise_conv2d_s8", "fully_connected_s8", "max_pool_s8", "avg_pool_s8",
            "add_s8", "mul_s8", "requantize_s8", "requantize_s32_s8", "pad_s8", "copy", "transpose", "lookup_s8",
            "matmul_s8", "softmax_lookup_s8", "softmax_lookup_s16", "shiftmax", "add_s16", "mul_s16", "requantize_s16",
            "lookup_s8_s16", "lookup_interpolated_s16", "normalize_s16", "mean_s16",
            "log2_softmax", "shift_sigmoid", "gather_rows", "not_zero", "logical_and", "max_pool_s16",
            "scale_channels_s8", "where",
        ),
        start=1,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """What the harness is given for one instruction set.

    Attributes:
        scalars: int32 parameters, in the order harness_ops.h takes them.
        blobs: arrays; the first is x.
        scratch: bytes of scratch that scratch.py predicts.
        x_offset: x lies this many bytes after the start of y, in the same memory; -1 apart.
    """

    scalars: tuple[int, ...]
    blobs: tuple[np.ndarray, ...]
    scratch: int = 0
    x_offset: int = -1


@dataclass(frozen=True)
class Case:
    """One kernel call.

    Attributes:
        kernel: a key of `OPS`.
        profile: rounding profile.
        expected: the reference's result, in the kernel's layout.
        call: what to pass, given the instruction set.
        about: shapes and parameters, for the message of a failure.
    """

    kernel: str
    profile: str
    expected: np.ndarray
    call: Callable[[str], Call]
    about: dict[str, Any] = field(default_factory=dict)

    def encode(self, isa: str) -> bytes:
        """The record of the harness's input file."""
        call = self.call(isa)
        head = (OPS[self.kernel], len(call.scalars), len(call.blobs), self.expected.nbytes, call.x_offset, call.scratch)
        parts = [struct.pack("<8i", *head, 0, 0), _pad(struct.pack(f"<{len(call.scalars)}i", *call.scalars))]
        for blob in call.blobs:
            data = np.ascontiguousarray(blob).tobytes()
            parts += [struct.pack("<2i", len(data), 0), _pad(data)]
        return b"".join(parts)


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def split_int64(value: int) -> tuple[int, int]:
    """(low, high) words as int32."""
    low, high = struct.unpack("<2i", struct.pack("<q", value))
    return low, high


def reference(build: Callable[[GraphBuilder, list[Value]], Value], inputs: Sequence[tuple[np.ndarray, QuantParams]]) -> np.ndarray:
    """Result of a small graph over inputs that carry quantization parameters."""
    b = GraphBuilder(level=Level.QUANTIZED)
    values = [b.input(f"x{i}", q.dtype, a.shape, q) for i, (a, q) in enumerate(inputs)]
    return run_reference(b.build([build(b, values)]), [a for a, _ in inputs])[0]


def int8_quant(zero_point: int) -> QuantParams:
    """Parameters of int8 codes; the scale takes no part in integer results."""
    return QuantParams(DType.int8, np.float32(0.05), zero_point)


def code_quant(bits: int, zero_point: int = 0) -> QuantParams:
    """Parameters of codes of 8 or 16 bits."""
    return QuantParams(DType.int8 if bits == 8 else DType.int16, np.float32(0.05), zero_point)
