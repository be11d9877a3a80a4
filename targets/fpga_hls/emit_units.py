"""The C++ of one unit: its constants, its memories, and the function that the network calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcompiler.errors import InternalError
from qcompiler.targets.fpga_hls.cpp_text import array, flat_array, integer, packed_rows, struct, word
from qcompiler.targets.fpga_hls.emit_rows import EMITTERS as ROW_EMITTERS
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.unit_text import UnitText, factors, memory_pragmas, scaling_struct
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
    Weighted,
    WidthConverter,
)


def unit_text(unit: Unit) -> UnitText:
    """The C++ of a unit."""
    return _EMITTERS[type(unit)](unit)


def unit_file(unit: Unit) -> str:
    """The header `units/NAME.h`."""
    text = unit_text(unit)
    streams = [
        f"hls::stream<{word(port)} > &{name}"
        for role, ports in (("in", unit.inputs), ("out", unit.outputs))
        for port, name in zip(ports, stream_names(role, len(ports)), strict=True)
    ]
    names = [n for role, ports in (("in", unit.inputs), ("out", unit.outputs)) for n in stream_names(role, len(ports))]
    lines = [f"// {describe(unit)}", f'#include "{text.header}"']
    if text.memories:
        lines.append(f'#include "weights/{unit.name}.h"')
    body = "".join(f"#pragma HLS {p}\n" for p in text.pragmas)
    call = f"    qc::{text.function}<{unit.name}_config>({', '.join([*names, *text.arguments])});\n"
    return (
        "#pragma once\n\n" + "\n".join(lines) + "\n\nnamespace units {\n\n" + text.structs
        + f"\ninline void {unit.name}({', '.join(streams)}) {{\n{body}{call}}}\n\n}}  // namespace units\n"
    )  # fmt: skip


def stream_names(role: str, count: int) -> list[str]:
    """Parameter names of streams."""
    return [role] if count == 1 else [f"{role}_{i}" for i in range(count)]


def memory_file(unit: Unit) -> str:
    """The header `weights/NAME.h`, "" if the unit has no memories."""
    memories = unit_text(unit).memories
    if not memories:
        return ""
    return f"// Constants of {unit.name}.\n#pragma once\n\n#include \"qc_types.h\"\n\nnamespace units {{\n\n{memories}\n}}  // namespace units\n"


def describe(unit: Unit) -> str:
    """One line about a unit."""
    sizes = f", {unit.rows} x {unit.columns}" if isinstance(unit, Weighted) else ""
    at = f" of {unit.module}" if unit.module else ""
    lanes = f"{', '.join(str(p.lanes) for p in unit.inputs) or 'no'} lanes in, {unit.outputs[0].lanes} out"
    return f"{type(unit).__name__}{at}{sizes}: {lanes}, {unit.interval} cycles per frame"


def _weighted(unit: Weighted, function: str, header: str, simd: int, rows: np.ndarray) -> UnitText:
    """`rows` int64 [cycles of a vector, pe * simd]: what is multiplied in each."""
    name, pe, scaling = unit.name, unit.folding.pe, unit.scaling
    packed = packed_rows(rows, unit.stored_bits)
    m = factors(scaling)
    per_channel = m.size > 1
    m = m.reshape(-1, pe) if per_channel else m.reshape(1, 1)
    multiplier = integer(max(1, int(m.max()).bit_length()), False)
    acc = integer(unit.acc_bits)
    constants = {
        "vectors": unit.vectors, "row_steps": unit.rows // pe, "column_steps": unit.columns // simd, "pe": pe, "simd": simd,
        "weight_bits": unit.stored_bits, "digits": unit.digits, "dot_bits": dot_bits(unit, simd), "row_bytes": packed.shape[1],
        "per_channel": per_channel, "scaling_steps": m.shape[0], "scaling_pe": m.shape[1],
    }  # fmt: skip
    types = {
        "input_t": word(unit.inputs[0]), "output_t": word(unit.outputs[0]), "acc_t": acc, "multiplier_t": multiplier,
        "scaling": f"{name}_scaling",
    }  # fmt: skip
    structs = scaling_struct(unit, scaling, scaling.product_bits(unit.acc_bits)) + "\n" + struct(f"{name}_config", types, constants)
    arrays = {f"{name}_weights": ("uint8_t", packed), f"{name}_bias": (acc, unit.bias.reshape(-1, pe)), f"{name}_multiplier": (multiplier, m)}
    memories = "\n".join(array(kind, called, values) for called, (kind, values) in arrays.items())
    pragmas = (
        *memory_pragmas(unit, f"{name}_weights"), f"ARRAY_RESHAPE variable={name}_bias complete dim=2",
        f"ARRAY_RESHAPE variable={name}_multiplier complete dim=2",
    )  # fmt: skip
    return UnitText(header, function, structs, memories, tuple(arrays), pragmas)


def dot_bits(unit: Weighted, simd: int) -> int:
    """Bits of a sum of `simd` products of a weight and a code, term by term."""
    product = unit.weight_bits + unit.act_bits + (0 if unit.act_signed else 1)
    return product + (simd * unit.terms - 1).bit_length()


def _matrix_vector(unit: Unit) -> UnitText:
    assert isinstance(unit, MatrixVector)
    pe, simd = unit.folding.pe, unit.folding.simd
    blocks = unit.stored.reshape(unit.rows // pe, pe, unit.columns // simd, simd).transpose(0, 2, 1, 3)
    return _weighted(unit, "matrix_vector", "qc_matrix_vector.h", simd, blocks.reshape(-1, pe * simd))


def _depthwise(unit: Unit) -> UnitText:
    assert isinstance(unit, Depthwise)
    pe = unit.folding.pe
    blocks = unit.stored.reshape(unit.rows // pe, pe, unit.columns).transpose(0, 2, 1)
    return _weighted(unit, "depthwise", "qc_depthwise.h", 1, blocks.reshape(-1, pe))


def _sliding_window(unit: Unit) -> UnitText:
    assert isinstance(unit, SlidingWindow)
    constants: dict[str, int | bool] = {
        "height": unit.height, "width": unit.width, "lanes": unit.folding.pe, "groups": unit.channels // unit.folding.pe,
        "out_height": unit.out_height, "out_width": unit.out_width, "kernel_h": unit.kernel[0], "kernel_w": unit.kernel[1],
        "stride_h": unit.strides[0], "stride_w": unit.strides[1], "dilation_h": unit.dilations[0], "dilation_w": unit.dilations[1],
        "pad_h": unit.pads[0], "pad_w": unit.pads[1], "span": unit.span, "rows_kept": unit.rows_kept, "fill": unit.fill,
        "by_channel": unit.by_channel,
    }  # fmt: skip
    return UnitText(
        "qc_sliding_window.h", "sliding_window", struct(f"{unit.name}_config", {"word_t": word(unit.inputs[0])}, constants)
    )


def _max_pool(unit: Unit) -> UnitText:
    assert isinstance(unit, MaxPool)
    constants = {"windows": unit.outputs[0].words, "taps": unit.taps, "pe": unit.folding.pe}
    return UnitText("qc_pool.h", "max_pool", struct(f"{unit.name}_config", {"word_t": word(unit.inputs[0])}, constants))


def _frame_pool(unit: Unit) -> UnitText:
    assert isinstance(unit, FramePool)
    types = {
        "input_t": word(unit.inputs[0]), "output_t": word(unit.outputs[0]), "acc_t": integer(unit.acc_bits),
        "scaling": f"{unit.name}_scaling",
    }  # fmt: skip
    constants = {
        "vectors": unit.vectors, "groups": unit.channels // unit.folding.pe, "pe": unit.folding.pe, "bias": unit.bias,
        "multiplier": int(factors(unit.scaling)[0]),
    }  # fmt: skip
    scaling = scaling_struct(unit, unit.scaling, unit.scaling.product_bits(unit.acc_bits))
    return UnitText("qc_pool.h", "frame_pool", f"{scaling}\n{struct(f'{unit.name}_config', types, constants)}")


def _add(unit: Unit) -> UnitText:
    assert isinstance(unit, Add)
    if len(unit.operands) != 2:
        raise InternalError(f"{unit.where}: a sum of {len(unit.operands)} streams")
    m = [int(v) for v in unit.scaling.multiplier]
    types = {
        "a_t": word(unit.inputs[0]), "b_t": word(unit.inputs[1]), "output_t": word(unit.outputs[0]),
        "scaling": f"{unit.name}_scaling",
    }  # fmt: skip
    constants = {
        "words": unit.outputs[0].words, "pe": unit.folding.pe, "multiplier_a": m[0], "multiplier_b": m[1],
        "offset": -sum(f * z for f, z in zip(m, unit.zero_points, strict=True)),
    }  # fmt: skip
    scaling = scaling_struct(unit, unit.scaling, add_bits(unit))
    return UnitText("qc_elementwise.h", "add", f"{scaling}\n{struct(f'{unit.name}_config', types, constants)}")


def add_bits(unit: Add) -> int:
    """Bits of a sum: its proven end, and every single product, offset and the rounding constant, with a sign."""
    m = [int(v) for v in unit.scaling.multiplier]
    products = [abs(f) << (bits - (1 if signed else 0)) for f, (bits, signed) in zip(m, unit.operands, strict=True)]
    offset = sum(abs(f * z) for f, z in zip(m, unit.zero_points, strict=True))
    return max(unit.acc_bits, (sum(products) + offset).bit_length() + 1, unit.scaling.shift + 1, unit.scaling.bits + 2)


def _rescale(unit: Unit) -> UnitText:
    assert isinstance(unit, Rescale)
    types = {
        "input_t": word(unit.inputs[0]), "output_t": word(unit.outputs[0]), "acc_t": integer(unit.act_bits + 2),
        "scaling": f"{unit.name}_scaling",
    }  # fmt: skip
    constants = {
        "words": unit.outputs[0].words, "pe": unit.folding.pe, "zero_point": unit.zero_point_in,
        "multiplier": int(factors(unit.scaling)[0]),
    }  # fmt: skip
    scaling = scaling_struct(unit, unit.scaling, unit.scaling.product_bits(unit.act_bits + 2))
    return UnitText("qc_elementwise.h", "rescale", f"{scaling}\n{struct(f'{unit.name}_config', types, constants)}")


def _lookup(unit: Unit) -> UnitText:
    assert isinstance(unit, Lookup)
    entry = integer(unit.bits, unit.signed)
    types = {"input_t": word(unit.inputs[0]), "output_t": word(unit.outputs[0]), "entry_t": entry}
    constants = {
        "words": unit.outputs[0].words, "pe": unit.folding.pe, "entries": unit.table.size,
        "smallest": -(1 << (unit.act_bits - 1)) if unit.act_signed else 0,
    }  # fmt: skip
    name = f"{unit.name}_table"
    return UnitText(
        "qc_elementwise.h", "lookup", struct(f"{unit.name}_config", types, constants), flat_array(entry, name, unit.table), (name,),
        memory_pragmas(unit, name, 0),
    )  # fmt: skip


def _fork(unit: Unit) -> UnitText:
    assert isinstance(unit, Fork)
    if unit.copies != 2:
        raise InternalError(f"{unit.where}: a fork of {unit.copies} copies")
    constants = {"words": unit.inputs[0].words}
    return UnitText("qc_routing.h", "fork", struct(f"{unit.name}_config", {"word_t": word(unit.inputs[0])}, constants))


def _concat(unit: Unit) -> UnitText:
    assert isinstance(unit, Concat)
    if len(unit.widths) != 2:
        raise InternalError(f"{unit.where}: {len(unit.widths)} operands")
    words = [width // unit.folding.pe for width in unit.widths]
    constants = {"vectors": unit.vectors, "words_a": words[0], "words_b": words[1]}
    return UnitText("qc_routing.h", "concat", struct(f"{unit.name}_config", {"word_t": word(unit.inputs[0])}, constants))


def _converter(unit: Unit) -> UnitText:
    assert isinstance(unit, WidthConverter)
    sides = sorted((unit.inputs[0], unit.outputs[0]), key=lambda port: port.lanes)
    constants = {"words": sides[0].words, "narrow": sides[0].lanes, "factor": sides[1].lanes // sides[0].lanes}
    types = {"narrow_t": word(sides[0]), "wide_t": word(sides[1])}
    function = "widen" if unit.folding.simd < unit.folding.pe else "narrow"
    return UnitText("qc_routing.h", function, struct(f"{unit.name}_config", types, constants))


_EMITTERS: Mapping[type[Unit], Callable[[Unit], UnitText]] = {
    **ROW_EMITTERS,
    MatrixVector: _matrix_vector,
    Depthwise: _depthwise,
    SlidingWindow: _sliding_window,
    MaxPool: _max_pool,
    FramePool: _frame_pool,
    Add: _add,
    Rescale: _rescale,
    Lookup: _lookup,
    Fork: _fork,
    Concat: _concat,
    WidthConverter: _converter,
}
