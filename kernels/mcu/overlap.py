"""How far the output of a kernel may lie over its input.

The kernels write pixels in order, and a block of pixels only after all it reads was gathered. So input that no later
block reads may be overwritten: the output may begin before the input and follow it. A pointwise convolution that does
not widen needs no distance at all, and one that doubles the channels needs as much as the input's size instead of
input and output side by side.
"""

from __future__ import annotations

from qcompiler.kernels.mcu.geometry import Window


def conv2d_distance(window: Window, groups: int, columns: int) -> int | None:
    """Smallest d >= 0 such that y may begin d bytes before x; None if they must not overlap."""
    if groups != 1:
        return None  # the second group reads after the first has written
    pixels = window.out_height * window.out_width
    block = min(columns, pixels)
    worst = 0
    for first in range(0, pixels - block, block):
        written = (first + block) * window.out_channels
        worst = max(worst, written - _first_read(window, first + block))
    return worst


def fully_connected_distance(rows: int, in_features: int, out_features: int, columns: int) -> int:
    """As `conv2d_distance`, for rows instead of pixels."""
    return max(0, (rows - 1) // min(columns, rows) * min(columns, rows) * (out_features - in_features))


def _first_read(window: Window, pixel: int) -> int:
    """Offset of the first byte of x that this pixel, or a later one, reads."""
    row, col = divmod(pixel, window.out_width)
    top = max(row * window.stride_height - window.pad_top, 0)
    left = max(col * window.stride_width - window.pad_left, 0)
    here = (top * window.in_width + left) * window.in_channels
    if row + 1 >= window.out_height:
        return here
    below = max((row + 1) * window.stride_height - window.pad_top, 0) * window.in_width * window.in_channels
    return min(here, below)


def depthwise_in_place(window: Window) -> bool:
    """Whether y may be x: every output pixel then overwrites its own channel of pixels that were gathered before."""
    return (
        window.out_height <= window.in_height
        and window.out_width <= window.in_width
        and window.pad_top <= (window.kernel_height - 1) * window.dilation_height
    )
