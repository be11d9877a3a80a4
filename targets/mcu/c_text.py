"""Printing C: arrays, structs, pointers, comments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from qcompiler.targets.mcu.program import Data, Struct, Tensor

WORD_BYTES = 8
LINE = 110


def array_text(data: Data) -> str:
    """Definition of a constant array. Data with an alignment is printed as 64-bit words, which have it."""
    if data.alignment:
        words = as_words(data.array)
        return _wrapped(f"const uint64_t {data.name}[{words.size}] = {{", (f"0x{int(w):016x}u" for w in words))
    array = np.ravel(data.array)
    suffix = "L" if data.c_type == "int64_t" else ""
    return _wrapped(f"const {data.c_type} {data.name}[{array.size}] = {{", (f"{int(v)}{suffix}" for v in array))


def array_declaration(data: Data) -> str:
    """Declaration of a constant array that is defined elsewhere."""
    if data.alignment:
        return f"extern const uint64_t {data.name}[{as_words(data.array).size}];"
    return f"extern const {data.c_type} {data.name}[{data.array.size}];"


def array_bytes(data: Data) -> int:
    """Flash that an array takes."""
    return int(as_words(data.array).size) * WORD_BYTES if data.alignment else data.size


def as_words(array: np.ndarray) -> np.ndarray:
    """The bytes as little-endian 64-bit words, the last one filled up with zeros."""
    raw = np.ravel(array).tobytes()
    raw += bytes(-len(raw) % WORD_BYTES)
    return np.frombuffer(raw, "<u8")


def struct_text(struct: Struct) -> str:
    """Definition of a constant parameter struct."""
    return f"static const {struct.c_type} {struct.name} = {{\n{_fields(struct.fields, 1)}}};\n"


def _fields(fields: Mapping[str, object], depth: int) -> str:
    pad = "    " * depth
    lines = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            lines.append(f"{pad}.{name} =\n{pad}    {{\n{_fields(value, depth + 2)}{pad}    }},\n")
        else:
            lines.append(f"{pad}.{name} = {value_text(value)},\n")
    return "".join(lines)


def value_text(value: object) -> str:
    """An initializer."""
    if value is None:
        return "0"
    if isinstance(value, Data):
        return value.name
    if isinstance(value, tuple):
        return "{" + ", ".join(map(value_text, value)) + "}"
    assert isinstance(value, int | np.integer), value
    number = int(value)
    if -(1 << 31) < number < 1 << 31:
        return str(number)
    return f"INT64_C({number})" if number > -(1 << 63) else "INT64_MIN"


def pointer_text(tensor: Tensor, offset: int, base: str, step: str = "", constant: bool = False) -> str:
    """A pointer to the elements of a tensor that begin `offset` bytes after `base`, an int8_t pointer."""
    moved = base + (f" + {offset}" if offset else "") + (f" + {step}" if step else "")
    if tensor.c_type == "int8_t":
        return moved
    qualifier = "const " if constant else ""
    return f"({qualifier}{tensor.c_type} *)({qualifier}void *)({moved})"


def comment(text: str) -> str:
    """Text that cannot end the comment it stands in."""
    return text.replace("*/", "* /").replace("/*", "/ *")


def _wrapped(head: str, items: Iterable[str]) -> str:
    lines, line = [head], "   "
    for item in items:
        if len(line) + len(item) + 2 > LINE:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return "\n".join([*lines, line, "};"]) + "\n"


