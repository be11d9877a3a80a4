"""What a unit's hardware takes, from its parameters alone: DSP and block RAM exactly, LUTs and flip-flops closely.

The forms follow the Verilog modules register by register. What lies in memories counts too: a bit that is the same in all
words of a small ROM is no register, and equal columns are one. Where published forms for such units (`closed_forms`)
disagree with synthesis, synthesis is followed: products of 9 bits and more are in DSP blocks (not by width of the weight
alone), with the registers around them and the first level of an adder tree, and rescalers are shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from qcompiler.targets.fpga_hls.dataflow import Dataflow
from qcompiler.targets.fpga_hls.model.memory_blocks import lut_ram
from qcompiler.targets.fpga_hls.model.pieces import (
    DSP_PRODUCT,
    LUT_WORDS,
    MULTIPLIER_PORT,
    Count,
    choice,
    product_dsp,
    product_luts,
    shift_luts,
    zeros,
)
from qcompiler.targets.fpga_hls.row_units import Constant, Mixture, Normalize, Product, Scores, Softmax
from qcompiler.targets.fpga_hls.stream import Unit
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
from qcompiler.targets.fpga_hls.verilog.instance import channel_words, own_queue, rescale_lanes, weight_words
from qcompiler.targets.fpga_hls.verilog.storage import in_block
from qcompiler.targets.fpga_hls.verilog.synthesis import DSP_BITS, Usage
from qcompiler.targets.fpga_hls.weighted import DIGIT_BITS, NO_PLACE

DIVISION = 16
"""Stages of a divider or a root, each as wide as its operand."""
CONTROL = 30
"""LUTs and flip-flops of the counters and handshakes of a unit that exists in C++ only."""


def unit_usage(unit: Unit, family: str = "xc7") -> Usage:
    """What one unit takes, its own queue at its least depth."""
    count = Count(DSP_BITS[family])
    _RULES[type(unit)](unit, count)
    if depth := own_queue(unit):
        count.queue(unit.outputs[0].width, depth)
        count.credits(depth)
    return count.usage()


def queue_usage(network: Dataflow) -> Usage:
    """What the queues between a network's units take, beyond those that the units have anyway."""
    count = Count(0)
    for edge in network.edges:
        least = own_queue(network.unit(edge.source)) if edge.source else 0
        placed, width = place_queue(network, edge, least), network.port(edge).width
        if placed.block:
            count.block(width, placed.depth, True)
            count.lut += 4 * placed.depth.bit_length()
            count.ff += 3 * placed.depth.bit_length()
        elif placed.depth:
            count.queue(width, placed.depth)
        elif placed.own > least:
            count.lut += lut_ram(width, placed.own)[0] - lut_ram(width, least)[0]
    return count.usage()


def total(parts: list[Usage]) -> Usage:
    """The sum."""
    return Usage(*(sum(getattr(part, name) for part in parts) for name in ("lut", "ff", "dsp", "bram", "uram")))


def _bits(number: int) -> int:
    """Of a counter of so many states."""
    return (number - 1).bit_length()


def _planes(words: np.ndarray, bits: int) -> np.ndarray:
    """Bits [words, lanes * bits] of codes [words, lanes]."""
    return (words[:, :, None] >> np.arange(bits) & 1).reshape(len(words), -1).astype(np.uint8)


