"""Quantization parameters of a value: `real = scale * (q - zero_point)`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .dtypes import DType
from .signed_digits import MOST_DIGITS


@dataclass(frozen=True, eq=False)
class QuantParams:
    """How integers of a value stand for real numbers.

    Attributes:
        dtype: integer type of the codes.
        scale: float32, shape () per tensor, [C] per channel of `axis`, or the value's shape with the size of
            `axis` replaced by ceil(size / group_size) for groups along `axis`. Always > 0 for activations; group
            scales of weights may be negative (signed scale).
        zero_point: int32, shape () or the shape of `scale`. 0 for int32 accumulators.
        axis: None per tensor, else the channel axis (>= 0).
        group_size: None, or elements that share one scale along `axis`.
        digits: None, or of weights: most signed powers of two that a code is the sum of (`signed_digits`).

    Raises:
        ValueError: if shapes disagree, a scale is zero or not finite, or a zero point is outside the type.
    """

    dtype: DType
    scale: np.ndarray
    zero_point: np.ndarray = field(default_factory=lambda: np.zeros((), np.int32))
    axis: int | None = None
    group_size: int | None = None
    digits: int | None = None

    def __post_init__(self) -> None:
        if not self.dtype.is_integer or self.dtype in (DType.int64, DType.uint32):
            raise ValueError(f"codes must be integers that int32 holds, not {self.dtype.name}")
        scale = np.array(self.scale, np.float32)
        if (np.asarray(self.zero_point) % 1 != 0).any():
            raise ValueError(f"zero points are integers, got {self.zero_point}")
        wide = np.array(self.zero_point, np.int64)
        if wide.size and (wide.min() < self.dtype.min or wide.max() > self.dtype.max):
            raise ValueError(f"zero_point outside {self.dtype.name} [{self.dtype.min}, {self.dtype.max}]")
        zero_point = wide.astype(np.int32)
        scale.setflags(write=False)
        zero_point.setflags(write=False)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero_point)
        if self.axis is not None and self.axis < 0:
            raise ValueError(f"axis counts from the front, got {self.axis}")
        if (self.axis is None) != (scale.ndim == 0):
            raise ValueError(f"scale of shape {scale.shape} does not fit axis={self.axis}")
        if self.group_size is None and scale.ndim > 1:
            raise ValueError(f"a per-channel scale has one dimension, not shape {scale.shape}")
        if self.group_size is not None and (self.axis is None or self.group_size < 1):
            raise ValueError(f"group_size={self.group_size} needs an axis and must be >= 1")
        if zero_point.ndim and zero_point.shape != scale.shape:
            raise ValueError(f"zero_point has shape {zero_point.shape}, scale {scale.shape}")
        if self.digits is not None and not (1 <= self.digits <= MOST_DIGITS and self.dtype.is_signed and self.symmetric):
            raise ValueError(f"digits={self.digits}: 1 to {MOST_DIGITS}, of signed codes with zero point 0")
        if not np.isfinite(scale).all() or (scale == 0).any():
            raise ValueError("scales must be finite and not zero")

    @property
    def per_tensor(self) -> bool:
        """True if one scale serves the whole value."""
        return self.axis is None

    @property
    def symmetric(self) -> bool:
        """True if every zero point is 0."""
        return not self.zero_point.any()

    def broadcast(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """`scale` or `zero_point` (given as `array`) made broadcastable against a value of `shape`."""
        if array.ndim == 0 or self.axis is None:
            return array
        if self.group_size is not None:
            return np.repeat(array, self.group_size, axis=self.axis).take(
                range(shape[self.axis]), axis=self.axis
            )
        return array.reshape([-1 if i == self.axis else 1 for i in range(len(shape))])

    def dequantize(self, codes: np.ndarray) -> np.ndarray:
        """Real numbers (float32) of integer codes."""
        zero_point = self.broadcast(self.zero_point, codes.shape)
        scale = self.broadcast(self.scale, codes.shape)
        return (codes.astype(np.int64) - zero_point).astype(np.float32) * scale

    def quantize(self, real: np.ndarray) -> np.ndarray:
        """Integer codes, `saturate(round_half_even(x / scale) + zero_point)` in float32 as ONNX defines it."""
        scale = self.broadcast(self.scale, real.shape)
        zero_point = self.broadcast(self.zero_point, real.shape)
        codes = np.rint(real.astype(np.float32) / scale).astype(np.float64) + zero_point
        return np.clip(codes, self.dtype.min, self.dtype.max).astype(self.dtype.numpy)

    def with_axis(self, axis: int) -> QuantParams:
        """The same parameters with the channel axis at another place (after a transpose)."""
        return replace(self, axis=axis)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuantParams) and (
            self.dtype is other.dtype
            and self.axis == other.axis
            and self.group_size == other.group_size
            and self.digits == other.digits
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def __hash__(self) -> int:
        return hash((self.dtype, self.axis, self.group_size, self.digits, self.scale.tobytes(), self.zero_point.tobytes()))
