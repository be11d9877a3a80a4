"""The geometry of a sliding window, as in qc_window_params."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Window:
    """Fields of qc_window_params, in its order."""

    in_height: int
    in_width: int
    in_channels: int
    out_height: int
    out_width: int
    out_channels: int
    kernel_height: int
    kernel_width: int
    stride_height: int = 1
    stride_width: int = 1
    pad_top: int = 0
    pad_left: int = 0
    dilation_height: int = 1
    dilation_width: int = 1

    def fields(self) -> tuple[int, ...]:
        """The numbers, in the order of the C struct."""
        return astuple(self)
