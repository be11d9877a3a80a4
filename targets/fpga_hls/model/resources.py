"""What a unit's hardware takes, from its parameters alone: DSP and block RAM exactly, LUTs and flip-flops about.

The forms follow the structure of the Verilog modules, part by part: adders cost a LUT per bit, selections among n one
per bit and three to four choices, memories in LUTs what the part's memory cells hold. Where published forms for such
units (`closed_forms`) disagree with synthesis, synthesis is followed: products of 9 bits and more are in DSP blocks
(not by width of the weight alone), the first level of an adder tree disappears in them, and rescalers are shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from qcompiler.targets.fpga_hls.dataflow import Dataflow
from qcompiler.targets.fpga_hls.model.memory_blocks import block_rams
from qcompiler.targets.fpga_hls.row_units import Constant, Mixture, Normalize, Product, Scores, Softmax
from qcompiler.targets.fpga_hls.stream import Scaling, Unit
from qcompiler.targets.fpga_hls.units import (
    Add,
    Concat,
    Depthwise,
    Fork,
    FramePool,
    Lookup,
    MatrixVector,
    MaxPool,
    Rescale,
    SlidingWindow,
    WidthConverter,
)
from qcompiler.targets.fpga_hls.verilog.emit import place_queue
from qcompiler.targets.fpga_hls.verilog.instance import own_queue, rescale_lanes
from qcompiler.targets.fpga_hls.verilog.rescaling import hardware_scaling
from qcompiler.targets.fpga_hls.verilog.storage import in_block
from qcompiler.targets.fpga_hls.verilog.synthesis import DSP_BITS, Usage

DSP_PRODUCT = 9
"""Bits of a product from which synthesis takes a DSP block."""
MULTIPLIER_PORT = 17
"""Bits of an unsigned number on the narrow port of a DSP block."""
DIVISION = 16
"""Stages of a divider or a root, each as wide as its operand."""
CONTROL = 30
"""LUTs and flip-flops of a unit's counters and handshakes, beside those of its widths."""


@dataclass
class _Count:
    """A sum in the making."""

    lut: float = 0
    ff: float = 0
    dsp: int = 0
    bram: float = 0

    def usage(self) -> Usage:
        return Usage(math.ceil(self.lut), math.ceil(self.ff), self.dsp, self.bram)

    def memory(self, width: int, depth: int, storage: str, written: bool) -> None:
        """A ROM, or a RAM with one port of each kind, that answers one clock later."""
        if depth <= 1:
            return
        if in_block(width, depth, storage):
            self.bram += block_rams(width, depth, written)
            return
        self.ff += width
        if written:
            self.lut += _lut_ram(width, depth)
        else:
            self.lut += width * math.ceil(depth / 64) * (1 if depth > 8 else 0.5)

    def queue(self, width: int, depth: int) -> None:
        """A first-in first-out queue in LUTs, and its pointers."""
        pointer = depth.bit_length()
        self.lut += _lut_ram(width, depth) + 2.5 * pointer
        self.ff += 2 * pointer

    def rescaler(self, scaling: Scaling, acc_bits: int, dsp_bits: int) -> None:
        held = hardware_scaling(scaling)
        product = acc_bits + held.multiplier_bits + held.left
        if held.multiplier_bits:
            self.dsp += product_dsp(acc_bits, held.multiplier_bits, dsp_bits)
        kept = max(2, product - held.least + 1)
        self.lut += acc_bits + kept * math.ceil(held.extra_bits / 2) + kept / 5 + 4 * scaling.bits + 12
        self.ff += acc_bits + kept + 3 * scaling.bits + 10 + (0 if held.multiplier_bits else 2 * acc_bits)


def product_dsp(acc_bits: int, multiplier_bits: int, dsp_bits: int) -> int:
    """DSP blocks of an accumulator times an unsigned multiplier: the accumulator in one or two pieces."""
    return (1 if acc_bits <= dsp_bits else 2) * math.ceil(multiplier_bits / MULTIPLIER_PORT)


def _lut_ram(width: int, depth: int) -> float:
    """LUTs of a memory cell by cell: 4 LUTs hold 6 bits by 32 words, or 3 by 64."""
    if depth <= 32:
        return 4 * math.ceil(width / 6)
    return 4 * math.ceil(width / 3) * math.ceil(depth / 64) + (width * depth / 256 if depth > 64 else 0)


def unit_usage(unit: Unit, family: str = "xc7") -> Usage:
    """What one unit takes, its own queue at its least depth."""
    count = _Count()
    _RULES[type(unit)](unit, count, DSP_BITS[family])
    if depth := own_queue(unit):
        count.queue(unit.outputs[0].width, depth)
    return count.usage()


