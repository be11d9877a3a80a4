"""QONNX: real ops with `Quant` nodes around them, for the compilers of FPGAs that read it.

Format: github.com/fastmachinelearning/qonnx, Pappalardo et al. 2022. A Quant node rounds its operand,
`(clip(round_half_even(x / scale + zero_point)) - zero_point) * scale`; a weight is its real numbers with such a node.
Readers of the format want every attribute of Conv written, its bias inside, and the shape of every tensor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Graph, Node, QuantParams, Value

from .emit_elementwise import Rule
from .emitter import Emitter, Style, tensor_type
from .quantized_common import quant_of

DOMAIN = "qonnx.custom_op.general"
STYLE = Style(simulated=True)


def _quant(e: Emitter, x: str | Value, quant: QuantParams, rank: int) -> str:
    """One Quant node."""
    if quant.group_size is not None:
        raise UnsupportedError("scales of groups have no form in QONNX; compile with scales per tensor or per channel")
    shape = [-1 if i == quant.axis else 1 for i in range(rank)] if quant.axis is not None else []
    scale, zero = (np.asarray(a, np.float32).reshape(shape if np.ndim(a) else []) for a in (quant.scale, quant.zero_point))
    bits = e.const(np.float32(quant.dtype.bits), hint="bits")
    operands = (x, e.const(scale, hint="scale"), e.const(zero, hint="zero_point"), bits)
    signed = int(quant.dtype.is_signed)
    return str(e.op("Quant", *operands, domain=DOMAIN, signed=signed, narrow=0, rounding_mode="ROUND"))


def _quantize(e: Emitter, node: Node) -> str:
    (x,) = node.operands
    e.row(node, "Quant", node.output.dtype.name)
    return _quant(e, x, node.attrs["quant"], len(x.shape))


def _dequantize(e: Emitter, node: Node) -> str:
    """A weight; of anything else, what its Quant node gives is real already."""
    (x,) = node.operands
    if x.data is None:
        return e.name(x)
    if e.graph.uses(node.output) and all(user.op == "linear" for user, _ in e.graph.uses(node.output)):
        return ""  # written as its readers store it
    return _weight(e, x, x.data, quant_of(x))


def _weight(e: Emitter, codes: Value, data: np.ndarray, quant: QuantParams) -> str:
    real = e.weight(codes, f"real{data.shape}", quant.dequantize(data))
    return _quant(e, real, quant, data.ndim)


def _linear(e: Emitter, node: Node) -> str:
    """MatMul with the weight [K, N], and Add."""
    x, w, bias = node.inputs
    assert x is not None and w is not None
    source = e.graph.producer(w)
    if source is None or source.op != "dequantize" or (codes := source.operands[0]).data is None:
        weight = e.op("Transpose", w, perm=[1, 0])
    else:
        quant = quant_of(codes)
        if quant.group_size is not None:
            raise UnsupportedError(f"{node.where()}: weights in groups have no form in QONNX")
        quant = quant if quant.axis is None else quant.with_axis(1 - quant.axis)
        weight = _weight(e, codes, codes.data.T, quant)
    e.row(node, "MatMul", node.output.dtype.name)
    y = e.op("MatMul", x, weight)
    return str(y if bias is None else e.op("Add", y, bias))


def _reduce_mean(e: Emitter, node: Node) -> str:
    (x,) = node.operands
    rank, attrs = len(x.shape), node.attrs
    axes = sorted(a % rank for a in attrs["axes"])
    e.row(node, "GlobalAveragePool", node.output.dtype.name)
    if attrs["keepdims"] and rank == 4 and axes == [2, 3]:
        return str(e.op("GlobalAveragePool", x))
    return str(e.op("ReduceMean", x, e.ints(axes), keepdims=int(attrs["keepdims"])))


RULES: dict[str, Rule] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "linear": _linear,
    "reduce_mean": _reduce_mean,
}


def to_qonnx(graph: Graph) -> onnx.ModelProto:
    """A QUANTIZED graph, or an INTEGER one with power-of-two scales, as a QONNX model.

    Inputs and outputs are real numbers. The same integers to within one step per op, as the real ops sum in another
    order; exactly the same where every scale is a power of two, zero points are even, and float32 holds the sums.

    Raises:
        UnsupportedError: what real numbers with constant scales cannot say, with its module path.
    """
    from .emit import emit_model

    model = emit_model(graph, STYLE, {"level": graph.level.value})
    taken = {v.name for v in (*model.proto.graph.input, *model.proto.graph.output)}
    for value, name in model.tensors.items():
        if name and name not in taken and not value.is_const:
            taken.add(name)
            dtype = tensor_type(value.dtype) if value.quant is None else onnx.TensorProto.FLOAT
            shape = [d if isinstance(d, int) else str(d) for d in value.shape]
            model.proto.graph.value_info.append(helper.make_tensor_value_info(name, dtype, shape))
    return model.proto


def save_qonnx(graph: Graph, path: str | Path) -> Path:
    """`to_qonnx`, written to a file; returns its path."""
    path = Path(path)
    path.write_bytes(to_qonnx(graph).SerializeToString(deterministic=True))
    return path


__all__ = ["save_qonnx", "to_qonnx"]
