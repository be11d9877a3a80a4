"""Softmax, norms, products of two activations, constants."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import Node, Value
from qcompiler.targets.fpga_hls.legalize import Legalizer, NoStream, Rule, Stream, known_shape
from qcompiler.targets.fpga_hls.row_units import Constant, Mixture, Normalize, Scores, Softmax
from qcompiler.targets.fpga_hls.rules_products import first, weight_bits, zero_point
from qcompiler.targets.fpga_hls.stream import Scaling
from qcompiler.targets.fpga_hls.units import Depthwise


def constant_stream(low: Legalizer, node: Node, value: Value, like: Stream, shape: tuple[int, ...]) -> Stream:
    """A constant operand that flows beside a stream, in its order."""
    if value.data is None:
        raise NoStream("its operand is no constant")
    data = np.broadcast_to(value.data, shape).astype(np.int64).ravel()[like.positions].reshape(-1, like.channels)
    unit = Constant(low.name(node, "constant"), node.origin.module, data, value.dtype.bits, value.dtype.is_signed)
    made = low.add(unit, [])
    return Stream(made.source, made.port, like.positions, made.vectors, made.channels)


def _rows(low: Legalizer, node: Node) -> tuple[Value, Stream]:
    """An operand that arrives row after row of its last axis, each in order."""
    x = first(node)
    shape, stream = known_shape(x), low.stream(x)
    rows = stream.positions.reshape(-1, shape[-1])
    if (rows - rows[:, :1] != np.arange(shape[-1])).any() or (rows[:, 0] % shape[-1]).any():
        raise NoStream("its operand does not arrive row after row")
    return x, stream


def _common(low: Legalizer, node: Node, hint: str) -> tuple[Stream, dict[str, object]]:
    x, stream = _rows(low, node)
    quant, length = node.attrs["quant"], known_shape(x)[-1]
    fields = {
        "name": low.name(node, hint), "module": node.origin.module, "vectors": stream.positions.size // length, "channels": length,
        "act_bits": x.dtype.bits, "act_signed": x.dtype.is_signed, "bits": quant.dtype.bits, "signed": quant.dtype.is_signed,
        "zero_point": int(quant.zero_point),
    }  # fmt: skip
    return stream, fields


def _softmax(low: Legalizer, node: Node) -> None:
    mask = node.inputs[-1]
    if mask is not None:
        raise NoStream("it has a mask")
    if node.op == "shiftmax" and node.attrs["division"] != "round":
        raise NoStream(f"its division is {node.attrs['division']}; units round")
    table = node.inputs[1] if node.op == "softmax_lookup" else None
    if node.op == "softmax_lookup" and (table is None or table.data is None):
        raise NoStream("its table is computed")
    stream, fields = _common(low, node, "softmax")
    unit = Softmax(
        **fields,  # type: ignore[arg-type]
        table=None if table is None or table.data is None else table.data.astype(np.int64),
        unit=int(node.attrs.get("unit", 1)), exponent_bits=int(node.attrs.get("bits", 1)),
    )  # fmt: skip
    low.add(unit, [stream], (node,), stream.positions)


def _norm(low: Legalizer, node: Node) -> None:
    centred = node.op == "integer_layer_norm"
    weight, bias = node.inputs[1], node.inputs[2] if centred else None
    if weight is None or weight.data is None or (bias is not None and bias.data is None):
        raise NoStream("its factors are computed")
    stream, fields = _common(low, node, "norm")
    length = int(fields["channels"])  # type: ignore[call-overload]
    offset = np.zeros(length, np.int64) if bias is None or bias.data is None else bias.data.astype(np.int64)
    unit = Normalize(
        **fields, zero_point_in=zero_point(first(node)), centred=centred, fraction=int(node.attrs["fraction"]),  # type: ignore[arg-type]
        eps=int(node.attrs["eps"]), shift=int(node.attrs["shift"]), weight=weight.data.astype(np.int64), bias=offset,
    )  # fmt: skip
    low.add(unit, [stream], (node,), stream.positions)


def matmul(low: Legalizer, node: Node, rescale: Node, scaling: Scaling) -> None:
    """Both products of attention, heads side by side in a token."""
    a, b = node.operands
    if scaling.multiplier.size != 1:
        raise NoStream("it has a factor per channel")
    *lead, tokens, inner = known_shape(a)
    outer = known_shape(b)[-1]
    heads = int(np.prod(lead))
    if list(known_shape(b)[:-2]) != lead:
        raise NoStream(f"{list(a.shape)} and {list(b.shape)} are broadcast")
    streams = [low.stream(v) for v in (a, b)]
    if not np.array_equal(streams[0].positions, _by_token(heads, tokens, inner)):
        raise NoStream("its first operand does not arrive token by token, head by head")
    operands = tuple((v.dtype.bits, v.dtype.is_signed) for v in (a, b))
    zeros = (zero_point(a), zero_point(b))
    by_column = np.arange(heads * inner * outer).reshape(heads, inner, outer).transpose(2, 0, 1).ravel()
    if np.array_equal(streams[1].positions, by_column):
        kind, stored, width = Scores, outer, inner
    elif np.array_equal(streams[1].positions, _by_token(heads, inner, outer)):
        kind, stored, width = Mixture, inner, outer
    else:
        raise NoStream("its second operand does not arrive token by token")
    unit = kind(
        low.name(node), node.origin.module, tokens, stored, heads, width, zeros, operands, scaling,  # type: ignore[arg-type]
        low.acc_bits(node.output),
    )  # fmt: skip
    low.add(unit, streams, (node, rescale), _by_token(heads, tokens, outer))


def _by_token(heads: int, tokens: int, width: int) -> np.ndarray:
    """Positions of [heads, tokens, width] where every token has its heads side by side."""
    return np.arange(heads * tokens * width).reshape(heads, tokens, width).transpose(1, 0, 2).ravel()


def scale(low: Legalizer, node: Node, rescale: Node, scaling: Scaling) -> None:
    """A product with a constant per channel: depthwise filters of one tap."""
    a, b = node.operands
    if a.is_const:
        a, b = b, a
    if b.data is None:
        raise NoStream("both its operands are computed")
    shape, stream = known_shape(a), low.stream(a)
    if known_shape(rescale.output) != shape or scaling.multiplier.size != 1:
        raise NoStream("its operands are broadcast, or it has a factor per channel")
    data = np.broadcast_to(b.data.astype(np.int64) - zero_point(b), shape).ravel()[stream.positions].reshape(-1, stream.channels)
    if (data != data[0]).any():
        raise NoStream("its constant differs from vector to vector")
    weights = data[0][:, None]
    bits = low.acc_bits(node.output)
    half = 1 << (bits - 1)
    bias = ((-zero_point(a) * weights[:, 0] + half) & ((1 << bits) - 1)) - half
    unit = Depthwise(
        low.name(node, "scale"), node.origin.module, weights, bias, scaling, len(data), weight_bits(weights, b), a.dtype.bits,
        a.dtype.is_signed, bits,
    )  # fmt: skip
    low.add(unit, [stream], (node, rescale), stream.positions)


RULES: dict[str, Rule] = {
    "softmax_lookup": _softmax,
    "shiftmax": _softmax,
    "integer_layer_norm": _norm,
    "integer_rms_norm": _norm,
}
