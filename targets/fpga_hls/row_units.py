"""Units that need a whole row, or a whole matrix, before they can answer; and constants. They exist in HLS only.

    Constant         the same words for every frame
    Softmax          softmax of every vector, exponentials from a table or by shifts
    Normalize        layer or root-mean-square normalization of every vector
    Scores           products of every vector with all vectors of another stream, head by head: q k^T
    Mixture          sums of all vectors of another stream, weighted: p v

Their cycles per frame are those of their loops one after the other, not verified by any synthesis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.targets.fpga_hls.stream import STORAGES, Port, Scaling, Unit, divisors


@dataclass(frozen=True, eq=False)
class Constant(Unit):
    """`values` int64 [vectors, channels], for every frame."""

    values: np.ndarray
    bits: int
    signed: bool

    @property
    def inputs(self) -> tuple[Port, ...]:
        return ()

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(*self.values.shape, self.bits, self.signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.values.shape[1]), "storage": STORAGES}


@dataclass(frozen=True, eq=False)
class Row(Unit):
    """A vector in, a vector of the same length out, after as many passes over it.

    Attributes:
        vectors: per frame.
        channels: of a vector.
        act_bits, act_signed: of the operand.
        bits, signed: of the result.
        zero_point: of the result.
    """

    vectors: int
    channels: int
    act_bits: int
    act_signed: bool
    bits: int
    signed: bool
    zero_point: int

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.act_bits, self.act_signed, self.folding.pe),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.bits, self.signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.channels)}

    @property
    def interval(self) -> int:
        return 3 * self.vectors * (self.channels // self.folding.pe)


@dataclass(frozen=True, eq=False)
class Softmax(Row):
    """Probabilities in steps of 1/256: op `softmax_lookup` where there is a table, else op `shiftmax`.

    Attributes:
        table: int64, exponentials by distance to the largest element; None for exponentials by shifts.
        unit, exponent_bits: of the exponentials by shifts.
    """

    table: np.ndarray | None
    unit: int
    exponent_bits: int

    @property
    def exponential_bits(self) -> int:
        """Of an exponential, without a sign."""
        return 15 if self.table is not None else self.unit.bit_length() + self.exponent_bits


@dataclass(frozen=True, eq=False)
class Normalize(Row):
    """Ops `integer_layer_norm` (`centred`) and `integer_rms_norm`.

    Attributes:
        zero_point_in: of the operand.
        centred: less its mean.
        fraction, eps, shift: attributes of the op.
        weight, bias: int64 [channels].
    """

    zero_point_in: int
    centred: bool
    fraction: int
    eps: int
    shift: int
    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class Product(Unit):
    """What products of two streams have: the second is stored whole before the first is read.

    The first stream has for every token one vector per head; the second for every token one vector of all heads.

    Attributes:
        tokens: of the first stream.
        stored: tokens of the second.
        heads: vectors per token of the first stream.
        width: channels of a head.
        zero_points: of both operands.
        operands: (bits, signed) of both.
    """

    tokens: int
    stored: int
    heads: int
    width: int
    zero_points: tuple[int, int]
    operands: tuple[tuple[int, bool], tuple[int, bool]]
    scaling: Scaling
    acc_bits: int

    @property
    def _second(self) -> int:
        """Words of the second stream."""
        return self.stored * self.heads * self.width // self.folding.pe

    @property
    def interval(self) -> int:
        return self._second + self.tokens * self.heads * self.stored * self.width // self.folding.pe

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.width)}

    def _port(self, index: int, vectors: int, channels: int, lanes: int) -> Port:
        return Port(vectors, channels, *self.operands[index], lanes)


@dataclass(frozen=True, eq=False)
class Scores(Product):
    """y[t, h, j] = rescale(sum over k of (a[t, h, k] - z_a)(b[j, h, k] - z_b)); PE terms at a time."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        pe = self.folding.pe
        return (
            self._port(0, self.tokens * self.heads, self.width, pe),
            self._port(1, self.stored, self.heads * self.width, pe),
        )

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(self.tokens * self.heads, self.stored, self.scaling.bits, self.scaling.signed, 1),)


@dataclass(frozen=True, eq=False)
class Mixture(Product):
    """y[t, h, n] = rescale(sum over j of (a[t, h, j] - z_a)(b[j, h, n] - z_b)); PE results at a time."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (
            self._port(0, self.tokens * self.heads, self.stored, 1),
            self._port(1, self.stored, self.heads * self.width, self.folding.pe),
        )

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(self.tokens * self.heads, self.width, self.scaling.bits, self.scaling.signed, self.folding.pe),)
