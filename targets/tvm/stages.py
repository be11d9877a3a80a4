"""Ops that read more than one element per result: reductions, softmaxes, norms. Windows are in `windows.py`.

Each gives a view that reads one or more intermediate stages of the kernel. Stages over the last axis have one row per
row of the result, so that the schedule can compute them row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import te, tirx

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Node
from qcompiler.ir.ops.integer_norm import NORMAL_BITS, RECIPROCAL_BITS
from qcompiler.targets.tvm.arithmetic import (
    const64,
    floor_sqrt,
    i32,
    i64,
    quotient,
    saturate,
    shift_exp,
    whole64,
)
from qcompiler.targets.tvm.high_product import high_word_of
from qcompiler.targets.tvm.kernel import KernelBuilder, operand, storage, zero_of
from qcompiler.targets.tvm.pointwise import result_limits
from qcompiler.targets.tvm.row_join import row_join
from qcompiler.targets.tvm.table_entry import table_entry
from qcompiler.targets.tvm.table_factors import exponential_factors
from qcompiler.targets.tvm.views import ROWS, Layout, Point, View
from qcompiler.targets.tvm.windows import avg_pool, max_pool

MakeStages = Callable[[KernelBuilder, Node], View]
PARTS = 16
"""Elements that are added side by side: a vector of 32-bit elements, or several, on all machines."""
FAR = -(1 << 19)
"""Below all codes of 16 bits, by more than any two of them are apart."""


def _rows(builder: KernelBuilder, node: Node) -> tuple[Any, Any, Callable[[Any, Any], Point]]:
    """(rows, length of the last axis, (row, column) -> point of the operand)."""
    shape = operand(node, 0).shape
    layout = Layout(ROWS, shape)
    rows, length = layout.physical_shape(builder.symbols)
    return rows, length, lambda r, c: Point(shape, layout.logical((r, c), builder.symbols), layout, (r, c))


def _row_view(builder: KernelBuilder, node: Node, element: Callable[[Any, Any], Any]) -> View:
    """A view of the result from (row, column)."""
    layout = Layout(ROWS, node.output.shape)

    def at(point: Point) -> Any:
        same = point.layout is not None and point.layout.kind == ROWS
        return element(*(point.place if same else layout.physical(point.index, builder.symbols)))

    return View(node.output.shape, at)


def _over_row(rows: Any, length: Any, join: Any, element: Callable[[Any, Any], Any], name: str) -> Any:
    """[rows]: `element` (row, column) joined over the columns; every `PARTS`th of them first, where these divide them."""
    if not isinstance(length, int) or length % PARTS:
        k = te.reduce_axis((0, length), "k")
        return te.compute((rows,), lambda r: join(element(r, k), axis=k), name=name)
    j = te.reduce_axis((0, length // PARTS), "j")
    parts = te.compute((rows, PARTS), lambda r, p: join(element(r, j * PARTS + p), axis=j), name=f"{name}_parts")
    return te.compute((rows,), lambda r: row_join("max" if join is te.max else "sum", parts, r), name=name)


# -- softmaxes


def _filled(length: Any) -> Any:
    """Columns of the stages of rows of a length: whole vectors where it is known."""
    return length if not isinstance(length, int) or length % PARTS == 0 else length + PARTS - length % PARTS


def _masked(builder: KernelBuilder, node: Node, index: int) -> Callable[[Point], Any] | None:
    mask = node.inputs[index]
    if mask is None:
        return None
    view = builder.view(mask)
    return lambda point: view.read(point).astype("bool")


def _exponentials(
    builder: KernelBuilder, node: Node, exponential: Callable[[Any], Any], mask: Any, narrow: bool = False
) -> tuple[Any, Any, Any, Any]:
    """(e [rows, length] int32, sum of e [rows], rows, length): e of max - x where the mask keeps it, 0 elsewhere.

    The sum is int32 if `narrow`, which says that it fits, and int64 otherwise. Rows are filled up to whole vectors with
    what the mask would leave out.
    """
    rows, length, point = _rows(builder, node)
    columns = _filled(length)
    x = builder.view(operand(node, 0))

    def kept(r: Any, c: Any) -> Any:
        value = masked(r, c)
        return value if columns is length else tirx.if_then_else(c < length, value, tirx.const(2 * FAR, "int32"))

    def masked(r: Any, c: Any) -> Any:
        value = i32(x.at(point(r, c)))
        if mask is None:
            return value
        ones = tirx.const(0, "int32") - i32(mask(point(r, c)))  # all bits; a condition would be a branch per element
        return (value & ones) | (tirx.const(2 * FAR, "int32") & ~ones)

    codes = te.compute((rows, columns), kept, name="codes")
    top = _over_row(rows, columns, te.max, lambda r, c: codes[r, c], "top")
    # what the mask leaves out is far below, where nothing is kept too
    exps = te.compute((rows, columns), lambda r, c: exponential(tirx.max(top[r], tirx.const(FAR, "int32")) - codes[r, c]), name="exps")
    total = _over_row(rows, columns, te.sum, lambda r, c: exps[r, c].astype("int32" if narrow else "int64"), "total")
    return exps, total, rows, length


def _table(builder: KernelBuilder, node: Node) -> Callable[[Any], Any]:
    """Reads the table, 0 beyond its end: without a condition, which would be a branch per element."""
    data = operand(node, 1).data
    assert data is not None
    table, count = np.append(data, 0), len(data)
    in_vectors = isinstance(operand(node, 0).shape[-1], int)  # of `_filled` rows; one by one, two entries take longer
    factors = exponential_factors(table) if builder.permutes and in_vectors else None
    if factors is None:
        return lambda d: table_entry(builder, table, tirx.min(d, count))
    upper, lower, bits = factors.upper, factors.lower, factors.bits

    def rounded_product(d: Any) -> Any:
        place = tirx.min(d, count)
        first = table_entry(builder, upper, place >> bits)
        second = table_entry(builder, lower, place & ((1 << bits) - 1))
        return (first * second + tirx.const(0.5, "float32")).astype("int32")

    return rounded_product


def _rounded(e: Any, total: Any, bits: int) -> Any:
    """(e 2^(bits+1) + total) div (2 total), 0 where the total is 0; int32."""
    whole = tirx.max(total * const64(2), const64(1))
    return quotient((i64(e) << const64(bits + 1)) + total, whole).astype("int32")


def _probabilities(e: Any, total: Any, rows: Any, length: Any) -> Callable[[Any, Any], Any]:
    """(512 e + total) div (2 total) by (row, column), for int32 sums below 2^30 and e < 2^15.

    It is (256 e + (total >> 1)) div total, at most 256. The float32 quotient is made smaller by 2^-20, which is more than
    its rounding errors and less than 1 of 256: its floor is the result or less by one, which the remainder shows.
    """
    less = tirx.const(1.0 - 2.0**-20, "float32")
    inverse = te.compute((rows,), lambda r: less / tirx.max(total[r], 1).astype("float32"), name="inverse")

    # a stage: the comparison would be taken apart into one with each operand of the maximum
    whole = te.compute((rows,), lambda r: tirx.max(total[r], 1), name="whole")

    def probability(r: Any, c: Any) -> Any:
        top = (e[r, c] << 8) + (total[r] >> 1)
        q = (top.astype("float32") * inverse[r]).astype("int32")
        return q + i32(top - q * whole[r] >= whole[r])

    return probability


def _softmax_lookup(builder: KernelBuilder, node: Node) -> View:
    length = _rows(builder, node)[1]
    narrow = isinstance(length, int) and length < 1 << 15
    e, total, rows, length = _exponentials(builder, node, _table(builder, node), _masked(builder, node, 2), narrow)
    share = _probabilities(e, total, rows, length) if narrow else lambda r, c: _rounded(e[r, c], total[r], 8)
    return _row_view(builder, node, lambda r, c: saturate(share(r, c), *result_limits(node), storage(node.output)))


def _shiftmax(builder: KernelBuilder, node: Node) -> View:
    attrs, mask, length = node.attrs, _masked(builder, node, 1), _rows(builder, node)[1]
    unit, bits = attrs["unit"], attrs["bits"]
    # e <= unit 2^bits: 32 bits where that fits
    narrow = unit << (bits + 1) < 1 << 31 and (bits + 1) * unit < 1 << 24
    if not narrow:
        raise UnsupportedError(f"{node.where()}: exponentials of unit {unit} and {bits} bits do not fit 32 bits")

    def exponential(d: Any) -> Any:
        value = shift_exp(tirx.const(0, "int32") - d, unit, bits)
        return value if mask is None and _filled(length) is length else tirx.Select(d < -FAR, value, tirx.const(0, "int32"))

    kind = storage(node.output)
    if attrs["division"] == "round":
        # e <= unit 2^bits; the sums and 512 e + sum stay below 2^31
        peak = unit << bits
        small = isinstance(length, int) and length * peak < 1 << 30 and 512 * peak + length * peak < 1 << 31
        e, total, rows, length = _exponentials(builder, node, exponential, mask, small)
        share = _probabilities(e, total, rows, length) if small else lambda r, c: _rounded(e[r, c], total[r], 8)
        return _row_view(builder, node, lambda r, c: saturate(share(r, c), *result_limits(node), kind))
    e, total, _, _ = _exponentials(builder, node, exponential, mask)
    top = const64((1 << 31) - 1)

    def element(r: Any, c: Any) -> Any:
        share = tirx.truncdiv(top, tirx.max(tirx.min(total[r], top), const64(1)))
        return saturate((i64(e[r, c]) * share) >> const64(24), *result_limits(node), kind)

    return _row_view(builder, node, element)


def _log2_softmax(builder: KernelBuilder, node: Node) -> View:
    e, total, rows, length = _exponentials(builder, node, _table(builder, node), _masked(builder, node, 2))
    p = te.compute((rows, length), lambda r, c: _rounded(e[r, c], total[r], 15), name="p")

    def power(r: Any, c: Any) -> Any:
        one, value = tirx.const(1, "int32"), p[r, c]
        k: Any = tirx.const(0, "int32")
        for bit in range(1, 16):
            k = k + i32(value >= (1 << bit))
        return k + tirx.Select(i64(value) * i64(value) >= (const64(1) << i64(k + k + one)), one, tirx.const(0, "int32"))

    k = te.compute((rows, length), power, name="k")

    def element(r: Any, c: Any) -> Any:
        one = tirx.const(1, "int32")
        value = one << tirx.max(k[r, c] - one, tirx.const(0, "int32"))
        return tirx.Select(p[r, c] < 2, tirx.const(0, "int32"), value).astype("int16")

    return _row_view(builder, node, element)


# -- norms


def _integer_norm(builder: KernelBuilder, node: Node) -> View:
    x, weight = operand(node, 0), operand(node, 1)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    attrs = node.attrs
    rows, length, point = _rows(builder, node)
    view, fraction, zero = builder.view(x), attrs["fraction"], zero_of(x)
    assert weight.data is not None and isinstance(length, int)

    info = np.iinfo(storage(x))
    # differences of codes, and of codes and their mean; products of two 32-bit numbers have an instruction
    narrow = (int(info.max) - int(info.min)) << (fraction + 1) < 1 << 31
    held, spread = ("int32", i32) if narrow else ("int64", i64)

    def wide(r: Any, c: Any) -> Any:
        return (spread(view.at(point(r, c))) - tirx.const(zero, held)) << tirx.const(fraction, held)

    doubled = whole64 if narrow else i64
    if node.op == "integer_layer_norm":
        short, plain = narrow and length * (int(info.max) - int(info.min)) << fraction < 1 << 31, wide
        total = _over_row(rows, length, te.sum, lambda r, c: plain(r, c) if short else i64(plain(r, c)), "total")

        def less_mean(r: Any, c: Any) -> Any:
            count = const64(2 * length)
            return plain(r, c) - tirx.floordiv(i64(total[r]) * const64(2) + const64(length), count).astype(held)

        centred = te.compute((rows, length), less_mean, name="centred")
    else:
        centred = te.compute((rows, length), wide, name="centred")
    squares = _over_row(rows, length, te.sum, lambda r, c: doubled(centred[r, c]) * doubled(centred[r, c]), "squares")
    # a number is at most the root of the squares: its product with the reciprocal has 40 bits, exact in float64
    unit = tirx.const(2.0 ** (NORMAL_BITS - RECIPROCAL_BITS), "float64")

    def inverse(r: Any) -> Any:
        root = floor_sqrt(squares[r] + const64(attrs["eps"]))
        return quotient(const64(1 << RECIPROCAL_BITS), root).astype("float64") * unit

    reciprocal = te.compute((rows,), inverse, name="reciprocal")
    # floor of a multiple of 2^-10: half a unit less half a step off, rounded to the nearest by a number whose last bit is 1;
    # its low word is the integer then, where the product of 32-bit numbers takes it
    below, whole = (tirx.const(v, "float64") for v in (0.5 - 2.0 ** (NORMAL_BITS - RECIPROCAL_BITS - 1), 1.5 * 2.0**52))
    gamma = builder.constant(weight.data.astype(np.int64))
    shift = attrs["shift"]
    half = const64(1 << (shift - 1))
    beta = None if bias is None or bias.data is None else builder.constant(bias.data + (np.int64(1) << (shift - 1)))

    def low_word(x: Any) -> Any:
        return (x << const64(32)) >> const64(32)

    def element(r: Any, c: Any) -> Any:
        t = tirx.reinterpret("int64", (centred[r, c].astype("float64") * reciprocal[r] - below) + whole)  # at most 2^30
        total = low_word(t) * low_word(gamma(c)) + (half if beta is None else beta(c))
        if shift >= 32:  # 32-bit lanes for what is left
            total, left = high_word_of(total), tirx.const(shift - 32, "int32")
        else:
            left = const64(shift)
        return saturate(total >> left, *result_limits(node), storage(node.output))

    return _row_view(builder, node, element)


# -- reductions


def _reduce(builder: KernelBuilder, node: Node) -> View:
    """Sums, means and extrema over axes; quantized sums are centred int32."""
    x, attrs, op = operand(node, 0), node.attrs, node.op
    rank = len(x.shape)
    axes = sorted(a % rank for a in attrs["axes"]) if attrs["axes"] else list(range(rank))
    symbols, view, zero, kind = builder.symbols, builder.view(x), zero_of(x), storage(x)
    reduced = [te.reduce_axis((0, symbols(x.shape[a])), f"k{a}") for a in axes]
    kept = [a for a in range(rank) if a not in axes]
    sizes = symbols.shape(x.shape)
    integer = x.quant is not None and op in ("reduce_sum", "reduce_mean")

    def element(*index: Any) -> Any:
        full: list[Any] = [None] * rank
        for a, i in zip(kept, index, strict=True):
            full[a] = i
        for a, k in zip(axes, reduced, strict=True):
            full[a] = k
        value = view(*full)
        if integer:
            return i32(value) - zero if zero else i32(value)
        return i32(value) if kind == "bool" else value

    joins = {
        "reduce_sum": te.sum, "reduce_mean": te.sum, "reduce_max": te.max, "reduce_min": te.min,
        "reduce_any": te.max, "reduce_all": te.min, "reduce_prod": _PRODUCT,
    }  # fmt: skip
    shape = tuple(sizes[a] for a in kept) or (1,)
    stage = te.compute(
        shape, lambda *index: joins[op](element(*(index if kept else ())), axis=reduced), name="reduced"
    )
    count = 1
    for a in axes:
        count = count * sizes[a]

    def at(point: Point) -> Any:
        index = [point.index[a] for a in kept] if attrs["keepdims"] else list(point.index)
        value = stage(*(index or [0]))
        if op == "reduce_mean" and not integer:
            return value / (tirx.const(count, "float32") if isinstance(count, int) else count.astype("float32"))
        return value.astype("bool") if kind == "bool" else value

    return View(node.output.shape, at)


_PRODUCT = te.comm_reducer(lambda a, b: a * b, lambda t: tirx.const(1, t), name="prod")

STAGES: dict[str, MakeStages] = {
    "softmax_lookup": _softmax_lookup,
    "shiftmax": _shiftmax,
    "log2_softmax": _log2_softmax,
    "integer_layer_norm": _integer_norm,
    "integer_rms_norm": _integer_norm,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    **dict.fromkeys(
        ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_any", "reduce_all", "reduce_prod"), _reduce
    ),
}
