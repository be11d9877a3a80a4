"""What a unit consists of, as counts of bits: the terms in which LUTs and flip-flops of the Verilog twins are linear."""

from __future__ import annotations

import math
from collections.abc import Callable

from qcompiler.targets.fpga_hls.model.memory_blocks import block_selection, lut_ram, lut_rom
from qcompiler.targets.fpga_hls.stream import Scaling, Unit
from qcompiler.targets.fpga_hls.units import (
    Add,
    Depthwise,
    FramePool,
    Lookup,
    MatrixVector,
    MaxPool,
    Rescale,
    SlidingWindow,
)
from qcompiler.targets.fpga_hls.verilog.instance import own_queue, rescale_lanes
from qcompiler.targets.fpga_hls.verilog.rescaling import hardware_scaling
from qcompiler.targets.fpga_hls.verilog.storage import in_block

DSP_PRODUCT = 9
"""Bits of a product from which synthesis takes a DSP block."""

Terms = dict[str, float]


def terms(unit: Unit) -> Terms:
    """Names and sizes of what a unit consists of; a unit without a twin, or a plain connection, has none."""
    if type(unit) not in _RULES:
        return {}
    found = _RULES[type(unit)](unit)
    out = unit.outputs[0].width
    queue = own_queue(unit)
    return {"unit": 1.0, "queue": lut_ram(out, queue), "pointers": queue.bit_length(), **found}


def _scaler(scaling: Scaling, acc_bits: int, lanes: int) -> Terms:
    """Of rescalers side by side."""
    held = hardware_scaling(scaling)
    kept = max(2, acc_bits + held.multiplier_bits + held.left - held.least + 1)
    return {
        "rescalers": lanes,
        "rescaled": lanes * acc_bits,
        "kept": lanes * kept,
        "shifted": lanes * kept * math.ceil(held.extra_bits / 2),
        "codes": lanes * scaling.bits,
        "unmultiplied": 0 if held.multiplier_bits else lanes * acc_bits,
        "in two pieces": lanes * acc_bits if held.multiplier_bits and acc_bits > 25 else 0,
    }


def _product(unit: MatrixVector | Depthwise) -> Terms:
    depthwise = isinstance(unit, Depthwise)
    pe, simd = unit.folding.pe, 1 if depthwise else unit.folding.simd
    words, folds = unit.columns // simd, unit.rows // pe
    width = unit.term_bits
    operands, weights = (pe if depthwise else simd) * unit.act_bits, pe * simd * unit.stored_bits
    hard = width >= DSP_PRODUCT and not unit.digits
    kept = not depthwise and folds > 1 and words > 1
    weight_block = in_block(weights, words * folds, unit.folding.storage)
    operand_block = in_block(operands, words, "auto")
    lanes = rescale_lanes(pe, words)
    groups = pe // lanes
    held = hardware_scaling(unit.scaling)
    channel, channels = lanes * (held.multiplier_bits + held.extra_bits + unit.acc_bits), folds * groups
    channel_block = in_block(channel, channels, "auto")
    sums, count, bits, level = 0, simd * unit.terms, width, 0
    while count > 1:
        bits += 1
        if not (hard and level == 0):  # the first level is added in the DSP blocks
            sums += pe * -(-count // 2) * bits
        count, level = -(-count // 2), level + 1
    return {
        "counters": (words * folds).bit_length() + words.bit_length() + folds.bit_length(),
        "operands passed": 0 if kept else operands,
        "operands in LUTs": lut_ram(operands, words) if kept and not operand_block else 0,
        "operands read": operands if kept and not operand_block else 0,
        "operands shared": operands if hard else 0,
        "operands of products": 0 if hard else operands,
        "weights of products": 0 if hard else weights,
        "weights in LUTs": 0 if weight_block else lut_rom(weights, words * folds),
        "weights read": 0 if weight_block else weights,
        "weights among blocks": block_selection(weights, words * folds, False) if weight_block else 0,
        "products": 0 if hard or unit.digits else pe * simd * _soft_product(unit.weight_bits, unit.act_bits),
        "product bits": 0 if hard else pe * simd * unit.terms * width,
        "sums": sums,
        "accumulators": pe * unit.acc_bits,
        "waiting": pe * unit.acc_bits if groups > 1 else 0,
        "chosen": lanes * unit.acc_bits * (groups - 1) / 3,
        "gathered": pe * unit.scaling.bits if groups > 1 else 0,
        "constants in LUTs": 0 if channel_block else lut_rom(channel, channels),
        **_scaler(unit.scaling, unit.acc_bits, lanes),
    }


def _soft_product(a: int, b: int) -> float:
    """LUTs of a product without a DSP block: rows of partial products, added."""
    short, long = min(a, b), max(a, b)
    return 4.0 if short + long <= 4 else (short - 1) * (long + 1) + 1


def _window(unit: SlidingWindow) -> Terms:
    row = unit.width * unit.channels // unit.folding.pe
    depth, width = unit.rows_kept * row, unit.folding.pe * unit.bits
    block = in_block(width, depth, unit.folding.storage)
    return {
        "address": depth.bit_length(),
        "columns": row.bit_length(),
        "rows": unit.height.bit_length(),
        "groups": (unit.channels // unit.folding.pe).bit_length(),
        "taps": unit.taps.bit_length(),
        "by channel": float(unit.by_channel),
        "padded": float(any(unit.pads)),
        "strided": float(unit.strides != (1, 1)),
        "word": width,
        "rows in LUTs": 0 if block else lut_ram(width, depth),
        "rows among blocks": block_selection(width, depth) if block else 0,
    }


def _sum(unit: Add | Rescale) -> Terms:
    pe = unit.folding.pe
    operands = unit.operands if isinstance(unit, Add) else ((unit.act_bits, unit.act_signed),)
    acc_bits = unit.acc_bits if isinstance(unit, Add) else unit.act_bits + 2 + unit.scaling.multiplier_bits
    kept = max(2, acc_bits - unit.scaling.shift + 1)
    return {
        "operands": pe * sum(bits for bits, _ in operands),
        "added": pe * acc_bits * len(operands),
        "kept": pe * kept,
        "codes": pe * unit.scaling.bits,
        "rescalers": pe,
    }


def _lookup(unit: Lookup) -> Terms:
    block = in_block(unit.bits, len(unit.table), unit.folding.storage)
    return {"tables": 0 if block else unit.folding.pe * lut_rom(unit.bits, len(unit.table)), "codes": unit.folding.pe * unit.act_bits}


def _max_pool(unit: MaxPool) -> Terms:
    return {"compared": unit.folding.pe * unit.bits, "taps": unit.taps.bit_length()}


def _frame_pool(unit: FramePool) -> Terms:
    pe, groups = unit.folding.pe, unit.channels // unit.folding.pe
    return {
        "accumulators": pe * unit.acc_bits,
        "in LUTs": pe * lut_ram(unit.acc_bits, groups) if groups > 1 else 0,
        "counters": groups.bit_length() + unit.vectors.bit_length(),
        "rescalers": pe,
    }


_RULES: dict[type, Callable[..., Terms]] = {
    MatrixVector: _product,
    Depthwise: _product,
    SlidingWindow: _window,
    Add: _sum,
    Rescale: _sum,
    Lookup: _lookup,
    MaxPool: _max_pool,
    FramePool: _frame_pool,
}
