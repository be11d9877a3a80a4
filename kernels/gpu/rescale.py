"""Rescales of the epilogues: multipliers and shifts of a requantize as the kernels read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler.kernels.gpu.launch import Field, View, constant, ints, reading

PROFILES = {
    "dyadic": "qc::DYADIC",
    "dyadic_double": "qc::DYADIC_DOUBLE",
    "shift_half_even": "qc::SHIFT_HALF_EVEN",
    "float32_half_even": "qc::FLOAT32_HALF_EVEN",
    "to_real": "qc::TO_REAL",
    "none": "qc::NO_RESCALE",
}
OUTPUTS = {"int8": "int8_t", "int16": "int16_t", "uint8": "uint8_t", "float32": "float", "int32": "int32_t"}


@dataclass(frozen=True)
class Rescale:
    """What `qc::Rescale` holds.

    Attributes:
        profile: rounding of `qcompiler.ir.fixed_point`.
        multiplier, shift: constants [1] or [C]; None where the profile has none.
        zero_point, low, high: of the result; `low` and `high` are codes.
    """

    profile: str
    multiplier: View | None
    shift: View | None
    zero_point: int
    low: int
    high: int

    @property
    def per_channel(self) -> bool:
        """True if channels differ."""
        return any(v is not None and v.shape[0] > 1 for v in (self.multiplier, self.shift))

    def fields(self) -> list[Field]:
        """Of the struct."""
        return [
            ("p", reading(self.multiplier)),
            ("p", reading(self.shift)),
            *ints(self.zero_point, self.low, self.high, self.per_channel),
        ]


def make_rescale(
    profile: str, multiplier: np.ndarray | None, shift: np.ndarray | None, zero_point: int, low: int, high: int, name: str = "rescale"
) -> Rescale:
    """A rescale with its constants; multipliers and shifts of any shape are brought to one length."""
    m = None if multiplier is None or profile == "shift_half_even" else np.atleast_1d(multiplier).ravel()
    s = None if shift is None or profile == "float32_half_even" else np.atleast_1d(shift).ravel()
    size = max([len(x) for x in (m, s) if x is not None], default=1)
    if m is not None:
        kept = m.astype(np.float32).view(np.int32) if profile == "float32_half_even" else m.astype(np.int32)
        m = np.broadcast_to(kept, (size,))
    if s is not None:
        s = np.broadcast_to(s.astype(np.int8), (size,))
    return Rescale(
        profile,
        None if m is None else constant(f"{name}.multiplier", m),
        None if s is None else constant(f"{name}.shift", s),
        zero_point,
        low,
        high,
    )


def to_real(scale: np.ndarray, name: str) -> Rescale:
    """Accumulators as real numbers: times their scale, [] or [C]."""
    return Rescale("to_real", constant(f"{name}.scale", np.atleast_1d(scale).astype(np.float32).view(np.int32)), None, 0, 0, 0)


ACCUMULATORS = Rescale("none", None, None, 0, 0, 0)
"""int32 sums as they are."""


def no_rescale(zero_point: int, low: int, high: int) -> Rescale:
    """Only the limits: for kernels that bring their own rounding."""
    return Rescale("dyadic", None, None, zero_point, low, high)
