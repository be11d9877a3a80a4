"""Constant codes behind the real numbers that an op reads, in the layout the op wants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.ir import Graph, QuantParams, Value


def constant_codes(graph: Graph, value: Value) -> tuple[np.ndarray, QuantParams] | None:
    """(codes, parameters) that `value` is the dequantized form of, through transposes; None if it is none."""
    node = graph.producer(value)
    if node is None:
        return None
    if node.op == "dequantize":
        codes = node.operands[0]
        return None if codes.data is None or codes.quant is None else (codes.data, codes.quant)
    if node.op != "transpose":
        return None
    found = constant_codes(graph, node.operands[0])
    return None if found is None else transposed(*found, node.attrs["perm"])


def transposed(codes: np.ndarray, quant: QuantParams, perm: Sequence[int]) -> tuple[np.ndarray, QuantParams]:
    """Codes with their axes in another order; scales of channels and groups move along."""
    turned = np.ascontiguousarray(codes.transpose(perm))
    if quant.axis is None:
        return turned, quant
    axis = list(perm).index(quant.axis)
    if quant.group_size is None:
        return turned, quant.with_axis(axis)
    zero = quant.zero_point if quant.zero_point.ndim == 0 else quant.zero_point.transpose(perm)
    return turned, QuantParams(quant.dtype, quant.scale.transpose(perm), zero, axis, quant.group_size, quant.digits)