def queue_usage(network: Dataflow) -> Usage:
    """What the queues between a network's units take, beyond those that the units have anyway."""
    count = _Count()
    for edge in network.edges:
        least = own_queue(network.unit(edge.source)) if edge.source else 0
        placed, width = place_queue(network, edge, least), network.port(edge).width
        if placed.block:
            count.memory(width, placed.depth, "bram", True)
            count.lut += 4 * placed.depth.bit_length()
            count.ff += 3 * placed.depth.bit_length()
        elif placed.depth:
            count.queue(width, placed.depth)
        elif placed.own > least:
            count.lut += _lut_ram(width, placed.own) - _lut_ram(width, least)
    return count.usage()


def total(parts: list[Usage]) -> Usage:
    """The sum."""
    return Usage(*(sum(getattr(part, name) for part in parts) for name in ("lut", "ff", "dsp", "bram", "uram")))


def _product(unit: MatrixVector | Depthwise, count: _Count, dsp_bits: int) -> None:
    depthwise = isinstance(unit, Depthwise)
    pe, simd = unit.folding.pe, 1 if depthwise else unit.folding.simd
    lanes_in = pe if depthwise else simd
    words, folds = unit.columns // simd, unit.rows // pe
    width = unit.term_bits
    operands = lanes_in * unit.act_bits
    weights = pe * simd * unit.stored_bits
    in_dsp = width >= DSP_PRODUCT and not unit.digits
    # operands: read, and once more before the multipliers
    count.memory(weights, words * folds, unit.folding.storage, False)
    if not depthwise and folds > 1 and words > 1:
        count.memory(operands, words, "auto", True)
    else:
        count.ff += 2 * operands
    if in_dsp:  # the registers in front of the multipliers are in the DSP blocks, but for operands that many rows share
        count.dsp += pe * simd
        count.ff += operands if pe > 1 and not depthwise else 0
    else:
        count.ff += operands + weights
        product = _shifted(unit.act_bits, width) if unit.digits else _soft_product(unit.weight_bits, unit.act_bits)
        count.lut += pe * simd * unit.terms * product
        if unit.digits:  # the negative of an operand, for all rows
            count.lut += operands + lanes_in
        count.ff += pe * simd * unit.terms * width
    terms, bits, level = simd * unit.terms, width, 0
    while terms > 1:
        bits += 1
        if not (in_dsp and level == 0):
            count.lut += pe * (terms // 2) * bits
            count.ff += pe * -(-terms // 2) * bits
        terms, level = -(-terms // 2), level + 1
    count.lut += pe * unit.acc_bits
    count.ff += pe * unit.acc_bits
    lanes = rescale_lanes(pe, words)
    groups = pe // lanes
    held = hardware_scaling(unit.scaling)
    channel = lanes * (held.multiplier_bits + held.extra_bits + unit.acc_bits)
    count.memory(channel, folds * groups, "auto", False)
    for _ in range(lanes):
        count.rescaler(unit.scaling, unit.acc_bits, dsp_bits)
    count.ff += lanes * unit.acc_bits
    if groups > 1:
        count.lut += lanes * unit.acc_bits * (groups - 1) / 3
        count.ff += pe * unit.acc_bits + pe * unit.scaling.bits
    counters = (words * folds).bit_length() + words.bit_length() + folds.bit_length()
    count.lut += CONTROL + 1.5 * counters
    count.ff += CONTROL + 2 * counters + 3 * (simd.bit_length() + 3)


def _shifted(act_bits: int, width: int) -> float:
    """LUTs of a signed power of two times an operand: a choice of its sign, then for every bit of the places that reach it."""
    return act_bits + 1.0 + width


def _soft_product(a: int, b: int) -> float:
    """LUTs of a product without a DSP block: rows of partial products, added."""
    short, long = min(a, b), max(a, b)
    return 4.0 if short + long <= 4 else (short - 1) * (long + 1) + 1


def _window(unit: SlidingWindow, count: _Count, dsp_bits: int) -> None:
    row, _ = unit.width * unit.channels // unit.folding.pe, None
    depth = unit.rows_kept * row
    width = unit.folding.pe * unit.bits
    count.memory(width, depth, unit.folding.storage, True)
    address, columns, rows = depth.bit_length(), row.bit_length() + 2, unit.height.bit_length() + 2
    count.lut += 5 * CONTROL + 6 * address + 5 * columns + 8 * rows + width
    count.ff += CONTROL + 5 * address + 4 * columns + 5 * rows + width


def _sum(operands: tuple[tuple[int, bool], ...], unit: Add | Rescale, acc_bits: int, count: _Count, dsp_bits: int) -> None:
    factors = [int(abs(m)) for m in unit.scaling.multiplier.ravel()]
    for (bits, _), factor in zip(operands, factors):
        power = factor & (factor - 1) == 0
        count.dsp += 0 if power else unit.folding.pe * math.ceil(factor.bit_length() / MULTIPLIER_PORT)
        count.lut += unit.folding.pe * (bits + 1 if power else 0)
        count.ff += unit.folding.pe * (bits + 1)
    kept = max(2, acc_bits - unit.scaling.shift + 1)
    lane = acc_bits * len(operands) + kept / 5 + 4 * unit.scaling.bits + 12
    count.lut += unit.folding.pe * lane + CONTROL / 2
    count.ff += unit.folding.pe * (4 * acc_bits + kept + 3 * unit.scaling.bits + 10) + CONTROL / 2


def _lookup(unit: Lookup, count: _Count, dsp_bits: int) -> None:
    for _ in range(unit.folding.pe):
        count.memory(unit.bits, len(unit.table), unit.folding.storage, False)
    count.ff += unit.folding.pe * unit.act_bits + CONTROL / 2
    count.lut += CONTROL / 2


def _max_pool(unit: MaxPool, count: _Count, dsp_bits: int) -> None:
    count.lut += unit.folding.pe * unit.bits + CONTROL / 2
    count.ff += 2 * unit.folding.pe * unit.bits + CONTROL / 2


def _frame_pool(unit: FramePool, count: _Count, dsp_bits: int) -> None:
    groups = unit.channels // unit.folding.pe
    for _ in range(unit.folding.pe):
        count.lut += unit.acc_bits + (_lut_ram(unit.acc_bits, groups) if groups > 1 else 0)
        count.ff += unit.acc_bits
        count.rescaler(unit.scaling, unit.acc_bits, dsp_bits)
    count.lut += CONTROL
    count.ff += CONTROL


def _plumbing(unit: Fork | Concat | WidthConverter, count: _Count, dsp_bits: int) -> None:
    if isinstance(unit, WidthConverter):
        wide, narrow = sorted((port.width for port in (*unit.inputs, *unit.outputs)), reverse=True)
        split = unit.folding.simd > unit.folding.pe
        count.lut += (wide if split else narrow / 8) + 6
        count.ff += wide + 3
    elif isinstance(unit, Concat):
        count.lut += unit.outputs[0].width * math.ceil((len(unit.widths) - 1) / 2) + 20
        count.ff += 34
    else:
        count.lut += 2


# Units that exist in C++ only: what their arrays and products need. No synthesis has confirmed these.


def _constant(unit: Constant, count: _Count, dsp_bits: int) -> None:
    port = unit.outputs[0]
    count.memory(port.width, port.words, unit.folding.storage, False)
    count.lut += CONTROL
    count.ff += CONTROL


def _row(unit: Softmax | Normalize, count: _Count, dsp_bits: int) -> None:
    lanes = unit.folding.pe
    bits = 48 if isinstance(unit, Normalize) else unit.exponential_bits
    count.memory(lanes * max(bits, unit.act_bits), unit.channels // lanes, "auto", True)
    if isinstance(unit, Softmax) and unit.table is not None:
        count.memory(lanes * unit.exponential_bits, len(unit.table), "auto", False)
    count.dsp += lanes * (4 if isinstance(unit, Normalize) else 2)
    count.lut += (lanes + 1) * bits * DIVISION + CONTROL
    count.ff += (lanes + 1) * bits * DIVISION + CONTROL


def _pair(unit: Product, count: _Count, dsp_bits: int) -> None:
    lanes, (first, second) = unit.folding.pe, unit.operands
    count.memory(lanes * second[0], unit.stored * unit.heads * unit.width // lanes, "auto", True)
    count.dsp += lanes + product_dsp(unit.acc_bits, unit.scaling.multiplier_bits, dsp_bits)
    count.lut += lanes * (first[0] + second[0] + 2) + 2 * unit.acc_bits + 4 * CONTROL
    count.ff += lanes * 2 * (first[0] + second[0]) + 4 * unit.acc_bits + 4 * CONTROL


_RULES: dict[type, Callable[..., None]] = {
    MatrixVector: _product,
    Depthwise: _product,
    SlidingWindow: _window,
    MaxPool: _max_pool,
    FramePool: _frame_pool,
    Add: lambda unit, count, dsp: _sum(unit.operands, unit, unit.acc_bits, count, dsp),
    Rescale: lambda unit, count, dsp: _sum(
        ((unit.act_bits, unit.act_signed),), unit, unit.act_bits + 2 + unit.scaling.multiplier_bits, count, dsp
    ),
    Lookup: _lookup,
    Constant: _constant,
    Softmax: _row,
    Normalize: _row,
    Scores: _pair,
    Mixture: _pair,
    Fork: _plumbing,
    Concat: _plumbing,
    WidthConverter: _plumbing,
}
