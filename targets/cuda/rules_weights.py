"""Linear layers of real operands with weights in codes: `weight_only_linear` and `dynamic_linear`."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import Node, QuantParams
from qcompiler.kernels.gpu import dynamic, pointwise, real, weight_only
from qcompiler.kernels.gpu.launch import Buffer, View, in_order
from qcompiler.targets.cuda.lower import Lowering, NoKernel, Rule, known_shape
from qcompiler.targets.cuda.rules_real import fixed, rows_of

SMALLEST, LARGEST = 2.0**-14, 65504.0
"""Of float16 without loss of digits."""


def _operands(low: Lowering, node: Node) -> tuple[View, np.ndarray, QuantParams, np.ndarray | None, View, View]:
    """Rows of x, codes [N, K] with their parameters, bias, the result, and its rows."""
    x, w, bias = node.inputs
    assert x is not None and w is not None and w.quant is not None
    if w.data is None:
        raise NoKernel("its weights are computed")
    if x.dtype.name != "float32":
        raise NoKernel(f"an operand of {x.dtype.name}; of float32 there is a kernel")
    n, k = known_shape(w)
    y = low.new(node.output)
    out = y.reshape((y.count // max(n, 1), n))
    assert out is not None
    return rows_of(low, x, k, node), w.data.astype(np.int64), w.quant, fixed(low, bias, "bias"), y, out


def _weight_only(low: Lowering, node: Node) -> None:
    x, codes, quant, bias, y, out = _operands(low, node)
    n, k = codes.shape
    group = quant.group_size or -(-k // 16) * 16
    if quant.dtype.bits > 4 or group % 16:
        raise NoKernel(f"{quant.dtype.name} weights in groups of {group}; up to 4 bits in groups of a multiple of 16 have a kernel")
    scale, zero = (_by_group(v, n, quant) for v in (quant.scale, quant.zero_point))
    if ((np.abs(scale) < SMALLEST) | (np.abs(scale) > LARGEST)).any():
        raise NoKernel(f"scales of its weights lie outside float16, {SMALLEST:.3g} to {LARGEST:g}")
    shift = 8 if quant.dtype.min == 0 else 0
    name = low.fresh(node.origin.module or "linear")
    weights = weight_only.pack_weights(name, codes - shift, scale, zero - shift, group)
    if weights.padded_k != k:
        wide = _buffer(f"{name}.padded", np.float32, x.shape[0], weights.padded_k)
        low.add(pointwise.pad(x, (0, 0), 0, wide), [node], None, wide)
        x = wide
    half = _buffer(f"{name}.half", np.float16, x.shape[0], weights.padded_k)
    low.add(real.pointwise("cast", [(x, 0)], half), [node], None, half)
    low.add(weight_only.linear(half, weights, bias, out), [node], node.output, y)


def _dynamic(low: Lowering, node: Node) -> None:
    x, codes, quant, bias, y, out = _operands(low, node)
    if node.attrs["bits"] != 8:
        raise NoKernel("operands of 16 bits in two terms; of 8 bits there is a kernel")
    if not quant.symmetric or quant.dtype.min == 0 or quant.dtype.bits > 8:
        raise NoKernel(f"{quant.dtype.name} weights with zero points; symmetric signed ones have a kernel")
    if (quant.group_size or 32) % 32:
        raise NoKernel(f"groups of {quant.group_size}; groups of a multiple of 32 have a kernel")
    bits = 4 if quant.dtype.bits <= 4 else 8
    name = low.fresh(node.origin.module or "linear")
    weights = dynamic.pack_weights(name, codes.astype(np.int8), quant.scale, quant.group_size, bits)
    *first, last = dynamic.linear(name, x, weights, bias, out, node.attrs["granularity"])
    for launch in first:
        low.add(launch, [node], None, x)
    low.add(last, [node], node.output, y)


def _by_group(array: np.ndarray, n: int, quant: QuantParams) -> np.ndarray:
    """[N, groups] of parameters per tensor, per channel or in groups."""
    if quant.group_size is not None:
        return np.broadcast_to(array, quant.scale.shape)
    return np.broadcast_to(np.atleast_1d(array).reshape(-1, 1), (n, 1))


def _buffer(name: str, dtype: type, *shape: int) -> View:
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    return in_order(Buffer(name, size), np.dtype(dtype), shape)


RULES: dict[str, Rule] = {"weight_only_linear": _weight_only, "dynamic_linear": _dynamic}
