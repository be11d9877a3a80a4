"""Pieces of C++: types, constants, arrays, structs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from qcompiler.targets.fpga_hls.stream import Port

NUMBERS_PER_LINE = 24


def integer(bits: int, signed: bool = True) -> str:
    """Type of an integer of any width."""
    return f"ap_int<{bits}>" if signed else f"ap_uint<{bits}>"


def word(port: Port) -> str:
    """Type of a stream's words."""
    return f"qc::word<{integer(port.bits, port.signed)}, {port.lanes}>"


def literal(value: int) -> str:
    """A constant; wide ones with their suffix."""
    if value == -(1 << 63):
        return "INT64_MIN"
    return f"{value}LL" if not -(1 << 31) < value < 1 << 31 else str(value)


def constant(name: str, value: int | bool) -> str:
    """A member of a struct of constants."""
    if isinstance(value, bool):
        return f"static const bool {name} = {'true' if value else 'false'};"
    wide = not -(1 << 31) < value < 1 << 31
    return f"static const {'int64_t' if wide else 'int'} {name} = {literal(value)};"


def struct(name: str, types: Mapping[str, str], constants: Mapping[str, int | bool]) -> str:
    """A struct that holds types and constants, for a template to read."""
    lines = [f"typedef {of} {called};" for called, of in types.items()]
    lines += [constant(called, value) for called, value in constants.items()]
    return f"struct {name} {{\n" + "".join(f"    {line}\n" for line in lines) + "};\n"


def array(c_type: str, name: str, values: np.ndarray) -> str:
    """A constant array of two dimensions, a row per line or more."""
    rows, columns = values.shape
    text = ",\n".join("    {" + wrapped(values[r].tolist()) + "}" for r in range(rows))
    return f"static const {c_type} {name}[{rows}][{columns}] = {{\n{text},\n}};\n"


def flat_array(c_type: str, name: str, values: np.ndarray) -> str:
    """A constant array of one dimension."""
    return f"static const {c_type} {name}[{values.size}] = {{\n    {wrapped(values.tolist())},\n}};\n"


def wrapped(values: Iterable[int]) -> str:
    """Numbers with commas, on lines of bounded length."""
    texts = [literal(int(v)) for v in values]
    lines = [", ".join(texts[i : i + NUMBERS_PER_LINE]) for i in range(0, len(texts), NUMBERS_PER_LINE)]
    return ",\n     ".join(lines)


def packed_rows(rows: np.ndarray, bits: int) -> np.ndarray:
    """Two's complement numbers of `bits` bits side by side, least significant first: uint8 [rows, bytes].

    Args:
        rows: int64 [rows, numbers].
        bits: of a number, at most 8.
    """
    fields = (rows[:, :, None] >> np.arange(bits)) & 1
    return np.packbits(fields.reshape(len(rows), -1).astype(np.uint8), axis=1, bitorder="little")
