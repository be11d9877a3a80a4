"""Streaming units: what a dataflow project consists of, as data.

    MatrixVector     y = rescale(W x + b) for every vector: linear layers, and convolutions behind a SlidingWindow
    Depthwise        the same with one filter per channel
    SlidingWindow    pixels -> the window of every output pixel, padding included
    MaxPool          largest element of every window
    FramePool        rescaled sum of all vectors of a frame: global average pooling
    Add              rescaled sum of several streams
    Rescale          codes in other parameters
    Lookup           any function of codes of at most 8 bits, by table
    Fork             a stream to several readers
    Concat           the vectors of several streams side by side
    WidthConverter   words of other lanes

Legalization makes forks of two copies, and sums and concatenations of two operands; more are chains of forks and
concatenations.

What a unit computes does not depend on its `Folding`; how many cycles and how much logic it takes does.
Arithmetic is modular in `acc_bits`, so a sum may leave that range on its way as long as its end does not, whatever
the order of its terms: interval analysis proves the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.targets.fpga_hls.stream import STORAGES, Port, Scaling, Unit, divisors
from qcompiler.targets.fpga_hls.weighted import Weighted


@dataclass(frozen=True, eq=False)
class MatrixVector(Weighted):
    """y = rescale(W x + bias), for every vector; W is N = `rows` by K = `columns`.

    For every vector: for each n of N/PE: for each k of K/SIMD: PE dot products of SIMD terms are added to PE
    accumulators; at the last k they are rescaled and written. The vector is read at n = 0 and kept.
    """

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.columns, self.act_bits, self.act_signed, self.folding.simd),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.rows), "simd": divisors(self.columns), "storage": STORAGES}

    @property
    def interval(self) -> int:
        return self.vectors * (self.rows // self.folding.pe) * (self.columns // self.folding.simd)


@dataclass(frozen=True, eq=False)
class Depthwise(Weighted):
    """y[c] = rescale(sum over taps of w[c, tap] x[tap, c] + bias[c]); windows come from a SlidingWindow `by_channel`.

    For every window: for each group of PE channels: for each tap, PE products are added.
    """

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors * self.columns, self.rows, self.act_bits, self.act_signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.rows), "storage": STORAGES}


@dataclass(frozen=True, eq=False)
class SlidingWindow(Unit):
    """The windows of a frame, row by row: for every output pixel every tap (rows first) and every channel.

    `by_channel`: for every group of `lanes` channels all taps, as depthwise filters and pools want them; otherwise
    for every tap all channels, as a matrix does.

    It keeps `rows_kept` rows. Before output row r, the rows of its window are there; while it is written, what comes
    next is read, one word per cycle: rows up to the end of the next window.

    Attributes:
        height, width, channels: of a frame.
        out_height, out_width: of the result.
        kernel, strides, dilations: (vertical, horizontal).
        pads: (top, left); the others follow from the size of the result.
        fill: element that stands for padding, the operand's zero point or its smallest code.
    """

    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]
    fill: int
    bits: int
    signed: bool
    by_channel: bool

    @property
    def taps(self) -> int:
        """Of a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def span(self) -> int:
        """Rows from the first to the last of a window."""
        return self.dilations[0] * (self.kernel[0] - 1) + 1

    @property
    def rows_kept(self) -> int:
        """Rows of memory: those of a window and those that are read meanwhile."""
        return min(self.height, self.span + self.strides[0])

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port(self.height * self.width, self.channels, self.bits, self.signed, self.folding.pe),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        pixels = self.out_height * self.out_width
        return (Port(pixels * self.taps, self.channels, self.bits, self.signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.channels), "storage": STORAGES}

    def rows_before(self, row: int) -> int:
        """Rows of the frame that are read before output row `row` is written; row `out_height` stands for the end."""
        if row == self.out_height:
            return self.height
        return min(self.height, max(0, row * self.strides[0] - self.pads[0] + self.span))

    @property
    def interval(self) -> int:
        """The first window's rows, then per output row the longer of writing it and reading ahead."""
        row = self.width * self.channels // self.folding.pe
        written = self.out_width * self.taps * self.channels // self.folding.pe
        reads = [(self.rows_before(r + 1) - self.rows_before(r)) * row for r in range(self.out_height)]
        return self.rows_before(0) * row + sum(max(written, read) for read in reads)


