"""What one unit becomes: a module of `kernels/fpga_hls/rtl`, its parameters, and the files of its memories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.targets.fpga_hls.stream import Scaling, Unit, divisors
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
from qcompiler.targets.fpga_hls.verilog.rescaling import hardware_scaling
from qcompiler.targets.fpga_hls.verilog.storage import in_block, queue_depth
from qcompiler.targets.fpga_hls.verilog.words import fields, hex_text, pack


@dataclass(frozen=True)
class Instance:
    """A module with its parameters.

    Attributes:
        module: Verilog name.
        parameters: name -> integer, or text that stands as it is.
        files: parameter -> text of a memory.
    """

    module: str
    parameters: Mapping[str, int | str]
    files: Mapping[str, str] = field(default_factory=dict)


def instance(unit: Unit, dsp_bits: int) -> Instance:
    """The module of a unit, for a part whose multipliers take `dsp_bits` signed bits on their wide side.

    Raises:
        UnsupportedError: the unit has no Verilog twin.
    """
    if type(unit) not in _MAKERS:
        known = ", ".join(sorted(kind.__name__ for kind in _MAKERS))
        raise UnsupportedError(f"{unit.where}: a {type(unit).__name__} has no Verilog twin; those that have one are {known}")
    return _MAKERS[type(unit)](unit, dsp_bits)


def has_twin(unit: Unit) -> bool:
    """Whether there is a Verilog module for the unit."""
    return type(unit) in _MAKERS


def rescale_lanes(pe: int, words: int) -> int:
    """Rescalers that `pe` accumulators need when each of their results takes `words` clocks: as few as keep up."""
    return next(lanes for lanes in divisors(pe) if pe // lanes <= words)


def unit_latency(unit: Unit) -> int:
    """Clocks from the last word that a result depends on to the result at the output, queues empty."""
    if isinstance(unit, MatrixVector | Depthwise):
        simd, words = _dot(unit)
        groups = unit.folding.pe // rescale_lanes(unit.folding.pe, words)
        return 7 + (simd * unit.terms - 1).bit_length() + RESCALE_LATENCY + (groups + 1 if groups > 1 else 0)
    if isinstance(unit, Add):
        return 3 + (len(unit.operands) - 1).bit_length() + RESCALE_LATENCY
    if isinstance(unit, WidthConverter):
        return int(unit.folding.simd != unit.folding.pe)
    return _LATENCIES[type(unit)]


def own_queue(unit: Unit) -> int:
    """Least depth of a unit's output queue for full speed; 0 for units that have none."""
    if isinstance(unit, Fork | Concat | WidthConverter) or not has_twin(unit):
        return 0
    results = 1  # clocks between results, at least
    if isinstance(unit, MatrixVector | Depthwise):
        results = _dot(unit)[1]
    if isinstance(unit, MaxPool):
        results = unit.taps
    return queue_depth(-(-(unit_latency(unit) + 1) // results))


def _dot(unit: MatrixVector | Depthwise) -> tuple[int, int]:
    """Terms per clock and row, and clocks per result."""
    simd = 1 if isinstance(unit, Depthwise) else unit.folding.simd
    return simd, unit.columns // simd


RESCALE_LATENCY = 7
_LATENCIES: dict[type, int] = {
    SlidingWindow: 4,
    FramePool: 2 + RESCALE_LATENCY,
    Rescale: 3 + RESCALE_LATENCY,
    Lookup: 3,
    MaxPool: 3,
    Fork: 1,  # the queues that stand on its edges
    Concat: 0,
}


def weight_words(unit: MatrixVector | Depthwise) -> np.ndarray:
    """Codes as the memory of weights holds them, [fold and word, PE rows of SIMD columns], in the low `stored_bits` bits."""
    pe, (simd, words) = unit.folding.pe, _dot(unit)
    folds = unit.rows // pe
    # [fold, row, word, column]
    ordered = unit.stored.reshape(folds, pe, words, simd).transpose(0, 2, 1, 3)
    return _modular(ordered.reshape(folds * words, pe * simd), unit.stored_bits)


def channel_words(unit: MatrixVector | Depthwise) -> np.ndarray:
    """Bits of the memory of constants per channel, low bit first: [fold and group, lanes of bias, extra shift, multiplier]."""
    scaling, lanes = hardware_scaling(unit.scaling), rescale_lanes(unit.folding.pe, _dot(unit)[1])
    return fields(
        (
            (_modular(unit.bias, unit.acc_bits), unit.acc_bits),
            (np.broadcast_to(scaling.extra, unit.rows), scaling.extra_bits),
            (np.broadcast_to(scaling.multiplier, unit.rows), scaling.multiplier_bits),
        )
    ).reshape(unit.rows // lanes, -1)


def _product(unit: MatrixVector | Depthwise, dsp_bits: int) -> Instance:
    pe, (simd, words) = unit.folding.pe, _dot(unit)
    rows, terms = unit.weights.shape
    scaling = hardware_scaling(unit.scaling)
    weights, channels = weight_words(unit), channel_words(unit)
    return Instance(
        "qc_mvu",
        {
            "PE": pe,
            "SIMD": simd,
            "MW": terms,
            "MH": rows,
            "DEPTHWISE": int(isinstance(unit, Depthwise)),
            "LANES": rescale_lanes(pe, words),
            "WB": unit.weight_bits,
            "DIGITS": unit.digits,
            "AB": unit.act_bits,
            "A_SIGNED": int(unit.act_signed),
            "ACCB": unit.acc_bits,
            **_scaling_parameters(unit.scaling),
            "MB": scaling.multiplier_bits,
            "DS": scaling.extra_bits,
            "DSPA": dsp_bits,
            "WEIGHT_BLOCK": int(in_block(pe * simd * unit.stored_bits, len(weights), unit.folding.storage)),
            "CHANNEL_BLOCK": int(in_block(channels.shape[1], len(channels), "auto")),
            "BUFFER_BLOCK": int(in_block(simd * unit.act_bits, words, "auto")),
        },
        {
            "WEIGHTS": hex_text(pack(weights, unit.stored_bits)),
            "CHANNELS": hex_text(pack(channels, 1)),
        },
    )


def _modular(values: np.ndarray, bits: int) -> np.ndarray:
    """Two's complement of `bits`, as unsigned integers."""
    return np.asarray(values, np.int64) & ((1 << bits) - 1)


def _scaling_parameters(scaling: Scaling) -> dict[str, int]:
    held = hardware_scaling(scaling)
    return {
        "SMIN": held.least,
        "LEFT": held.left,
        "OB": scaling.bits,
        "ZP": scaling.zero_point,
        "QMIN": scaling.qmin,
        "QMAX": scaling.qmax,
        "HALF_EVEN": int(held.half_even),
    }


def _window(unit: SlidingWindow, dsp_bits: int) -> Instance:
    lanes = unit.folding.pe
    words = unit.rows_kept * unit.width * unit.channels // lanes
    return Instance(
        "qc_window",
        {
            "PE": lanes,
            "BITS": unit.bits,
            "HEIGHT": unit.height,
            "WIDTH": unit.width,
            "CHANNELS": unit.channels,
            "OUT_HEIGHT": unit.out_height,
            "OUT_WIDTH": unit.out_width,
            "KH": unit.kernel[0],
            "KW": unit.kernel[1],
            "SH": unit.strides[0],
            "SW": unit.strides[1],
            "DH": unit.dilations[0],
            "DW": unit.dilations[1],
            "TOP": unit.pads[0],
            "LEFT": unit.pads[1],
            "FILL": unit.fill,
            "BY_CHANNEL": int(unit.by_channel),
            "BLOCK": int(in_block(lanes * unit.bits, words, unit.folding.storage)),
        },
    )


def _sum(
    unit: Unit, operands: tuple[tuple[int, bool], ...], zero_points: tuple[int, ...], scaling: Scaling, acc_bits: int
) -> Instance:
    """Factors stand before the sum: the shift is the only thing left to do behind it."""
    factors = [int(m) for m in np.broadcast_to(scaling.multiplier, len(operands))]
    bias = -sum(m * z for m, z in zip(factors, zero_points))
    left = max(0, 1 - scaling.shift)
    return Instance(
        "qc_add",
        {
            "PE": unit.folding.pe,
            "COUNT": len(operands),
            "BITS": _literal([bits for bits, _ in operands], 8),
            "SIGNED": _literal([int(signed) for _, signed in operands], 1),
            "FACTORS": _literal(factors, 32),
            "BIAS": f"64'sh{bias & (1 << 64) - 1:x}",
            "WIDE": max(bits for bits, _ in operands),
            "MW": max(abs(m).bit_length() for m in factors) + 1,
            "ACCB": acc_bits,
            "IN": unit.folding.pe * sum(bits for bits, _ in operands),
            **_scaling_parameters(scaling),
            "SMIN": scaling.shift + left,
            "LEFT": left,
        },
    )


def _literal(values: list[int], bits: int) -> str:
    """A constant of fields, the first one lowest."""
    number = sum((value & (1 << bits) - 1) << bits * i for i, value in enumerate(values))
    return f"{bits * len(values)}'h{number:x}"


def _add(unit: Add, dsp_bits: int) -> Instance:
    return _sum(unit, unit.operands, unit.zero_points, unit.scaling, unit.acc_bits)


def _rescale(unit: Rescale, dsp_bits: int) -> Instance:
    # the difference of two codes, times the multiplier, and its sign
    acc_bits = unit.act_bits + 2 + unit.scaling.multiplier_bits
    return _sum(unit, ((unit.act_bits, unit.act_signed),), (unit.zero_point_in,), unit.scaling, acc_bits)


def _lookup(unit: Lookup, dsp_bits: int) -> Instance:
    # the table goes by value; the memory is addressed by the bits of the code
    table = np.roll(unit.table, len(unit.table) // 2) if unit.act_signed else unit.table
    block = in_block(unit.bits, len(unit.table), unit.folding.storage)
    return Instance(
        "qc_lookup",
        {"PE": unit.folding.pe, "AB": unit.act_bits, "OB": unit.bits, "BLOCK": int(block)},
        {"TABLE": hex_text(pack(_modular(table, unit.bits)[:, None], unit.bits))},
    )


def _max_pool(unit: MaxPool, dsp_bits: int) -> Instance:
    return Instance(
        "qc_max_pool",
        {"PE": unit.folding.pe, "TAPS": unit.taps, "BITS": unit.bits, "SIGNED": int(unit.signed)},
    )


def _frame_pool(unit: FramePool, dsp_bits: int) -> Instance:
    held = hardware_scaling(unit.scaling)
    return Instance(
        "qc_frame_pool",
        {
            "PE": unit.folding.pe,
            "VECTORS": unit.vectors,
            "CHANNELS": unit.channels,
            "AB": unit.act_bits,
            "A_SIGNED": int(unit.act_signed),
            "ACCB": unit.acc_bits,
            "BIAS": f"64'sh{unit.bias & (1 << 64) - 1:x}",
            **_scaling_parameters(unit.scaling),
            "MB": held.multiplier_bits,
            "M": f"64'd{int(held.multiplier.ravel()[0])}",
            "DSPA": dsp_bits,
        },
    )


def _fork(unit: Fork, dsp_bits: int) -> Instance:
    return Instance("qc_fork", {"W": unit.inputs[0].width, "COPIES": unit.copies})


def _concat(unit: Concat, dsp_bits: int) -> Instance:
    words = [width // unit.folding.pe for width in unit.widths]
    return Instance("qc_concat", {"W": unit.outputs[0].width, "COUNT": len(words), "WORDS": _literal(words, 32)})


def _width(unit: WidthConverter, dsp_bits: int) -> Instance:
    return Instance("qc_width", {"BITS": unit.bits, "IN": unit.folding.simd, "OUT": unit.folding.pe})


_MAKERS: dict[type, Callable[..., Instance]] = {
    MatrixVector: _product,
    Depthwise: _product,
    SlidingWindow: _window,
    MaxPool: _max_pool,
    FramePool: _frame_pool,
    Add: _add,
    Rescale: _rescale,
    Lookup: _lookup,
    Fork: _fork,
    Concat: _concat,
    WidthConverter: _width,
}