def _product(unit: MatrixVector | Depthwise, count: Count) -> None:
    depthwise = isinstance(unit, Depthwise)
    pe, simd = unit.folding.pe, 1 if depthwise else unit.folding.simd
    words, folds = unit.columns // simd, unit.rows // pe
    operands = (pe if depthwise else simd) * unit.act_bits
    hard = unit.term_bits >= DSP_PRODUCT and not unit.digits
    # operands: kept, or passed on; registers in front of multipliers are in DSP blocks
    if depthwise or folds == 1:
        count.lut += 0 if hard else operands  # a shift register
        count.ff += operands if hard else 0
    else:
        count.ram(operands, words, "auto")
        count.ff += _bits(words) + (0 if hard else operands)
    sum_bits = _sums(unit, count, words * folds, hard)
    if words == 1:  # nothing is added up
        count.ff += pe * min(sum_bits, unit.acc_bits)
    elif not hard or simd > 1:  # else the block adds up its products itself
        count.lut += pe * unit.acc_bits
        count.ff += pe * unit.acc_bits
    _rescaled(unit, count, pe, words, folds)
    levels = _bits(simd * unit.terms)
    # counters of words, columns and rows; the address of the weights; valid bits, beside shift registers of the two others
    count.lut += 1.2 * _bits(words * folds) + _bits(words) + _bits(folds) + 15
    count.ff += 2 * _bits(words * folds) + _bits(words) + _bits(folds) + levels + 5


def _sums(unit: MatrixVector | Depthwise, count: Count, depth: int, hard: bool) -> int:
    """The memory of weights, `depth` words, products and the sums of one clock; the bits of such a sum."""
    pe, simd = unit.folding.pe, 1 if isinstance(unit, Depthwise) else unit.folding.simd
    width, storage = pe * simd * unit.stored_bits, unit.folding.storage
    live = np.ones((pe, simd * unit.terms), bool)
    places = np.full(live.shape, NO_PLACE)  # powers of two that a digit has; for all that is known of what lies in blocks
    if depth > 1 and in_block(width, depth, storage):
        count.block(width, depth, False)
        count.ff += 0 if hard else width
    else:
        words = weight_words(unit)
        read = count.rom(_planes(words, unit.stored_bits), storage)
        count.ff += 0 if hard else read
        if unit.digits:
            digits = words[..., None] >> DIGIT_BITS * np.arange(unit.digits) & NO_PLACE
            places = np.stack([(digits == place).any(0) for place in range(NO_PLACE)]).sum(0).reshape(live.shape)
            live = places > 0
    if hard:
        count.dsp += pe * simd
        return count.tree(live, unit.term_bits, True)
    if unit.digits:  # the negative of an operand is that of all rows
        count.lut += sum(shift_luts(unit.weight_bits, unit.act_bits, int(n)) for n in places[live])
        count.lut += (pe if isinstance(unit, Depthwise) else simd) * unit.act_bits
    else:
        count.lut += live.size * product_luts(unit.weight_bits, unit.act_bits, unit.act_signed)
    count.ff += int(live.sum()) * unit.term_bits
    return count.tree(live, unit.term_bits, False)


def _rescaled(unit: MatrixVector | Depthwise, count: Count, pe: int, words: int, folds: int) -> None:
    """From the accumulators to words of codes."""
    lanes = rescale_lanes(pe, words)
    groups = pe // lanes
    count.rom(channel_words(unit).astype(np.uint8), "auto")
    varying = 0
    for _ in range(lanes):
        varying = count.rescaler(unit.scaling, unit.acc_bits)
    count.lut += _bits(folds * groups)
    count.ff += _bits(folds * groups) + 8
    if groups > 1:
        count.lut += lanes * unit.acc_bits * choice(groups) + 2.5 * _bits(groups) + 3
        count.ff += pe * (unit.acc_bits + varying) + 2 * _bits(groups) + 2


