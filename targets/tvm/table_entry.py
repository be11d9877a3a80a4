"""Entries of tables at a vector of places, as ops that vectorize whole.

AVX-512 holds short tables in registers: an instruction takes the entries of 16 places out of 32 words, or those of 32
places out of 64 half words. Longer tables take several, between whose results the upper bits of a place choose.

Elsewhere entries are fetched from memory. Written lane by lane, every place is moved from the vector to a general
register by itself, which takes two steps. Here two of them move at once and are taken apart there; on AVX2 and on
AVX-512 that is also faster than the instruction for gathering.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script import tirx as T

from qcompiler.targets.tvm.kernel import KernelBuilder, interned
from qcompiler.targets.tvm.vector_op import vector_op

LANES = 16
"""32-bit places per instruction that permutes."""
REGISTERS = 8
"""Of a table that is held in them; with more, fetching is as fast."""
FETCHED, PERMUTED = "tirx.qcompiler_table_entry", "tirx.qcompiler_permuted_entry"
FETCHED_LINE, PERMUTED_LINE = "tirx.qcompiler_line", "tirx.qcompiler_permuted_line"
PERMUTES = {
    "int16": ("llvm.x86.avx512.vpermi2var.hi.512", "int16x32"),
    "int32": ("llvm.x86.avx512.vpermi2var.d.512", "int32x16"),
    "float32": ("llvm.x86.avx512.vpermi2var.ps.512", "float32x16"),
}


def table_entry(builder: KernelBuilder, table: np.ndarray, place: Any) -> Any:
    """table[place] for an int32 expression within it: int32, float32 for a table of float32."""
    kind = "float32" if table.dtype.kind == "f" else "int32"
    if builder.permutes and (held := in_registers(table)) is not None:
        return _call(kind, PERMUTED, _lower_permuted, builder, held, place)
    return _call(kind, FETCHED, _lower_fetched, builder, table.astype(kind), place)


def line_between(builder: KernelBuilder, knots: np.ndarray, place: Any) -> Any:
    """(256 - f) knots[i] + f knots[i + 1] for an int32 expression `place` = 256 i + f, i < 256, and 257 knots of int16."""
    if builder.permutes:
        return _call("int32", PERMUTED_LINE, _lower_permuted_line, builder, knots.astype(np.int16), place)
    # a knot and its successor are one word: one load per element
    wide = knots.astype(np.int64)
    words = (wide[:-1] & 0xFFFF) | (wide[1:] << 16)
    return _call("int32", FETCHED_LINE, _lower_fetched_line, builder, words.astype(np.int32), place)


def in_registers(table: np.ndarray) -> np.ndarray | None:
    """A table of whole registers, two or a power of two more of them, with entries as short as they can be; None if it is too long."""
    kind = np.dtype(np.float32)
    if table.dtype.kind != "f":
        kind = np.dtype(np.int16 if -(1 << 15) <= table.min() and table.max() < 1 << 15 else np.int32)
    per_pair = 2 * 64 // kind.itemsize
    pairs = 1 << max(0, -(-len(table) // per_pair) - 1).bit_length()
    if 2 * pairs > REGISTERS:
        return None
    return np.pad(table, (0, pairs * per_pair - len(table))).astype(kind)


def _call(kind: str, name: str, lower: Callable[[Any], Any], builder: KernelBuilder, table: np.ndarray, place: Any) -> Any:
    held = builder.constant(interned(table))
    return tirx.call_intrin(kind, vector_op(name, lower), held(0), place)  # its first entry stands for the table


def _parts(call: Any) -> tuple[Any, Any, int]:
    """(buffer of the table, places, how many)."""
    first, place = call.args
    lanes = int(tvm.DataType(str(call.ty)).lanes)
    return (first if lanes == 1 else first.value).source, place, lanes


# -- out of memory


def _lower_fetched(call: Any) -> Any:
    return _fetched(*_parts(call))


def _fetched(table: Any, place: Any, lanes: int) -> Any:
    if lanes == 1:
        return tirx.BufferLoad(table, [place])
    pairs = tirx.Var("pairs", f"int64x{lanes // 2}")
    entries = []
    for i in range(lanes // 2):
        two = tirx.Shuffle([pairs], [i])
        for one in (two & tirx.const(0xFFFFFFFF, "int64"), two >> tirx.const(32, "int64")):
            entries.append(tirx.BufferLoad(table, [one]))
    vector = tirx.Shuffle(entries, list(range(lanes)))
    return tirx.Let(pairs, tirx.reinterpret(f"int64x{lanes // 2}", place), vector)


def _lower_fetched_line(call: Any) -> Any:
    table, place, lanes = _parts(call)
    return _line(place, lanes, lambda at: _fetched(table, at >> _spread(8, lanes), lanes))


def _line(place: Any, lanes: int, word_at: Callable[[Any], Any]) -> Any:
    """From the lower half of the word at a place to the upper one."""
    kind = _vector("int32", lanes)
    at, word = tirx.Var("at", kind), tirx.Var("word", kind)
    half, f = _spread(16, lanes), at & _spread(255, lanes)
    line = ((word << half) >> half) * (_spread(256, lanes) - f) + (word >> half) * f
    return tirx.Let(at, place, tirx.Let(word, word_at(at), line))


# -- out of registers


def _lower_permuted(call: Any) -> Any:
    table, place, lanes = _parts(call)
    short = str(table.dtype) == "int16"
    if lanes % LANES:
        return _by_numbers(place, lanes, lambda at: tirx.BufferLoad(table, [at]).astype("int32" if short else str(table.dtype)))
    half = _spread(16, LANES)
    return _by_vectors(place, lanes, lambda at: (_chosen(table, at) << half) >> half if short else _chosen(table, at))


def _lower_permuted_line(call: Any) -> Any:
    table, place, lanes = _parts(call)

    def knot(i: Any) -> Any:
        return tirx.BufferLoad(table, [i]).astype("int32")

    def word(i: Any) -> Any:
        return (knot(i) & tirx.const(0xFFFF, "int32")) | (knot(i + tirx.const(1, "int32")) << tirx.const(16, "int32"))

    if lanes % LANES:
        return _by_numbers(place, lanes, lambda at: _line(at, 1, lambda at: word(at >> tirx.const(8, "int32"))))
    last = tirx.const(255, "int32")

    def words(at: Any) -> Any:
        # both halves of a word are places: i and i + 1, which are knots of the registers but for the last i
        i = tirx.Var("i", _vector("int32", LANES))
        both = (i | (i << _spread(16, LANES))) + _spread(1 << 16, LANES)
        chosen = tirx.Select(tirx.EQ(i, tirx.Broadcast(last, LANES)), tirx.Broadcast(word(last), LANES), _chosen(table, both, 256))
        return tirx.Let(i, at >> _spread(8, LANES), chosen)

    return _by_vectors(place, lanes, lambda at: _line(at, LANES, words))


def _by_numbers(place: Any, lanes: int, entry: Callable[[Any], Any]) -> Any:
    if lanes == 1:
        return entry(place)
    places = tirx.Var("places", _vector("int32", lanes))
    entries = [entry(tirx.Shuffle([places], [i])) for i in range(lanes)]
    return tirx.Let(places, place, tirx.Shuffle(entries, list(range(lanes))))


def _by_vectors(place: Any, lanes: int, entries: Callable[[Any], Any]) -> Any:
    """`entries` of one vector of places after the other."""
    if lanes == LANES:
        return entries(place)
    places = tirx.Var("places", _vector("int32", lanes))
    vectors = [entries(tirx.Shuffle([places], list(range(i, i + LANES)))) for i in range(0, lanes, LANES)]
    return tirx.Let(places, place, tirx.Shuffle(vectors, list(range(lanes))))


def _chosen(table: Any, place: Any, count: int | None = None) -> Any:
    """Entries of the first `count` of a table at a vector of places, as words: of half words the lower and the upper half alike."""
    name, kind = PERMUTES[str(table.dtype)]
    width = int(tvm.DataType(kind).lanes)
    places = tirx.Var("places", f"int{512 // width}x{width}")

    def registers(first: int, pairs: int) -> Any:
        if pairs == 1:
            low, high = (tirx.BufferLoad(table, [tirx.Ramp(tirx.const(first + i, "int32"), tirx.const(1, "int32"), width)]) for i in (0, width))
            return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(name), low, places, high, dtype=kind)
        size = pairs * width  # half of the entries
        bit = tirx.Broadcast(tirx.const(size, f"int{512 // width}"), width)
        zero = tirx.Broadcast(tirx.const(0, f"int{512 // width}"), width)
        return tirx.Select(tirx.EQ(places & bit, zero), registers(first, pairs // 2), registers(first + size, pairs // 2))

    found = registers(0, (int(table.shape[0]) if count is None else count) // (2 * width))
    words = tirx.reinterpret(_vector("int32", LANES), found) if kind == "int16x32" else found
    whole = tirx.reinterpret(f"int16x{width}", place) if kind == "int16x32" else place
    return tirx.Let(places, whole, words)


def _vector(kind: str, lanes: int) -> str:
    return kind if lanes == 1 else f"{kind}x{lanes}"


def _spread(value: int, lanes: int) -> Any:
    number = tirx.const(value, "int32")
    return number if lanes == 1 else tirx.Broadcast(number, lanes)
