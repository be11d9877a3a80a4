"""The C++ of units that need whole rows, and of constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcompiler.targets.fpga_hls.cpp_text import array, flat_array, integer, struct, word
from qcompiler.targets.fpga_hls.row_units import Constant, Mixture, Normalize, Product, Row, Scores, Softmax
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.unit_text import UnitText, factors, memory_pragmas, scaling_struct


def _constant(unit: Unit) -> UnitText:
    assert isinstance(unit, Constant)
    name, entry = f"{unit.name}_values", integer(unit.bits, unit.signed)
    constants = {"words": unit.outputs[0].words, "pe": unit.folding.pe}
    types = {"word_t": word(unit.outputs[0]), "entry_t": entry}
    memory = array(entry, name, unit.values.reshape(-1, unit.folding.pe))
    return UnitText("qc_rows.h", "repeat", struct(f"{unit.name}_config", types, constants), memory, (name,), memory_pragmas(unit, name))


def _row_constants(unit: Row) -> dict[str, int | bool]:
    return {
        "vectors": unit.vectors, "steps": unit.channels // unit.folding.pe, "pe": unit.folding.pe, "zero_point": unit.zero_point
    }  # fmt: skip


def _row_types(unit: Row) -> dict[str, str]:
    return {"input_t": word(unit.inputs[0]), "output_t": word(unit.outputs[0])}


def _softmax(unit: Unit) -> UnitText:
    assert isinstance(unit, Softmax)
    table = np.zeros(1, np.int64) if unit.table is None else unit.table
    sum_bits = unit.exponential_bits + unit.channels.bit_length() + 11
    types = {**_row_types(unit), "entry_t": "int16_t", "sum_t": integer(sum_bits)}
    constants = {**_row_constants(unit), "entries": table.size, "unit": unit.unit, "exponent_bits": unit.exponent_bits}
    function, name = "softmax_shift" if unit.table is None else "softmax_table", f"{unit.name}_table"
    return UnitText(
        "qc_rows.h", function, struct(f"{unit.name}_config", types, constants), flat_array("int16_t", name, table), (name,)
    )


def _normalize(unit: Unit) -> UnitText:
    assert isinstance(unit, Normalize)
    low = -(1 << (unit.bits - 1)) if unit.signed else 0
    constants = {
        **_row_constants(unit), "zero_point_in": unit.zero_point_in, "fraction": unit.fraction, "eps": unit.eps, "shift": unit.shift,
        "qmin": low, "qmax": low + (1 << unit.bits) - 1, "centred": unit.centred,
    }  # fmt: skip
    names = (f"{unit.name}_weight", f"{unit.name}_bias")
    memories = "\n".join(
        array(kind, name, values.reshape(-1, unit.folding.pe))
        for kind, name, values in zip(("int32_t", "int64_t"), names, (unit.weight, unit.bias), strict=True)
    )
    pragmas = tuple(f"ARRAY_RESHAPE variable={name} complete dim=2" for name in names)
    return UnitText("qc_rows.h", "normalize", struct(f"{unit.name}_config", _row_types(unit), constants), memories, names, pragmas)


def _product(unit: Unit) -> UnitText:
    assert isinstance(unit, Product)
    types = {
        "a_t": word(unit.inputs[0]), "b_t": word(unit.inputs[1]), "output_t": word(unit.outputs[0]),
        "term_t": integer(sum(bits + 2 for bits, _ in unit.operands)), "acc_t": integer(unit.acc_bits),
        "scaling": f"{unit.name}_scaling",
    }  # fmt: skip
    constants = {
        "tokens": unit.tokens, "stored": unit.stored, "heads": unit.heads, "width": unit.width, "pe": unit.folding.pe,
        "steps": unit.width // unit.folding.pe, "zero_a": unit.zero_points[0], "zero_b": unit.zero_points[1],
        "multiplier": int(factors(unit.scaling)[0]),
    }  # fmt: skip
    scaling = scaling_struct(unit, unit.scaling, unit.scaling.product_bits(unit.acc_bits))
    function = "scores" if isinstance(unit, Scores) else "mixture"
    return UnitText("qc_product.h", function, f"{scaling}\n{struct(f'{unit.name}_config', types, constants)}")


EMITTERS: Mapping[type[Unit], Callable[[Unit], UnitText]] = {
    Constant: _constant,
    Softmax: _softmax,
    Normalize: _normalize,
    Scores: _product,
    Mixture: _product,
}
