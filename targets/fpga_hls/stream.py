"""What every streaming unit has: words, foldings, rescaling.

A tensor flows as vectors of channels, channels last: pixel after pixel, and a *word* holds `lanes` neighbouring
elements of one vector, element 0 in the low bits. One *frame* is one inference; units take frame after frame.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from qcompiler.errors import UsageError

STORAGES = ("auto", "lut", "bram", "uram")
"""Where constants lie; `auto` leaves it to the synthesis."""


@dataclass(frozen=True)
class Folding:
    """How much of a unit exists in hardware; the rest is done one after the other.

    Attributes:
        pe: elements computed at once, and lanes of the result. Divides the channels of the result.
        simd: terms of a sum per cycle, and lanes of the operand. Divides the channels of the operand.
        storage: of the weights, one of `STORAGES`.
    """

    pe: int = 1
    simd: int = 1
    storage: str = "auto"


@dataclass(frozen=True)
class Port:
    """One stream of a unit.

    Attributes:
        vectors: per frame.
        channels: elements of a vector.
        bits: of an element.
        signed: whether elements are two's complement.
        lanes: elements of a word; divides `channels`.
    """

    vectors: int
    channels: int
    bits: int
    signed: bool
    lanes: int

    @property
    def words(self) -> int:
        """Per frame."""
        return self.vectors * self.channels // self.lanes

    @property
    def width(self) -> int:
        """Bits of a word."""
        return self.lanes * self.bits


@dataclass(frozen=True, eq=False)
class Scaling:
    """Accumulators to codes: `clip(round(acc multiplier / 2^shift) + zero_point, qmin, qmax)`.

    Shifts that differ between channels were made one by scaling the multipliers, which changes no result.

    Attributes:
        rounding: `dyadic` (add 2^(shift-1), then floor) or `shift_half_even` (ties to even; powers of two as multipliers).
        multiplier: int64 [channels] or [1], positive (of either sign in a sum).
        shift: >= 0.
    """

    rounding: str
    multiplier: np.ndarray
    shift: int
    zero_point: int
    qmin: int
    qmax: int
    bits: int
    signed: bool

    @property
    def multiplier_bits(self) -> int:
        """Of the largest multiplier, without a sign."""
        return int(np.abs(self.multiplier).max()).bit_length()

    def product_bits(self, acc_bits: int) -> int:
        """Signed bits that hold an accumulator times a multiplier, what rounding adds, and the zero point."""
        return max(acc_bits + self.multiplier_bits, self.shift, self.bits + 1) + 1


@dataclass(frozen=True, eq=False)
class Unit(ABC):
    """What all units have.

    Attributes:
        name: C++ and Verilog identifier, unique in a graph.
        module: path in the user's model.
    """

    name: str
    module: str
    folding: Folding = field(default=Folding(), kw_only=True)

    @property
    @abstractmethod
    def inputs(self) -> tuple[Port, ...]:
        """Streams that it reads."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[Port, ...]:
        """Streams that it writes."""

    @property
    @abstractmethod
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        """Legal values of the folding's fields, ascending; fields that are absent follow from others."""

    @property
    def interval(self) -> int:
        """Cycles per frame with streams that never wait: one word per cycle at the busiest stream."""
        return max(port.words for port in (*self.inputs, *self.outputs))

    def folded(self, **fields: int | str) -> Unit:
        """The unit with other `pe`, `simd` or `storage`.

        Raises:
            UsageError: a value that is not legal, with those that are.
        """
        for key, value in fields.items():
            if key not in self.choices:
                raise UsageError(f"{self.where}: a {type(self).__name__} has no {key} of its own; it has {', '.join(self.choices)}")
            if value not in self.choices[key]:
                legal = ", ".join(map(str, self.choices[key]))
                raise UsageError(f"{self.where}: {key}={value} is no legal folding; legal are {legal}")
        if "simd" not in self.choices and "pe" in fields:
            fields = {**fields, "simd": fields["pe"]}
        return replace(self, folding=replace(self.folding, **fields))  # type: ignore[arg-type]

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.name} (of {self.module or 'the top level'})"


def divisors(number: int) -> tuple[int, ...]:
    """Ascending."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))
