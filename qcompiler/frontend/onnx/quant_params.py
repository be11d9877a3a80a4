"""Scales and zero points of ONNX ops as quantization parameters of the graph."""

from __future__ import annotations

import numpy as np

from ...ir import DType, QuantParams, Value, get_op
from ...ir.dims import is_symbolic
from .context import OnnxContext, Refusal


def read_params(
    c: OnnxContext, scale: Value, zero: Value | None, dtype: DType, shape: tuple[object, ...], axis: int, block: int = 0
) -> QuantParams:
    """Parameters of a tensor, bit for bit as the model has them.

    Args:
        scale: [] or [1] per tensor, [C] along `axis`, or the tensor's rank with blocks along `axis`.
        zero: of the same shape, absent for 0.
        dtype: of the codes.
        shape: of the tensor.
        axis: of channels or blocks.
        block: elements that share a scale, 0 without blocks.

    Raises:
        Refusal: scales that are computed from data, or of another shape.
    """
    factors = np.asarray(c.known(scale, "a scale"), np.float32)
    zeros = np.zeros(factors.shape, np.int64) if zero is None else np.asarray(c.known(zero, "a zero point"), np.int64)
    if block:
        return _params(dtype, factors, zeros, axis, block)
    if factors.size == 1 and (factors.ndim <= 1 or factors.ndim != len(shape)):
        size = shape[axis] if factors.ndim and -len(shape) <= axis < len(shape) else None
        if size != 1 or factors.ndim == 0:
            return _params(dtype, factors.reshape(()), zeros.reshape(()), None, None)
    if factors.ndim != 1 or not -len(shape) <= axis < len(shape):
        raise Refusal(f"a scale of shape {list(factors.shape)} for a tensor of shape {list(shape)} along axis {axis}")
    axis %= len(shape)
    if is_symbolic(shape[axis]) or shape[axis] != factors.size:
        raise Refusal(f"{factors.size} scales for {shape[axis]} channels")
    return _params(dtype, factors, np.broadcast_to(zeros.reshape(-1), factors.shape), axis, None)


def _params(dtype: DType, scale: np.ndarray, zero: np.ndarray, axis: int | None, block: int | None) -> QuantParams:
    if not zero.any():
        zero = np.zeros((), np.int64)
    elif zero.ndim and scale.ndim == 1 and axis is None:
        zero = zero.reshape(())
    try:
        return QuantParams(dtype, scale, zero, axis, block)
    except ValueError as error:
        raise Refusal(str(error)) from None


def with_params(c: OnnxContext, value: Value, quant: QuantParams) -> Value:
    """The codes `value` read with these parameters.

    Raises:
        Refusal: the codes were made with other parameters, which would give them another meaning.
    """
    if value.data is not None:
        key = (value, quant)
        if key not in c.coded:
            c.coded[key] = c.builder.const(value.data, quant.dtype, quant, value.name)
        return c.coded[key]
    if value.quant is None:
        return _moved(c, value, quant)
    if value.quant != quant:
        raise Refusal(f"codes {value.name!r} are read with another scale or zero point than they were made with")
    return value


def _moved(c: OnnxContext, value: Value, quant: QuantParams) -> Value:
    """Codes that data movement has taken from a constant, as from a table of embeddings, before they are named as such."""
    node = c.producers.get(value)
    if value in c.builder.inputs and value.dtype in (DType.uint8, DType.int8) and quant.per_tensor:
        return _input_codes(c, value, quant)
    if node is None or get_op(node.op).category != "movement" or not quant.per_tensor:
        raise Refusal(f"codes {value.name!r} that no quantizing op of the model makes")
    key = (value, quant)
    if key not in c.coded:
        count = len(node.inputs) if node.op == "concat" else 1
        inputs = [with_params(c, v, quant) if v is not None and i < count else v for i, v in enumerate(node.inputs)]
        c.coded[key] = c.op(node.op, *inputs, **dict(node.attrs))
    return c.coded[key]


def _input_codes(c: OnnxContext, value: Value, quant: QuantParams) -> Value:
    """Codes of an input of bytes: its real number, in arithmetic, quantized to what it was."""
    key = (value, quant)
    if key not in c.coded:
        real = c.cast(value, DType.float32)
        if not quant.symmetric:
            real = c.op("sub", real, c.const(quant.zero_point.astype(np.float32)))
        c.coded[key] = c.op("quantize", c.op("mul", real, c.const(quant.scale)), quant=quant)
    return c.coded[key]