def _window(unit: SlidingWindow, count: Count) -> None:
    groups = unit.channels // unit.folding.pe
    words = unit.width * groups  # of a row
    depth, width = unit.rows_kept * words, unit.folding.pe * unit.bits
    count.ram(width, depth, unit.folding.storage)
    # widths of the module's registers; rows and columns have a sign
    beyond = unit.pads[1] + 2 * unit.dilations[1] * unit.kernel[1] + unit.strides[1] * (unit.out_width + 1) + 2
    row = 1 + _bits(unit.height + 2 * unit.span + unit.strides[0] * (unit.out_height + 1) + unit.pads[0] + 2)
    column, word, address = 1 + _bits(unit.width + beyond), 1 + _bits(words + beyond * groups), _bits(depth)
    counters = _bits(words) + _bits(unit.out_height + 2) + _bits(unit.out_width) + _bits(groups) + sum(map(_bits, unit.kernel))
    # the row's slot in the ring is a multiple of its words
    count.ff += 5 * row + 2 * column + 2 * word + 4 * address - zeros(words) + counters + width + 9
    # fitted to synthesised units: counters that wrap around cost about what their widths are; compares saturate
    count.lut += 22.6 * min(address, 11) - 10.5 * max(address - 11, 0) + 12.9 * row - 15
    if unit.kernel[0] == 1:  # taps are no counters, and the first column is the only one
        count.lut -= 61.5
        count.ff -= column + word + zeros(groups) + 3


def _sum(operands: tuple[tuple[int, bool], ...], zero_points: tuple[int, ...], unit: Add | Rescale, acc_bits: int, count: Count) -> None:
    pe, scaling = unit.folding.pe, unit.scaling
    factors = [int(m) for m in np.broadcast_to(scaling.multiplier, len(operands))]
    bias = -sum(factor * zero for factor, zero in zip(factors, zero_points, strict=True))
    odd = len(operands) % 2 == 1
    for at, ((bits, _), factor) in enumerate(zip(operands, factors, strict=True)):
        if (narrow := abs(factor).bit_length() - zeros(factor)) > 1:
            count.dsp += pe * math.ceil(narrow / MULTIPLIER_PORT)
        elif odd and at == len(operands) - 1 and (at or not bias):
            count.lut += pe * bits  # nothing is added to it at first: a shift register
        else:  # a shift, or the negative of one
            count.ff += pe * 2 * bits
            count.lut += pe * bits if factor < 0 else 0
    hard = all(abs(factor) & (abs(factor) - 1) for factor in factors)
    # the highest bit of a factor is that of its magnitude; bits below the lowest one of a factor are not added
    bits = max(bits for bits, _ in operands) + max(abs(factor).bit_length() for factor in factors)
    # blocks add what follows their products: one narrow sum, or the constant behind a product that is the only one
    narrow = acc_bits <= count.dsp_bits and any(signed and f % 2 for (_, signed), f in zip(operands, factors, strict=True))
    added = hard and (pe == 1 and factors[0] % 2 == 1 if len(operands) == 1 else narrow)
    if len(operands) > 1:
        sum_bits = count.tree(np.ones((pe, len(operands)), bool), bits, False)
        count.ff -= pe * bits if odd else 0  # in the product's block, or the shift register
        count.lut -= pe * (sum_bits - 1 if added else max(zeros(factor) for factor in factors))
        count.ff -= pe * sum_bits if added or not bias else 0  # without a bias it goes on into shift registers
    if len(operands) > 1 or not added:
        count.lut += pe * (bias & (1 << acc_bits) - 1).bit_count()  # carries of a constant
    if len(operands) == 1 and not hard:  # the difference of two codes, shifted
        acc_bits = bits + (zero_points[0] != 0) + (not operands[0][1])
    for _ in range(pe):
        count.round(scaling, max(1, acc_bits - scaling.shift + 1), False, acc_bits, False)
    count.lut += 2
    count.ff += 9 + _bits(len(operands))


def _lookup(unit: Lookup, count: Count) -> None:
    low = unit.table[:, None] >> np.arange(unit.bits) & 1
    for _ in range(unit.folding.pe):
        count.rom(low.astype(np.uint8), unit.folding.storage)
    count.ff += unit.folding.pe * unit.act_bits + 2
    count.lut += 3


def _max_pool(unit: MaxPool, count: Count) -> None:
    count.lut += unit.folding.pe * (unit.bits - 1) + _bits(unit.taps) + 5
    count.ff += 2 * unit.folding.pe * unit.bits + _bits(unit.taps) + 4