@dataclass(frozen=True, eq=False)
class MaxPool(Unit):
    """The largest element of every window of a SlidingWindow `by_channel`."""

    vectors: int
    channels: int
    taps: int
    bits: int
    signed: bool

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors * self.taps, self.channels, self.bits, self.signed, self.folding.pe),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.bits, self.signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.channels)}


@dataclass(frozen=True, eq=False)
class FramePool(Unit):
    """y[c] = rescale(sum over the frame of x[c] + bias): all words are read, then channels / PE words are written.

    Attributes:
        bias: minus `vectors` zero points.
    """

    vectors: int
    channels: int
    bias: int
    scaling: Scaling
    act_bits: int
    act_signed: bool
    acc_bits: int

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.act_bits, self.act_signed, self.folding.pe),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(1, self.channels, self.scaling.bits, self.scaling.signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.channels)}

    @property
    def interval(self) -> int:
        return self.inputs[0].words + self.outputs[0].words


@dataclass(frozen=True, eq=False)
class Add(Unit):
    """y = clip(round(sum over operands of multiplier[i] (x[i] - zero_points[i]) / 2^shift) + zero_point).

    Attributes:
        scaling: `multiplier` has an entry per operand, of either sign.
        zero_points: of the operands.
        operands: (bits, signed) of each.
        acc_bits: of the sum of products, rounding included.
    """

    vectors: int
    channels: int
    operands: tuple[tuple[int, bool], ...]
    zero_points: tuple[int, ...]
    scaling: Scaling
    acc_bits: int

    @property
    def inputs(self) -> tuple[Port, ...]:
        return tuple(Port(self.vectors, self.channels, bits, signed, self.folding.pe) for bits, signed in self.operands)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.scaling.bits, self.scaling.signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.channels)}


@dataclass(frozen=True, eq=False)
class Rescale(Unit):
    """y = clip(round((x - zero_point_in) multiplier / 2^shift) + zero_point), one multiplier for all channels."""

    vectors: int
    channels: int
    zero_point_in: int
    scaling: Scaling
    act_bits: int
    act_signed: bool

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.act_bits, self.act_signed, self.folding.pe),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.scaling.bits, self.scaling.signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.channels)}


@dataclass(frozen=True, eq=False)
class Lookup(Unit):
    """y = table[x - smallest code].

    Attributes:
        table: int64 [2^act_bits].
        bits, signed: of the result.
    """

    vectors: int
    channels: int
    table: np.ndarray
    act_bits: int
    act_signed: bool
    bits: int
    signed: bool

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.act_bits, self.act_signed, self.folding.pe),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.bits, self.signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.channels), "storage": STORAGES}


@dataclass(frozen=True, eq=False)
class Fork(Unit):
    """Every word to `copies` streams; it is taken when all have room."""

    vectors: int
    channels: int
    bits: int
    signed: bool
    copies: int

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.bits, self.signed, self.folding.pe),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return self.inputs * self.copies

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(self.channels)}


@dataclass(frozen=True, eq=False)
class Concat(Unit):
    """For every vector the words of operand 0, then those of operand 1, ...

    Attributes:
        widths: channels of each operand.
    """

    vectors: int
    widths: tuple[int, ...]
    bits: int
    signed: bool

    @property
    def inputs(self) -> tuple[Port, ...]:
        return tuple(Port(self.vectors, width, self.bits, self.signed, self.folding.pe) for width in self.widths)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, sum(self.widths), self.bits, self.signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {"pe": divisors(math.gcd(*self.widths))}


@dataclass(frozen=True, eq=False)
class WidthConverter(Unit):
    """Words of `simd` lanes to words of `pe` lanes, one of which divides the other.

    Legalization puts it between units whose lanes differ; two of them, over the least common multiple, where
    neither divides the other.
    """

    vectors: int
    channels: int
    bits: int
    signed: bool

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.bits, self.signed, self.folding.simd),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port(self.vectors, self.channels, self.bits, self.signed, self.folding.pe),)

    @property
    def choices(self) -> Mapping[str, tuple[int | str, ...]]:
        return {}
