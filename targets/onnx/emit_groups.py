"""Linear layers whose weights are codes in groups: weight_only_linear, and dynamic_linear with such weights.

Runtime form: com.microsoft MatMulNBits. Its accuracy_level says what it computes with: 1 is float32 (weight-only), 4
quantizes the operand to int8 per row and block (max|x| / 127, symmetric), which is dynamic_linear with granularity
`group`. Always written down: left to the runtime, the level depends on the machine. An operand of 16 bits is given as
two rows, what its codes stand for and what is left: one pass over the weights, and faster than real numbers where
these would be what takes time (one token, AVX2: 0.3 to 0.4 of level 1).

Portable form: DequantizeLinear with block_size, MatMul; the operand of dynamic_linear goes through QuantizeLinear and
DequantizeLinear with scales computed before. Codes of up to 4 bits are stored in 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from qcompiler.ir import DType, Graph, Node, QuantParams, Shape, Value, constant
from qcompiler.ir.dims import same

from .emit_elementwise import Rule
from .emit_movement import reshape
from .emitter import Emitter
from .quantized_common import quant_of, scale_name

FLOAT32, INT8_BLOCKS = 1, 4
"""Values of accuracy_level."""

BLOCKS = (256, 128, 64, 32, 16)
"""Block sizes of MatMulNBits, for weights with a scale per channel: any that divides will do."""


def _operands(node: Node) -> tuple[Value, Value, Value | None]:
    x, w, bias = node.inputs
    assert x is not None and w is not None and w.data is not None
    return x, w, bias


def _kinds(x: str, w: Value) -> str:
    return f"{x} x {w.dtype.name}"


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned codes [..., n] of `bits` (2, 4, 8) packed into bytes along the last axis, the first in the low bits."""
    per_byte = 8 // bits
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % per_byte)])
    parts = padded.reshape(*padded.shape[:-1], -1, per_byte).astype(np.uint16)
    packed = (parts << (np.arange(per_byte, dtype=np.uint16) * bits)).sum(-1)
    return np.asarray(packed, np.uint8)


def container(dtype: DType) -> int:
    """Bits that MatMulNBits stores a code in."""
    return next(bits for bits in (2, 4, 8) if dtype.bits <= bits)


def _block_size(quant: QuantParams, channels: int) -> int:
    if quant.group_size is not None:
        return quant.group_size
    return next((size for size in BLOCKS if channels % size == 0), BLOCKS[-1])


def _by_block(values: np.ndarray, quant: QuantParams, rows: int, blocks: int) -> np.ndarray:
    """Scales or zero points as [rows, blocks]."""
    if quant.group_size is not None and values.ndim == 2:
        return values
    return np.broadcast_to(values.reshape(-1, 1), (rows, blocks))


