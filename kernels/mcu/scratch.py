"""Scratch bytes of each kernel per instruction set: what the C functions `*_scratch_bytes` return, before compiling."""

from __future__ import annotations

from qcompiler.kernels.mcu.geometry import Window
from qcompiler.kernels.mcu.layouts import packed_bytes


def column_bytes(k: int, isa: str) -> int:
    """One gathered column of k codes."""
    return -(-k // 4) * 8 if isa == "dsp" else k


def conv2d_s8(window: Window, groups: int, columns: int, isa: str, with_add: bool = False) -> int:
    """Convolution; `with_add` for qc_conv2d_add_s8."""
    run = window.in_channels // groups
    k = window.kernel_height * window.kernel_width * run
    block = min(columns, window.out_height * window.out_width)
    spare = column_bytes(k, isa) if isa == "dsp" and run % 4 else 0
    return block * column_bytes(k, isa) + spare + (block * window.out_channels if with_add else 0)


def fully_connected_s8(rows: int, in_features: int, columns: int, isa: str) -> int:
    """Fully connected layer."""
    return min(columns, rows) * column_bytes(in_features, isa)


def depthwise_conv2d_s8(window: Window, channel_block: int, isa: str, row_block: int = 0) -> int:
    """Depthwise convolution."""
    block = min(row_block, window.out_height) if row_block > 0 else window.out_height
    rows = (block - 1) * window.stride_height + (window.kernel_height - 1) * window.dilation_height + 1
    reach = (window.kernel_width - 1) * window.dilation_width
    channels = min(channel_block, window.in_channels)
    if isa == "dsp":
        last = window.out_width + window.out_width % 2 - 1
        width = last * window.stride_width + reach + 1
        return channels * rows * (width + width % 2) * 2 + 24
    strip = rows * ((window.out_width - 1) * window.stride_width + reach + 1) * channels
    return strip if isa == "portable" else strip + -strip % 4 + 384


def matmul_s8(rows: int, inner: int, columns: int, isa: str) -> int:
    """Product of two activations; the number of rows does not matter."""
    if isa == "portable":
        return 0
    packed = packed_bytes(columns, inner, isa)
    gathered = 3 * column_bytes(inner, isa)
    return 9 * columns + packed + -packed % 4 + gathered + -gathered % 4
