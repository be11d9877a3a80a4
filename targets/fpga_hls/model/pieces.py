"""What the parts of a unit take: memories, queues, products, adder trees, choices and rescalers, as yosys maps them.

Units are registered after every step, so synthesis optimizes hardly anything across parts, and what a unit takes is their
sum. The forms follow from the Verilog and from netlists of yosys 0.23 with LUTs of six inputs, whose cells were counted by
the register that they lead to; `python -m benchmarks.fpga.learn_resources` compares whole units.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from qcompiler.targets.fpga_hls.model.memory_blocks import block_rams, block_selection, lut_ram
from qcompiler.targets.fpga_hls.stream import Scaling
from qcompiler.targets.fpga_hls.verilog.rescaling import hardware_scaling
from qcompiler.targets.fpga_hls.verilog.storage import in_block
from qcompiler.targets.fpga_hls.verilog.synthesis import Usage

DSP_PRODUCT = 9
"""Bits of a product from which synthesis takes a DSP block."""
MULTIPLIER_PORT = 17
"""Bits of an unsigned number on the narrow port of a DSP block."""
LUT_WORDS = 64
"""Bits of one LUT as a memory."""
SHIFT_REGISTER = 3
"""Registers in a row that become one LUT."""
CLIP_GUARD = 3
"""Bits by which a saturated number is wider than a code."""

# LUTs of the product of a signed weight and an activation, by their bits: unsigned activation, signed activation
_PRODUCTS = {
    (2, 2): (4, 5), (2, 3): (6, 7), (2, 4): (8, 9), (2, 5): (10, 11), (2, 6): (12, 13), (3, 2): (5, 7), (3, 3): (7, 9),
    (3, 4): (10, 12), (3, 5): (15, 17), (4, 2): (9, 9), (4, 3): (12, 12), (4, 4): (24, 26), (5, 2): (11, 11),
    (5, 3): (20, 17), (6, 2): (13, 13),
}  # fmt: skip
# LUTs per bit that is chosen among so many registers
_CHOICES = ((1, 0.0), (2, 1.0), (4, 1.0), (5, 2.0), (6, 2.0), (8, 3.0), (9, 3.8), (12, 5.5), (16, 6.0), (18, 9.2), (24, 12.8), (32, 14.3))


@dataclass
class Count:
    """A sum in the making.

    Attributes:
        dsp_bits: signed bits on the wide side of a multiplier of the part.
    """

    dsp_bits: int
    lut: float = 0
    ff: float = 0
    dsp: int = 0
    bram: float = 0

    def usage(self) -> Usage:
        return Usage(math.ceil(self.lut), math.ceil(self.ff), self.dsp, self.bram)

    def block(self, width: int, depth: int, written: bool) -> None:
        """A memory of block RAM: choices behind its blocks, and the part of the address that makes them."""
        self.bram += block_rams(width, depth, written)
        rows = block_selection(width, depth, written) // width + 1
        if rows > 1:
            self.lut += width * math.ceil((rows - 1) / 3) + rows
            self.ff += math.ceil(math.log2(rows))

    def ram(self, width: int, depth: int, storage: str) -> None:
        """A RAM with a port to write and one to read, that answers one clock later."""
        if in_block(width, depth, storage):
            self.block(width, depth, True)
            return
        cells, parts = lut_ram(width, depth)
        self.lut += cells
        self.ff += width
        if parts > 1:
            self.lut += width * math.ceil((parts - 1) / 3) + 2 * parts
            self.ff += math.ceil(math.log2(parts))

    def rom(self, bits: np.ndarray, storage: str) -> int:
        """A ROM of `bits` [depth, width], that answers one clock later; registers that hold what was read, outside of blocks."""
        depth, width = bits.shape
        if depth > 1 and in_block(width, depth, storage):
            self.block(width, depth, False)
            return 0
        columns = {column.tobytes() for column in np.packbits(bits, axis=0).T}
        zeros, ones = np.packbits(np.zeros(depth, np.uint8)).tobytes(), np.packbits(np.ones(depth, np.uint8)).tobytes()
        held = len(columns - {zeros, ones})
        address = {np.packbits(np.arange(depth) >> bit & 1).tobytes() for bit in range(max(1, (depth - 1).bit_length()))}
        words = math.ceil(depth / LUT_WORDS)
        self.lut += len(columns - {zeros, ones} - address) * (words + math.ceil((math.ceil(words / 4) - 1) / 3))
        self.ff += held
        return held

    def queue(self, width: int, depth: int) -> None:
        """A first-in first-out queue in LUTs."""
        pointer = depth.bit_length()
        self.lut += lut_ram(width, depth)[0] + pointer + 2
        self.ff += 2 * pointer

    def credits(self, depth: int) -> None:
        """The count of what still fits in a queue, kept by whoever feeds it."""
        self.lut += 2 * depth.bit_length() + 1
        self.ff += depth.bit_length()

    def tree(self, live: np.ndarray, bits: int, hard: bool) -> int:
        """Sums of numbers of so many bits, pair by pair; the bits of a sum.

        An adder's sign bit is its second highest one's logic. The first level is within DSP blocks where these multiply.

        Args:
            live: bool [sums, terms]; the others are always 0.
        """
        level, passed, last = 0, 0, bits  # levels on which the last number found no other one, and its bits
        while (terms := live.shape[1]) > 1:
            live = np.pad(live, ((0, 0), (0, terms % 2)))
            both, either = live[:, ::2] & live[:, 1::2], live[:, ::2] | live[:, 1::2]
            last = last if terms % 2 else bits + 1
            if not (hard and level == 0):
                passed = passed + 1 if terms % 2 else 0
                self.lut += int(both.sum()) * bits
                self.ff += int(either.sum()) * bits + int(both.sum())
                self.ff -= len(live) * (bits - last) if passed else 0
                if passed >= SHIFT_REGISTER:
                    first = passed == SHIFT_REGISTER
                    self.lut += len(live) * last if first else 0
                    self.ff -= len(live) * last * (SHIFT_REGISTER if first else 1)
            live, bits, level = either, bits + 1, level + 1
        return bits

    def chosen(self, bits: int, among: int) -> None:
        """One of some registers."""
        self.lut += bits * choice(among)

    def rescaler(self, scaling: Scaling, acc_bits: int, constant_bias: int | None = None) -> int:
        """One rescaler and the register of the accumulator before it; the bits of its codes that vary.

        Args:
            constant_bias: where bias and multiplier are the same for all accumulators.
        """
        held = hardware_scaling(scaling)
        multiplied = held.multiplier_bits > 0
        if multiplied:
            self.dsp += product_dsp(acc_bits, held.multiplier_bits, self.dsp_bits)
        kept = max(1, acc_bits + held.multiplier_bits + held.left - held.least + 1)
        if not self.adds_bias(scaling, acc_bits, constant_bias is not None):
            self.ff += acc_bits
            self.lut += acc_bits if constant_bias is None else (constant_bias & (1 << acc_bits) - 1).bit_count()
        self.round(scaling, kept, multiplied, acc_bits, constant_bias is None)
        return code_bits(scaling, kept)

    def adds_bias(self, scaling: Scaling, acc_bits: int, constant: bool) -> bool:
        """Whether the bias is added within the multiplier's block, which takes the register before it too.

        It is where the accumulator is on the wide side; `constant` multipliers are as narrow as their zeros let them.
        """
        held = hardware_scaling(scaling)
        narrow = held.multiplier_bits + 1
        if constant:
            narrow -= zeros(int(held.multiplier.ravel()[0]))
        return held.multiplier_bits > 0 and narrow <= acc_bits <= self.dsp_bits

    def round(self, scaling: Scaling, kept: int, multiplied: bool, acc_bits: int, by_channel: bool = True) -> None:
        """What is behind the product: shift, saturation, rounding and limits, `kept` bits wide."""
        held = hardware_scaling(scaling)
        wide = scaling.bits + CLIP_GUARD
        extra = held.extra_bits if by_channel else 0
        if not multiplied:  # the clocks of a product, as shift registers, up to the next logic
            self.lut += acc_bits if held.half_even else min(acc_bits, kept)
        if multiplied or extra:
            self.ff += kept
        if multiplied or extra or kept > wide:
            self.ff += min(kept, wide)
        rounded = min(max(kept, min(wide, (2 * abs(scaling.zero_point) + 1).bit_length() + 1)), wide) + held.half_even
        self.ff += rounded + code_bits(scaling, kept) + 2 * held.half_even
        self.lut += (kept - 1) * math.ceil(extra / 2) + extra
        self.lut += 1 + 2 * (scaling.zero_point != 0)
        if kept > scaling.bits + 1 or (kept > scaling.bits and scaling.zero_point):
            self.lut += scaling.bits + (scaling.bits if scaling.bits > 8 else 0)
        if kept > wide:
            self.lut += wide - 1 + (10 if kept > wide + 4 else 0)
        if held.half_even:
            self.lut += rounded + acc_bits / 8 + (0, 10, 13, 20)[min(extra, 3)]


def zeros(number: int) -> int:
    """Low bits of multiples of a number that are always 0."""
    return (number & -number).bit_length() - 1


def code_bits(scaling: Scaling, kept: int) -> int:
    """Bits of codes that vary, when `kept` bits are left of what is rounded."""
    return min(scaling.bits, max(kept, (2 * abs(scaling.zero_point) + 1).bit_length() + 1))


def choice(among: int) -> float:
    """LUTs per bit of one of so many registers."""
    at = bisect_left(_CHOICES, (among, 0.0))
    if at == len(_CHOICES):
        return among * _CHOICES[-1][1] / _CHOICES[-1][0]
    (high, most), (low, least) = _CHOICES[at], _CHOICES[max(0, at - 1)]
    return most if high == low else least + (most - least) * (among - low) / (high - low)


def product_luts(weight_bits: int, act_bits: int, act_signed: bool) -> int:
    """Of a product of less than `DSP_PRODUCT` bits."""
    return _PRODUCTS[weight_bits, act_bits][act_signed]


def shift_luts(weight_bits: int, act_bits: int, places: int) -> float:
    """Of an operand times a signed power of two, one digit of a weight of so many bits that has so many different powers."""
    sign = act_bits + 1
    return sign + (act_bits + weight_bits + 1) * min(1.0, (places - 1) / 3)


def product_dsp(acc_bits: int, multiplier_bits: int, dsp_bits: int) -> int:
    """DSP blocks of an accumulator times an unsigned multiplier: the accumulator in one or two pieces."""
    return (1 if acc_bits <= dsp_bits else 2) * math.ceil(multiplier_bits / MULTIPLIER_PORT)
