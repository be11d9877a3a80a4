"""Data types of the graph."""

from __future__ import annotations

import builtins
from enum import Enum

import numpy as np


class DType(Enum):
    """Element type of a value: (name, bits, kind) with kind f float, i signed, u unsigned, b bool.

    Sub-byte integers are *stored* one element per byte (`numpy` gives the storage type); packing is a matter
    of the target.
    """

    float32 = ("float32", 32, "f")
    float16 = ("float16", 16, "f")
    bfloat16 = ("bfloat16", 16, "f")
    float64 = ("float64", 64, "f")
    int2 = ("int2", 2, "i")
    int3 = ("int3", 3, "i")
    int4 = ("int4", 4, "i")
    int5 = ("int5", 5, "i")
    int6 = ("int6", 6, "i")
    int7 = ("int7", 7, "i")
    int8 = ("int8", 8, "i")
    int16 = ("int16", 16, "i")
    int32 = ("int32", 32, "i")
    int64 = ("int64", 64, "i")
    uint2 = ("uint2", 2, "u")
    uint3 = ("uint3", 3, "u")
    uint4 = ("uint4", 4, "u")
    uint5 = ("uint5", 5, "u")
    uint6 = ("uint6", 6, "u")
    uint7 = ("uint7", 7, "u")
    uint8 = ("uint8", 8, "u")
    uint16 = ("uint16", 16, "u")
    uint32 = ("uint32", 32, "u")
    bool = ("bool", 1, "b")

    @property
    def bits(self) -> int:
        """Width in bits of one element."""
        return int(self.value[1])

    @property
    def is_float(self) -> builtins.bool:
        """True for the floating-point types."""
        return self.value[2] == "f"

    @property
    def is_integer(self) -> builtins.bool:
        """True for signed and unsigned integers, false for bool."""
        return self.value[2] in "iu"

    @property
    def is_signed(self) -> builtins.bool:
        """True for signed integers and floats."""
        return self.value[2] in "if"

    @property
    def min(self) -> int:
        """Smallest integer of the type.

        Raises:
            TypeError: for float types.
        """
        if not self.is_integer:
            raise TypeError(f"{self.name} has no integer range")
        return -(1 << (self.bits - 1)) if self.is_signed else 0

    @property
    def max(self) -> int:
        """Largest integer of the type.

        Raises:
            TypeError: for float types.
        """
        if not self.is_integer:
            raise TypeError(f"{self.name} has no integer range")
        return (1 << (self.bits - 1)) - 1 if self.is_signed else (1 << self.bits) - 1

    @property
    def numpy(self) -> np.dtype:
        """NumPy type that stores one element."""
        if self is DType.bfloat16:
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        if self.is_integer and self.bits < 8:
            return np.dtype(np.int8 if self.is_signed else np.uint8)
        return np.dtype(self.name)

    @staticmethod
    def of(array: np.ndarray) -> DType:
        """The type whose storage is the array's; sub-byte types must be named explicitly.

        Raises:
            TypeError: for NumPy types the graph does not have.
        """
        name = array.dtype.name
        if name not in DType.__members__:
            raise TypeError(f"no DType for numpy {name}; known: {', '.join(DType.__members__)}")
        return DType[name]

    def __repr__(self) -> str:
        return self.name
