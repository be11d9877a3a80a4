"""ONNX forms of data movement, creation and reductions. Movement works on codes as on real numbers."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, Node, Shape, Value
from qcompiler.ir.dims import is_symbolic, same

from .emit_elementwise import Rule
from .emitter import ELEM_TYPES, Emitter

INT64_MIN = -(1 << 63)
# A `full` of more elements than this is computed at run time rather than stored.
LARGEST_STORED_FILL = 4096


def _reshape_target(e: Emitter, x: Shape, target: Shape) -> str:
    """The shape operand of Reshape: 0 copies the dimension at the same place, one -1 is inferred."""
    if not any(is_symbolic(d) for d in target):
        return e.ints([int(d) for d in target])
    entries: list[int | None] = []
    for axis, dim in enumerate(target):
        if is_symbolic(dim):
            entries.append(0 if axis < len(x) and same(dim, x[axis]) else None)
        else:
            entries.append(int(dim))
    empty = any(not is_symbolic(d) and int(d) == 0 for d in target)
    if entries.count(None) <= 1 and not empty:
        return e.ints([-1 if n is None else n for n in entries])
    return e.shape(target)


def reshape(e: Emitter, x: str | Value, before: Shape, after: Shape) -> str:
    """`Reshape` of a tensor of a (possibly symbolic) shape to another."""
    empty = any(not is_symbolic(d) and int(d) == 0 for d in after)
    return str(e.op("Reshape", x, _reshape_target(e, before, after), allowzero=1 if empty else None))


def _reshape(e: Emitter, node: Node) -> str:
    (x,) = node.operands
    return reshape(e, x, x.shape, node.attrs["shape"])


def _transpose(e: Emitter, node: Node) -> str:
    return str(e.op("Transpose", node.operands[0], perm=list(node.attrs["perm"])))


def _expand(e: Emitter, node: Node) -> str:
    return str(e.op("Expand", node.operands[0], e.shape(node.attrs["shape"])))


def _slice(e: Emitter, node: Node) -> str:
    (x,) = node.operands
    a = node.attrs
    start, stop = (e.dims.one(a[k]) for k in ("start", "stop"))
    steps = None if a["step"] == 1 else e.ints([a["step"]])
    return str(e.op("Slice", x, start, stop, e.ints([a["axis"] % len(x.shape)]), steps))


def _concat(e: Emitter, node: Node) -> str:
    return str(e.op("Concat", *node.operands, axis=node.attrs["axis"]))


def _pad(e: Emitter, node: Node) -> str:
    (x,) = node.operands
    a = node.attrs
    fill = None
    if a["mode"] == "constant":
        code = x.quant.quantize(np.float32(a["value"])) if x.quant is not None else a["value"]
        fill = np.asarray(code)
    # ONNX Runtime has no kernel for 16 bits.
    kind = DType.int32 if x.dtype.is_integer and x.dtype.bits == 16 else x.dtype
    y = e.op(
        "Pad", x if kind is x.dtype else e.cast(x, kind), e.ints(a["pads"]),
        None if fill is None else e.const(fill.astype(kind.numpy)), mode=a["mode"],
    )  # fmt: skip
    return str(y) if kind is x.dtype else e.cast(y, x.dtype)


def _gather(e: Emitter, node: Node) -> str:
    data, indices = node.operands
    where = e.name(indices) if indices.dtype in (DType.int32, DType.int64) else e.cast(indices, DType.int64)
    return str(e.op("Gather", data, where, axis=node.attrs["axis"]))


def _gather_elements(e: Emitter, node: Node) -> str:
    data, indices = node.operands
    where = e.name(indices) if indices.dtype in (DType.int32, DType.int64) else e.cast(indices, DType.int64)
    return str(e.op("GatherElements", data, where, axis=node.attrs["axis"]))


def _gather_nd(e: Emitter, node: Node) -> str:
    return str(e.op("GatherND", *node.operands))


def _scatter_nd(e: Emitter, node: Node) -> str:
    return str(e.op("ScatterND", *node.operands, reduction="add" if node.attrs["accumulate"] else "none"))


def _topk(e: Emitter, node: Node) -> tuple[str, str]:
    (x,) = node.operands
    via = x.dtype if x.dtype in _REAL else DType.float32 if x.dtype.is_float else DType.int64
    source = e.name(x) if via is x.dtype else e.cast(x, via)
    attrs = {"axis": node.attrs["axis"], "largest": int(node.attrs["largest"]), "sorted": 1}
    values, indices = e.op("TopK", source, e.ints([node.attrs["k"]]), count=2, **attrs)
    return values if via is x.dtype else e.cast(values, x.dtype), indices


def _flip(e: Emitter, node: Node) -> str:
    axes = list(node.attrs["axes"])
    if not axes:
        return str(e.op("Identity", node.operands[0]))
    n = len(axes)
    return str(e.op("Slice", node.operands[0], e.ints([-1] * n), e.ints([INT64_MIN] * n), e.ints(axes), e.ints([-1] * n)))


def _tri(e: Emitter, node: Node) -> str:
    (x,) = node.operands
    via = x.dtype if x.dtype in (DType.float32, DType.float64, DType.int64, DType.bool) else DType.int64
    via = DType.float32 if x.dtype.is_float and via is DType.int64 else via
    source = e.name(x) if via is x.dtype else e.cast(x, via)
    y = e.op("Trilu", source, e.const(np.asarray(node.attrs["diagonal"], np.int64)), upper=int(node.attrs["upper"]))
    return str(y) if via is x.dtype else e.cast(y, x.dtype)


def _arange(e: Emitter, node: Node) -> str:
    a = node.attrs
    if not is_symbolic(a["start"]) and not is_symbolic(a["stop"]):
        return e.const(np.arange(a["start"], a["stop"], a["step"]).astype(a["dtype"].numpy))
    y = e.op("Range", e.dims.scalar(a["start"]), e.dims.scalar(a["stop"]), e.dims.scalar(a["step"]))
    return str(y) if a["dtype"] is DType.int64 else e.cast(y, a["dtype"])


def _full(e: Emitter, node: Node) -> str:
    shape, dtype = node.attrs["shape"], node.attrs["dtype"]
    value = np.asarray(node.attrs["value"]).astype(dtype.numpy)
    static = not any(is_symbolic(d) for d in shape)
    if static and int(np.prod(shape, dtype=np.int64)) <= LARGEST_STORED_FILL:
        return e.const(np.full(shape, value))
    from onnx import numpy_helper

    return str(e.op("ConstantOfShape", e.shape(shape), value=numpy_helper.from_array(value.reshape(1))))


def _dim(e: Emitter, node: Node) -> str:
    name = e.dims.scalar(node.attrs["value"])
    return name if node.attrs["dtype"] is DType.int64 else e.cast(name, node.attrs["dtype"])


def _reduce(op_type: str, native: tuple[DType, ...]) -> Rule:
    def rule(e: Emitter, node: Node) -> str:
        (x,) = node.operands
        axes = e.ints(node.attrs["axes"]) if node.attrs["axes"] else None
        keep = int(node.attrs["keepdims"])
        if x.dtype in native:
            return str(e.op(op_type, x, axes, keepdims=keep))
        via = DType.float32 if x.dtype.is_float else DType.int64
        return e.cast(e.op(op_type, e.cast(x, via), axes, keepdims=keep), x.dtype)

    return rule


def _reduce_bool(op_type: str) -> Rule:
    """Any = max, all = min, over 0 and 1."""

    def rule(e: Emitter, node: Node) -> str:
        (x,) = node.operands
        truth = e.name(x) if x.dtype is DType.bool else e.cast(x, DType.bool)
        axes = e.ints(node.attrs["axes"]) if node.attrs["axes"] else None
        return e.cast(e.op(op_type, e.cast(truth, DType.int32), axes, keepdims=int(node.attrs["keepdims"])), x.dtype)

    return rule


def _arg(op_type: str) -> Rule:
    def rule(e: Emitter, node: Node) -> str:
        (x,) = node.operands
        known = (DType.float32, DType.float64, DType.int8, DType.uint8, DType.int32)
        source = e.name(x) if x.dtype in known else e.cast(x, DType.float64)
        return str(e.op(op_type, source, axis=node.attrs["axis"], keepdims=int(node.attrs["keepdims"])))

    return rule


def _cumsum(e: Emitter, node: Node) -> str:
    (x,) = node.operands
    axis = e.const(np.asarray(node.attrs["axis"], np.int64))
    if x.dtype in (DType.float32, DType.float64, DType.int32, DType.int64):
        return str(e.op("CumSum", x, axis))
    via = DType.float32 if x.dtype.is_float else DType.int64
    return e.cast(e.op("CumSum", e.cast(x, via), axis), x.dtype)


_REAL = (DType.float32, DType.float64, DType.int32, DType.int64)

RULES: dict[str, Rule] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _expand,
    "slice": _slice,
    "concat": _concat,
    "pad": _pad,
    "gather": _gather,
    "gather_elements": _gather_elements,
    "gather_nd": _gather_nd,
    "scatter_nd": _scatter_nd,
    "topk": _topk,
    "flip": _flip,
    "tri": _tri,
    "arange": _arange,
    "full": _full,
    "dim": _dim,
    "reduce_sum": _reduce("ReduceSum", _REAL),
    "reduce_mean": _reduce("ReduceMean", (DType.float32, DType.float64)),
    "reduce_max": _reduce("ReduceMax", (*_REAL, DType.int8, DType.uint8)),
    "reduce_min": _reduce("ReduceMin", (*_REAL, DType.int8, DType.uint8)),
    "reduce_prod": _reduce("ReduceProd", (DType.float32, DType.int32, DType.int64)),
    "reduce_any": _reduce_bool("ReduceMax"),
    "reduce_all": _reduce_bool("ReduceMin"),
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "cumsum": _cumsum,
}

__all__ = ["ELEM_TYPES", "RULES", "reshape"]
