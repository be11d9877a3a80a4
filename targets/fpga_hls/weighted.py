"""What units with weights have: the weights, how a memory holds them, and how wide their products are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qcompiler.ir.signed_digits import spell
from qcompiler.targets.fpga_hls.stream import Port, Scaling, Unit

DIGIT_BITS = 4
NO_PLACE = 7


@dataclass(frozen=True, eq=False)
class Weighted(Unit):
    """What units with weights have.

    Attributes:
        weights: int64, a row per channel of the result, columns in the order in which elements arrive.
        bias: int64 [rows] in `acc_bits`; zero points of the operand are in it, so codes are multiplied as they are.
        vectors: of the result, per frame.
        weight_bits: two's complement.
        act_bits, act_signed: of the operand.
        acc_bits: two's complement.
        digits: 0, or every weight is a sum of at most so many signed powers of two and is multiplied by shifts.
    """

    weights: np.ndarray
    bias: np.ndarray
    scaling: Scaling
    vectors: int
    weight_bits: int
    act_bits: int
    act_signed: bool
    acc_bits: int
    digits: int = field(default=0, kw_only=True)

    @property
    def stored_bits(self) -> int:
        """Bits of a weight in its memory."""
        return DIGIT_BITS * self.digits if self.digits else self.weight_bits

    @property
    def stored(self) -> np.ndarray:
        """What the memory holds for every weight, in the low `stored_bits` bits.

        Digits side by side, the first lowest: 3 bits for the power of two, 7 for none, and one for the sign.
        """
        if not self.digits:
            return self.weights
        terms = spell(self.weights, self.weight_bits, self.digits)
        places = np.where(terms == 0, NO_PLACE, np.log2(np.maximum(np.abs(terms), 1)).astype(np.int64))
        return ((places | (terms < 0) << DIGIT_BITS - 1) << DIGIT_BITS * np.arange(self.digits)).sum(-1)

    @property
    def terms(self) -> int:
        """Numbers that are added for one weight."""
        return max(1, self.digits)

    @property
    def term_bits(self) -> int:
        """Signed bits of such a number."""
        return self.weight_bits + self.act_bits - (1 if self.digits else 0)

    @property
    def rows(self) -> int:
        """Channels of the result."""
        return int(self.weights.shape[0])

    @property
    def columns(self) -> int:
        """Terms of a sum."""
        return int(self.weights.shape[1])

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.rows, self.scaling.bits, self.scaling.signed, self.folding.pe),)