def matmul_nbits(e: Emitter, x: str | Value, w: Value, bias: Value | None, accuracy_level: int) -> str:
    """One MatMulNBits node."""
    assert w.data is not None
    quant, (rows, channels), bits = quant_of(w), w.data.shape, container(w.dtype)
    size = _block_size(quant, channels)
    blocks = -(-channels // size)
    middle = 1 << (bits - 1)
    offset = middle if w.dtype.is_signed else 0
    codes = (w.data.astype(np.int16) + offset).astype(np.uint8)
    zeros = _by_block(quant.zero_point, quant, rows, blocks) + offset
    # Columns beyond the last channel meet operands of 0.
    codes = np.pad(codes, [(0, 0), (0, blocks * size - channels)]).reshape(rows, blocks, size)
    zero_points = None if (zeros == middle).all() else e.const(pack(zeros.astype(np.uint8), bits), hint="zero_points")
    return str(
        e.ms(
            "MatMulNBits", x, e.weight(w, f"bits{bits}", pack(codes, bits)),
            scale_name(e, _by_block(quant.scale, quant, rows, blocks)), zero_points, None, bias,
            K=channels, N=rows, bits=bits, block_size=size, accuracy_level=accuracy_level,
        )
    )  # fmt: skip


def groups_runtime(e: Emitter, node: Node) -> str:
    """weight_only_linear, and dynamic_linear with weights in groups."""
    _, w, bias = _operands(node)
    return _groups_product(e, node, w, bias)


def _groups_product(e: Emitter, node: Node, w: Value, bias: Value | None) -> str:
    """The node's operand times w, which may be more than the node's own."""
    x, own, _ = _operands(node)
    if node.op == "weight_only_linear":
        e.row(node, "MatMulNBits", _kinds("float32", own))
        return matmul_nbits(e, x, w, bias, FLOAT32)
    if node.attrs["bits"] == 16:
        e.row(node, "MatMulNBits", _kinds("int16", own), "two rows of int8")
        return _sum_of_rows(e, matmul_nbits(e, _two_rows(e, x, w), w, None, INT8_BLOCKS), x, w, bias)
    if node.attrs["granularity"] == "group":
        e.row(node, "MatMulNBits", _kinds("int8", own))
        return matmul_nbits(e, x, w, bias, INT8_BLOCKS)
    e.row(node, "MatMulNBits", _kinds("int8", own), "one range per token: quantized and dequantized before the kernel")
    return matmul_nbits(e, _rounded(e, x, x.shape, None), w, bias, FLOAT32)


def plan_stacks(graph: Graph) -> dict[Node, tuple[Node, ...]]:
    """Layers without bias that read one value, with groups of one kind: one product for all. Keyed by each of them."""
    found: dict[Any, list[Node]] = {}
    for node in graph.nodes:
        if node.op not in ("weight_only_linear", "dynamic_linear"):
            continue
        x, w, bias = _operands(node)
        quant = quant_of(w)
        if bias is None and quant.group_size is not None:
            kind = (x, node.op, tuple(sorted(node.attrs.items())), w.dtype, quant.group_size)
            found.setdefault(kind, []).append(node)
    return {node: tuple(nodes) for nodes in found.values() if len(nodes) > 1 for node in nodes}


def emit_stack(e: Emitter, nodes: Sequence[Node]) -> list[str]:
    """One product, split into the results of the nodes."""
    weights = [_operands(node)[1] for node in nodes]
    quants = [quant_of(w) for w in weights]
    first = quants[0]
    scale, zero = (np.concatenate(parts) for parts in zip(*((q.scale, q.zero_point) for q in quants), strict=True))
    codes = np.concatenate([w.data for w in weights if w.data is not None])
    quant = QuantParams(first.dtype, scale, zero, first.axis, first.group_size)
    y = _groups_product(e, nodes[0], constant(codes, quant=quant, name=f"{weights[0].name}.stack"), None)
    for node, w in zip(nodes[1:], weights[1:], strict=True):
        e.row(node, "MatMulNBits", e.rows[-1].dtype.replace(first.dtype.name, w.dtype.name), "one product with others of its operand")
    sizes = e.ints([len(w.data) for w in weights if w.data is not None])
    return list(e.op("Split", y, sizes, count=len(nodes), axis=-1))


def real_weight(e: Emitter, w: Value) -> str:
    """[K, N] dequantized from codes stored in 4 or 8 bits.

    Dequantized in blocks as [N, K] (one block per row where there are no groups), and transposed: ONNX Runtime turns a
    product with a weight dequantized as [K, N], or per channel, into MatMulNBits of accuracy level 4, which rounds the
    operand to int8, unasked.
    """
    assert w.data is not None
    quant = quant_of(w)
    narrow = w.dtype.bits <= 4
    kind = (ml_dtypes.int4 if w.dtype.is_signed else ml_dtypes.uint4) if narrow else w.dtype.numpy
    codes = e.weight(w, np.dtype(kind).name, w.data.astype(kind))
    rows, size = w.data.shape[0], quant.group_size or w.data.shape[1]
    scale, zeros = (_by_block(a, quant, rows, -(-w.data.shape[1] // size)) for a in (quant.scale, quant.zero_point))
    zero = e.const(zeros.astype(kind), hint="zero_point")
    real = e.op("DequantizeLinear", codes, scale_name(e, scale), zero, axis=1, block_size=size)
    return str(e.op("Transpose", real, perm=[1, 0]))


def _two_rows(e: Emitter, x: Value, w: Value) -> str:
    """[2, ..., K] (x [1, ..., K]: [2, ..., K] too): x as its codes stand for, and the rest; made once for all that read x."""
    size = quant_of(w).group_size
    key = (x, "two rows", size)
    if key not in e.cache:
        assert size is not None
        outer = _outer(x)
        parts = (1, *outer, x.shape[-1] // size, size)
        real = reshape(e, x, x.shape, parts)
        peak = e.op("ReduceMax", e.op("Abs", real), e.ints([-1]), keepdims=1)
        scale = e.op("Max", e.op("Div", peak, e.scalar(127)), e.scalar(np.finfo(np.float32).tiny))
        first = e.op("Mul", e.op("Round", e.op("Div", real, scale)), scale)
        both = e.op("Concat", first, e.op("Sub", real, first), axis=0)
        e.cache[key] = reshape(e, both, (2, *parts[1:]), (2, *outer, x.shape[-1]))
    return e.cache[key]


def _outer(x: Value) -> Shape:
    """All axes but the last, and but a first one of size 1, whose place the two rows take."""
    return x.shape[1:-1] if len(x.shape) > 1 and same(x.shape[0], 1) else x.shape[:-1]


def _sum_of_rows(e: Emitter, both: str, x: Value, w: Value, bias: Value | None) -> str:
    """Both terms and the bias. Split and Add take a quarter of the time of ReduceSum over two rows."""
    y = e.op("Add", *e.op("Split", both, count=2, axis=0, num_outputs=2))
    if bias is not None:
        y = e.op("Add", y, bias)
    before, after = (1, *_outer(x), w.shape[0]), (*x.shape[:-1], w.shape[0])
    return str(y) if len(before) == len(after) else reshape(e, y, before, after)


def _rounded(e: Emitter, x: str | Value, shape: Shape, group_size: int | None) -> str:
    """X as its codes stand for: symmetric per row, or per row and group."""
    rows: str | Value = x
    if group_size is not None:
        rows = reshape(e, x, shape, (*shape[:-1], shape[-1] // group_size, group_size))
    peak = e.op("ReduceMax", e.op("Abs", rows), e.ints([-1]), keepdims=1)
    scale = e.op("Where", e.op("Equal", peak, e.scalar(0)), e.scalar(1), e.op("Div", peak, e.scalar(127)))
    one, zero = e.scalar(1), e.const(128, np.uint8, "zero_point")
    codes = e.op("QuantizeLinear", e.op("Div", rows, scale), one, zero)
    real = e.op("Mul", e.op("DequantizeLinear", codes, one, zero), scale)
    if group_size is None:
        return str(real)
    return reshape(e, real, (*shape[:-1], shape[-1] // group_size, group_size), shape)


def _product(e: Emitter, x: str | Value, w: Value, bias: Value | None) -> str:
    y = e.op("MatMul", x, real_weight(e, w))
    return str(y if bias is None else e.op("Add", y, bias))


def _weight_only_portable(e: Emitter, node: Node) -> str:
    x, w, bias = _operands(node)
    e.row(node, "DequantizeLinear + MatMul", _kinds("float32", w))
    return _product(e, x, w, bias)


def dynamic_groups_portable(e: Emitter, node: Node) -> str:
    """dynamic_linear with weights in groups."""
    x, w, bias = _operands(node)
    size = quant_of(w).group_size if node.attrs["granularity"] == "group" else None
    rounded = _rounded(e, x, x.shape, size)
    if node.attrs["bits"] == 16:
        rounded = e.op("Add", rounded, _rounded(e, e.op("Sub", x, rounded), x.shape, size))
    e.row(node, "DequantizeLinear + MatMul", _kinds("uint8" if node.attrs["bits"] == 8 else "int16", w))
    return _product(e, rounded, w, bias)


RUNTIME: dict[str, Rule] = {"weight_only_linear": groups_runtime}
PORTABLE: dict[str, Rule] = {"weight_only_linear": _weight_only_portable}
