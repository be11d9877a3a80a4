"""Float islands: elementwise functions, rows, reductions and products of real numbers."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.ir import DType, Node, Value
from qcompiler.kernels.gpu import real, real_gemm, real_windows
from qcompiler.kernels.gpu.launch import View, constant, memory_order
from qcompiler.targets.cuda import rules_movement, rules_products
from qcompiler.targets.cuda.lower import Lowering, NoKernel, Rule, first, known_shape
from qcompiler.targets.cuda.rules_products import planes_of, two_batches


def _is_real(node: Node) -> bool:
    return any(v.dtype.is_float for v in node.operands)


def _constants(node: Node) -> tuple[str, tuple[float, ...]]:
    """The row of `real.EXPRESSIONS` and its constants."""
    attrs = node.attrs
    if node.op == "clip":
        low, high = attrs["min"], attrs["max"]
        return "clip", (-math.inf if low is None else low, math.inf if high is None else high)
    if node.op == "round_log2":
        return node.op, (attrs["scale"], attrs["step"], float((1 << attrs["bits"]) - 1), float(attrs["zero"]))
    if node.op == "gelu":
        return f"gelu_{attrs['approximate']}", ()
    names = {"softplus": ("beta", "threshold"), "elu": ("alpha",), "leaky_relu": ("slope",)}.get(node.op, ())
    return node.op, tuple(attrs[n] for n in names)


def _elementwise(low: Lowering, node: Node) -> None:
    if not _is_real(node):
        raise NoKernel("it has a kernel for real numbers only")
    name, constants = _constants(node)
    views = [low.view(v) for v in node.operands]
    whole = next((v for v in views if v.shape == known_shape(node.output)), None)
    y = low.new(node.output) if whole is None else low.like(node.output, whole)
    low.add(real.pointwise(name, [(v, 0) for v in views], y, constants), [node], node.output, y)


def _real_or_plain(low: Lowering, node: Node) -> None:
    (_elementwise if _is_real(node) else rules_movement.plain)(low, node)


def _quantize(low: Lowering, node: Node) -> None:
    quant, x = node.attrs["quant"], low.view(first(node))
    if quant.group_size is not None or not quant.per_tensor and not quant.symmetric:
        raise NoKernel("codes in groups, or with zero points by channel")
    y = low.like(node.output, x)
    scale = constant(low.fresh("scale"), quant.broadcast(quant.scale, known_shape(node.output)))
    zero = 0 if quant.zero_point.ndim else int(quant.zero_point)
    limits = (float(zero), float(quant.dtype.min), float(quant.dtype.max))
    low.add(real.pointwise("quantize", [(x, 0), (scale, 0)], y, (0.0, *limits)), [node], node.output, y)


def _softmax(low: Lowering, node: Node) -> None:
    y = low.new(node.output)
    low.add(real.softmax(low.view(first(node)), y, node.op == "log_softmax"), [node], node.output, y)


def fixed(low: Lowering, value: Value | None, what: str) -> np.ndarray | None:
    """The elements of an operand that has to be constant.

    Raises:
        NoKernel: it is computed.
    """
    if value is None:
        return None
    data = low.constants.of(value)
    if data is None:
        raise NoKernel(f"its {what} is computed")
    return data


def _norm(low: Lowering, node: Node) -> None:
    weight, bias = (fixed(low, v, w) for v, w in zip((*node.inputs[1:], None)[:2], ("weight", "bias")))
    y = low.new(node.output)
    axes = node.attrs["axes"]
    shape = (*y.shape[: len(y.shape) - axes], math.prod(y.shape[len(y.shape) - axes :]))
    x = low.view(first(node)).reshape(shape) or low.copy(low.view(first(node)), first(node), (node,)).reshape(shape)
    out = y.reshape(shape)
    assert x is not None and out is not None
    low.add(real.normalize(x, weight, bias, out, node.attrs["eps"], node.op == "layer_norm"), [node], node.output, y)


def _reduce(low: Lowering, node: Node) -> None:
    value = first(node)
    if value.quant is not None and node.op in ("reduce_sum", "reduce_mean"):
        return rules_products.later(low, node)
    x, y = low.view(value), low.new(node.output)
    axes = sorted(a % len(x.shape) for a in node.attrs["axes"]) or list(range(len(x.shape)))
    low.add(real.reduce(node.op, x, axes, y), [node], node.output, y)
    return None


def _matmul(low: Lowering, node: Node) -> None:
    a, b = node.operands
    if not a.dtype.is_float:
        return rules_products.later(low, node)
    _float32(node)
    y = low.new(node.output, rules_products.order_of_reader(low, node.output))
    batch, rank = y.shape[:-2], len(y.shape)
    left = low.view(a).expand((*batch, *a.shape[-2:]))
    right = low.view(b).expand((*batch, *b.shape[-2:])).transpose([*range(rank - 2), rank - 1, rank - 2])
    left, right = (two_batches(low, v, of, node, any_strides=True) for v, of in ((left, a), (right, b)))
    low.add(real_gemm.matmul(left, right, two_batches(low, y, None, node)), [node], node.output, y)
    return None


def _linear(low: Lowering, node: Node) -> None:
    x, w, bias = node.inputs
    assert x is not None and w is not None
    if not x.dtype.is_float:
        return rules_products.later(low, node)
    _float32(node)
    n, k = known_shape(w)
    y = low.new(node.output)
    flat, out = rows_of(low, x, k, node), y.reshape((1, 1, y.count // max(n, 1), n))
    right = low.view(w).reshape((1, 1, n, k))
    assert right is not None and out is not None
    held = None if bias is None else constant(low.fresh("bias"), np.asarray(fixed(low, bias, "bias"), np.float32))
    left = flat.reshape((1, 1, *flat.shape))
    assert left is not None
    low.add(real_gemm.matmul(left, right, out, held), [node], node.output, y)
    return None


def rows_of(low: Lowering, value: Value, k: int, node: Node) -> View:
    """A tensor as rows of its last axis without gaps, copied where it does not lie so."""
    x = low.view(value)
    shape = (x.count // max(k, 1), k)
    found = x.reshape(shape) if x.contiguous else None
    found = found or low.copy(x, value, (node,)).reshape(shape)
    assert found is not None
    return found


def _float32(node: Node) -> None:
    wrong = [v.dtype.name for v in node.operands if v.dtype not in (DType.float32,)]
    if wrong:
        raise NoKernel(f"products of {', '.join(wrong)} have no kernel; of float32 they have")


def _windows(low: Lowering, node: Node, kind: str, kernel: tuple[int, ...], *constants: np.ndarray | None) -> None:
    x = low.view(first(node))
    y = low.new(node.output, memory_order(x) if x.dense and x.shape[1] == known_shape(node.output)[1] else None)
    rank = len(x.shape) - 2
    planes = planes_of(x), planes_of(y)
    ends = (0,) * (2 - rank) + tuple(node.attrs["pads"][rank:])
    launch = real_windows.window(
        kind, *planes, rules_products.geometry_of(kernel, node), ends, *constants, groups=node.attrs.get("groups", 1)
    )  # fmt: skip
    low.add(launch, [node], node.output, y)


def _pool(low: Lowering, node: Node) -> None:
    if not first(node).dtype.is_float:
        if node.op == "avg_pool":
            raise NoKernel("averages of codes are sums that are rescaled")
        return rules_products.RULES["max_pool"](low, node)
    kind = "MAXIMUM" if node.op == "max_pool" else "AVERAGE_PADDED" if node.attrs["count_include_pad"] else "AVERAGE_INSIDE"
    return _windows(low, node, kind, tuple(node.attrs["kernel"]))


def _conv(low: Lowering, node: Node) -> None:
    if not first(node).dtype.is_float:
        return rules_products.later(low, node)
    weight, bias = (fixed(low, v, w) for v, w in zip(node.inputs[1:], ("weight", "bias")))
    assert weight is not None
    filters = weight[:, :, None] if weight.ndim == 3 else weight
    return _windows(low, node, "CONVOLUTION", tuple(weight.shape[2:]), filters, bias)


_BOTH = frozenset(rules_movement.RULES) & frozenset(real.EXPRESSIONS) - {"cast"}
_GELU = ("gelu_none", "gelu_tanh", "gelu_sigmoid")

RULES: dict[str, Rule] = {
    **dict.fromkeys(real.EXPRESSIONS.keys() - {"cast", "quantize", "dequantize", *_GELU} - _BOTH, _elementwise),
    **dict.fromkeys(_BOTH, _real_or_plain),
    "gelu": _elementwise,
    "quantize": _quantize,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "layer_norm": _norm,
    "rms_norm": _norm,
    **dict.fromkeys(real.REDUCTIONS, _reduce),
    "matmul": _matmul,
    "linear": _linear,
    "conv": _conv,
    **dict.fromkeys(("max_pool", "avg_pool"), _pool),
}