def _frame_pool(unit: FramePool, count: Count) -> None:
    pe, groups = unit.folding.pe, unit.channels // unit.folding.pe
    cells, parts = lut_ram(unit.acc_bits, groups)
    if groups > 1 and count.adds_bias(unit.scaling, unit.acc_bits, True):
        count.lut += pe * unit.acc_bits  # what is read goes to the block as it is, and to the adder or not
    for _ in range(pe):
        count.lut += unit.acc_bits + cells + unit.acc_bits * math.ceil((parts - 1) / 3)
        count.rescaler(unit.scaling, unit.acc_bits, unit.bias)
    count.lut += _bits(unit.vectors + 1) + _bits(groups) + 8 + 2 * parts
    count.ff += _bits(unit.vectors + 1) + 2 * _bits(groups) + 8


def _plumbing(unit: Fork | Concat | WidthConverter, count: Count) -> None:
    if isinstance(unit, WidthConverter):
        wide, narrow = sorted((port.width for port in (*unit.inputs, *unit.outputs)), reverse=True)
        split = unit.folding.simd > unit.folding.pe
        # shifting out, a bit with three parts or less is a choice in one LUT
        count.lut += wide * (1.9 if wide > 3 * narrow else 1) + 6 if split else 3 + _bits(wide // narrow + 1)
        count.ff += wide + _bits(wide // narrow + 1)
    elif isinstance(unit, Concat):
        count.lut += unit.outputs[0].width * math.ceil((len(unit.widths) - 1) / 2) + 6 * len(unit.widths)
        count.ff += 34
    else:
        count.lut += 2


# Units that exist in C++ only: what their arrays and products need. No synthesis has confirmed these.


def _constants(count: Count, width: int, depth: int, storage: str) -> None:
    """A ROM whose content counts for nothing."""
    if in_block(width, depth, storage):
        count.block(width, depth, False)
    else:
        count.lut += width * math.ceil(depth / LUT_WORDS)
        count.ff += width


def _constant(unit: Constant, count: Count) -> None:
    port = unit.outputs[0]
    _constants(count, port.width, port.words, unit.folding.storage)
    count.lut += CONTROL
    count.ff += CONTROL


def _row(unit: Softmax | Normalize, count: Count) -> None:
    lanes = unit.folding.pe
    bits = 48 if isinstance(unit, Normalize) else unit.exponential_bits
    count.ram(lanes * max(bits, unit.act_bits), unit.channels // lanes, "auto")
    if isinstance(unit, Softmax) and unit.table is not None:
        _constants(count, lanes * unit.exponential_bits, len(unit.table), "auto")
    count.dsp += lanes * (4 if isinstance(unit, Normalize) else 2)
    count.lut += (lanes + 1) * bits * DIVISION + CONTROL
    count.ff += (lanes + 1) * bits * DIVISION + CONTROL


def _pair(unit: Product, count: Count) -> None:
    lanes, (first, second) = unit.folding.pe, unit.operands
    count.ram(lanes * second[0], unit.stored * unit.heads * unit.width // lanes, "auto")
    count.dsp += lanes + product_dsp(unit.acc_bits, unit.scaling.multiplier_bits, count.dsp_bits)
    count.lut += lanes * (first[0] + second[0] + 2) + 2 * unit.acc_bits + 4 * CONTROL
    count.ff += lanes * 2 * (first[0] + second[0]) + 4 * unit.acc_bits + 4 * CONTROL


_RULES: dict[type, Callable[..., None]] = {
    MatrixVector: _product,
    Depthwise: _product,
    SlidingWindow: _window,
    MaxPool: _max_pool,
    FramePool: _frame_pool,
    Add: lambda unit, count: _sum(unit.operands, unit.zero_points, unit, unit.acc_bits, count),
    Rescale: lambda unit, count: _sum(
        ((unit.act_bits, unit.act_signed),), (unit.zero_point_in,), unit, unit.act_bits + 2 + unit.scaling.multiplier_bits, count
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
