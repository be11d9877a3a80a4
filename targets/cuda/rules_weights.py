"""Linear layers of real operands with weights in codes: `weight_only_linear` and `dynamic_linear`."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import Node, QuantParams
from qcompiler.kernels.gpu import dynamic, pointwise, real, weight_only
from qcompiler.kernels.gpu.launch import Buffer, View, ceil_div, in_order
from qcompiler.targets.cuda.lower import Lowering, NoKernel, Rule, known_shape
from qcompiler.targets.cuda.rules_real import fixed, rows_of


def _operands(low: Lowering, node: Node) -> tuple[View, np.ndarray, QuantParams, np.ndarray | None, View, View]:
    """Rows of x, codes [N, K] with their parameters, bias, the result, and its rows."""
    x, w, bias = node.inputs
    assert x is not None and w is not None and w.quant is not None
    if w.data is None:
        raise NoKernel("its weights are computed")
    if x.dtype.name != "float32":
        raise NoKernel(f"an operand of {x.dtype.name}; of float32 there is a kernel")
    if w.dtype.bits > 8:
        raise NoKernel(f"{w.dtype.name} weights; of up to 8 bits there is a kernel")
    n, k = known_shape(w)
    y = low.new(node.output)
    out = y.reshape((y.count // max(n, 1), n))
    assert out is not None
    return rows_of(low, x, k, node), w.data.astype(np.int64), w.quant, fixed(low, bias, "bias"), y, out


def _signed(codes: np.ndarray, quant: QuantParams) -> tuple[np.ndarray, np.ndarray, int]:
    """Codes and zero points as signed ones of 4 or 8 bits, and which."""
    bits = 4 if quant.dtype.bits <= 4 else 8
    shift = 1 << (bits - 1) if quant.dtype.min == 0 else 0
    return codes - shift, quant.zero_point - shift, bits


def _weight_only(low: Lowering, node: Node) -> None:
    x, raw, quant, bias, y, out = _operands(low, node)
    codes, zero, bits = _signed(raw, quant)
    name = low.fresh(node.origin.module or "linear")
    group = quant.group_size or ceil_div(codes.shape[1], 16) * 16
    x, codes, group = _spread(low, node, name, x, codes, group, 16)
    scales, zeros = (_by_group(v, len(codes), quant) for v in (quant.scale, zero))
    weights = weight_only.pack_weights(name, codes, scales, zeros, group, bits)
    if weights.padded_k != x.shape[1]:
        x = _padded(low, node, f"{name}.padded", x, (x.shape[0], weights.padded_k))
    half = _buffer(f"{name}.half", np.float16, x.shape[0], weights.padded_k)
    low.add(real.pointwise("cast", [(x, 0)], half), [node], None, half)
    low.add(weight_only.linear(half, weights, bias, out), [node], node.output, y)


def _dynamic(low: Lowering, node: Node) -> None:
    x, raw, quant, bias, y, out = _operands(low, node)
    codes, zero, bits = _signed(raw, quant)
    name = low.fresh(node.origin.module or "linear")
    group = quant.group_size
    if group is not None:
        x, codes, group = _spread(low, node, name, x, codes, group, 32)
    weights = dynamic.pack_weights(name, codes, quant.scale, group, bits, zero)
    *first, last = dynamic.linear(name, x, weights, bias, out, node.attrs["granularity"], node.attrs["bits"] // 8)
    for launch in first:
        low.add(launch, [node], None, x)
    low.add(last, [node], node.output, y)


def _spread(
    low: Lowering, node: Node, name: str, x: View, codes: np.ndarray, group: int, step: int
) -> tuple[View, np.ndarray, int]:
    """Operand, weights and size of groups with every group padded to a multiple of `step`; a padded operand is 0."""
    (m, k), wide = x.shape, ceil_div(group, step) * step
    count = ceil_div(k, group)
    if wide == group:
        return x, codes, group
    if k % group:
        x = _padded(low, node, f"{name}.whole", x, (m, count * group))
    parts = x.reshape((m, count, group))
    assert parts is not None
    spread = np.zeros((len(codes), count * group), codes.dtype)
    spread[:, :k] = codes
    spread = np.pad(spread.reshape(-1, count, group), [(0, 0), (0, 0), (0, wide - group)]).reshape(len(codes), -1)
    flat = _padded(low, node, f"{name}.groups", parts, (m, count, wide)).reshape((m, count * wide))
    assert flat is not None
    return flat, spread, wide


def _padded(low: Lowering, node: Node, name: str, x: View, shape: tuple[int, ...]) -> View:
    """A copy with zeros behind every axis."""
    wide = _buffer(name, np.float32, *shape)
    low.add(pointwise.pad(x, (0,) * len(shape), 0, wide), [node], None, wide)
    return wide


def _by_group(array: np.ndarray, n: int, quant: QuantParams) -> np.ndarray:
    """[N, groups] of parameters per tensor, per channel or in groups."""
    if quant.group_size is not None:
        return np.broadcast_to(array, quant.scale.shape)
    return np.broadcast_to(np.atleast_1d(array).reshape(-1, 1), (n, 1))


def _buffer(name: str, dtype: type, *shape: int) -> View:
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    return in_order(Buffer(name, size), np.dtype(dtype), shape)


RULES: dict[str, Rule] = {"weight_only_linear": _weight_only, "dynamic_linear": _dynamic}
