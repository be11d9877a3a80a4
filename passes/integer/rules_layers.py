"""Products, sums, pools and movement as integer ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import DType, Node, QuantParams, Value, constant
from qcompiler.ir.dims import is_symbolic
from qcompiler.passes.integer.lowering import MOVEMENT, Lowering, NoIntegerForm, Rule, requantize
from qcompiler.passes.integer.rules_functions import is_function, of_node, wants_16_bits
from qcompiler.passes.integer.signed_codes import signed, signed_array, signed_limit


def _quantize(low: Lowering, node: Node) -> None:
    """Codes of given parameters; a real constant or integers without a sign are converted here and now."""
    low.set_form(node.output, low.codes(node.inputs[0], signed(node.attrs["quant"])))


def _dequantize(low: Lowering, node: Node) -> None:
    """The real number is the integer with its parameters: nothing to compute.

    Where the codes were made of accumulators for real readers only, those read the accumulators instead.
    """
    (codes,) = node.operands
    source = low.source.producer(codes)
    narrowed = source is not None and source.op == "requantize" and source.attrs["qmin"] is source.attrs["qmax"] is None
    if source is not None and narrowed and _wants_more(low, node):
        low.set_form(node.output, low.form(source.inputs[0]))
    else:
        low.set_form(node.output, low.form(codes))


def _wants_more(low: Lowering, node: Node) -> bool:
    """True if a sum, norm or function keeps more than 8 bits of a value that nobody reads as codes."""
    readers = [n.op for n, _ in low.source.uses(node.operands[0])]
    asking = [n for n, _ in low.source.uses(node.output)]
    if readers != ["dequantize"] or not asking or low.source.is_output(node.output):
        return False
    wide = {"add", "sub", "layer_norm", "rms_norm", *MOVEMENT}
    if all(n.op in wide for n in asking):
        return True
    quant = node.operands[0].quant
    if quant is None or not (_of_linear(low, node) and all(map(is_function, asking))):
        return False
    if not wants_16_bits(low, [of_node(n) for n in asking], node.output, float(quant.scale)):
        return False
    low.widened.add(node.output)
    return True


def _of_linear(low: Lowering, node: Node) -> bool:
    """True for a dequantize of what a linear layer gives."""
    rescale = low.source.producer(node.operands[0])
    product = low.source.producer(rescale.operands[0]) if rescale is not None else None
    return product is not None and product.op == "linear"


def _requantize(low: Lowering, node: Node) -> None:
    acc, multiplier = node.inputs[:2]
    assert acc is not None and multiplier is not None
    if multiplier.data is None:
        raise NoIntegerForm("its multiplier is computed, not constant")
    x, quant = low.form(acc), node.attrs["quant"]
    limits = tuple(signed_limit(node.attrs[k], quant) for k in ("qmin", "qmax"))
    factor = multiplier.data.astype(np.float64)
    if x.quant is not None and low.profile.power_of_two:
        factor = x.quant.scale.astype(np.float64) / float(quant.scale)  # exact; the float32 product may not be
    mean = (source := low.source.producer(acc)) is not None and source.op == "reduce_mean"
    bounds = (limits[0], limits[1])
    name = node.output.name
    low.set_form(node.output, requantize(low.out, low.profile, x, signed(quant), factor, bounds, name, any_factor=mean))


def _requantize_sum(low: Lowering, node: Node) -> None:
    quant = node.attrs["quant"]
    limits = tuple(signed_limit(node.attrs[k], quant) for k in ("qmin", "qmax"))
    terms = [low.form(v) if v.data is None else _signed_constant(v) for v in node.operands]
    low.set_form(node.output, low.sum(node.output, terms, [1.0] * len(terms), signed(quant), (limits[0], limits[1])))


def _weighted(low: Lowering, node: Node) -> None:
    """conv, linear, matmul on codes: the op itself. Weights without a sign get one."""
    if node.output.quant is None:
        raise NoIntegerForm("it was left on real numbers; quantize it (its module may be under `ignore`)")
    inputs: list[Any] = []
    for value in node.inputs:
        if value is not None and value.data is not None:
            inputs.append(_signed_constant(value))
        else:
            inputs.append(None if value is None else low.out[value])
    low.set_form(node.output, low.op(node.output, node.op, *inputs, **dict(node.attrs)))


def _signed_constant(value: Value) -> Value:
    """A constant of uint8 codes with a sign; any other as it is."""
    if value.data is None or value.dtype is not DType.uint8 or value.quant is None:
        return value
    return constant(signed_array(value.data, value.quant), quant=signed(value.quant), name=value.name)


def _avg_pool(low: Lowering, node: Node) -> None:
    """A depthwise convolution with weights of one; its scale is divided by the size of the window."""
    a = node.attrs
    if a["ceil_mode"] or (any(a["pads"]) and not a["count_include_pad"]):
        raise NoIntegerForm("windows that hold different numbers of elements (ceil_mode, or padding that does not count)")
    x = low.codes8(node.inputs[0])  # convolutions of wider codes have few kernels
    channels, rank = x.shape[1], len(a["kernel"])
    if not isinstance(channels, int):
        raise NoIntegerForm("the number of channels is not known")
    ones = np.ones((channels, 1, *a["kernel"]), np.int8)
    w = constant(ones, quant=QuantParams(DType.int8, np.float32(1 / np.prod(a["kernel"]))), name="window")
    acc = low.op(
        node.output, "conv", x, w, None, strides=a["strides"], pads=a["pads"], dilations=(1,) * rank, groups=channels
    )  # fmt: skip
    _average(low, node, acc)


def _average(low: Lowering, node: Node, acc: Value) -> None:
    """Rescale sums whose scale is that of the mean."""
    quant = low.result_quant(node.output)
    low.set_form(node.output, requantize(low.out, low.profile, acc, quant, name=node.output.name, any_factor=True))


def _reduce_mean(low: Lowering, node: Node) -> None:
    axes = node.attrs["axes"] or range(len(node.operands[0].shape))
    if any(is_symbolic(node.operands[0].shape[axis]) for axis in axes):
        raise NoIntegerForm("the mean over a dynamic dimension divides by a number that is not known; fix the dimension")
    x = low.codes(node.inputs[0]) if node.operands[0].quant is None else low.form(node.inputs[0])
    acc = low.op(node.output, "reduce_mean", x, axes=node.attrs["axes"], keepdims=node.attrs["keepdims"])
    if node.output.quant is None:
        _average(low, node, acc)
    else:
        low.set_form(node.output, acc)


def _movement(low: Lowering, node: Node) -> None:
    """The op itself on codes; accumulators become codes first."""
    if node.op == "pad" and node.attrs["mode"] == "constant" and node.attrs["value"] != 0:
        raise NoIntegerForm(f"it pads with {node.attrs['value']}, not 0")
    if node.op == "resize" and node.attrs["mode"] != "nearest":
        raise NoIntegerForm(f"resize mode {node.attrs['mode']}; nearest has one")
    data, *rest = node.inputs
    x = _moved(low, data) if data is not None and data.dtype.is_float else low.form(data)
    low.set_form(node.output, low.op(node.output, node.op, x, *[low.out.get(v) for v in rest], **dict(node.attrs)))


def _moved(low: Lowering, data: Value) -> Value:
    """Codes to move: accumulators become what the readers of the moved value ask for."""
    form = low.form(data)
    if form.dtype.bits > 16 or (form.quant is not None and not form.quant.per_tensor):
        return low.codes(data, low.result_quant(data))
    return form


def _concat(low: Lowering, node: Node) -> None:
    """Operands rescaled to one set of parameters."""
    if node.output.quant is not None:
        forms = [low.form(v) for v in node.operands]
        quant = signed(node.output.quant)
    elif all(low.form(v).quant == low.form(node.operands[0]).quant and low.form(v).dtype.bits <= 16 for v in node.operands):
        forms = [low.form(v) for v in node.operands]
        quant = forms[0].quant  # type: ignore[assignment]
    else:
        quant = low.result_quant(node.output)
        forms = [low.codes(v, quant) for v in node.operands]
    assert quant is not None
    joined = [low.rescale(f, quant) for f in forms]
    low.set_form(node.output, low.op(node.output, "concat", *joined, axis=node.attrs["axis"]))


def _add(low: Lowering, node: Node) -> None:
    _linear_sum(low, node, (1.0, 1.0))


def _sub(low: Lowering, node: Node) -> None:
    _linear_sum(low, node, (1.0, -1.0))


def _linear_sum(low: Lowering, node: Node, signs: tuple[float, float]) -> None:
    """Residual sums: operands in their own scales, one rounding."""
    terms = [low.codes(v) for v in node.operands]
    low.set_form(node.output, low.sum(node.output, terms, signs, low.result_quant(node.output)))


def _clip(low: Lowering, node: Node) -> None:
    """relu and clip on a real number: limits of a rescale."""
    bounds = (0.0, None) if node.op == "relu" else (node.attrs["min"], node.attrs["max"])
    quant = low.result_quant(node.output)
    found: list[int | None] = []
    for bound, end in zip(bounds, (quant.dtype.min, quant.dtype.max), strict=True):
        code = end if bound is None else int(quant.quantize(np.array(bound, np.float32)))
        found.append(None if code == end else code)
    form = low.form(node.inputs[0])
    low.set_form(node.output, low.rescale(form, quant, limits=(found[0], found[1]), name=node.output.name))


def _where(low: Lowering, node: Node) -> None:
    """A choice between codes of the same parameters."""
    condition, a, b = node.inputs
    quant = low.result_quant(node.output)
    low.set_form(node.output, low.op(node.output, "where", low.out.get(condition), low.codes(a, quant), low.codes(b, quant)))


def _matmul(low: Lowering, node: Node) -> None:
    """Product of two activations, or of an activation and a real constant: int8 codes of both."""
    if node.output.quant is not None:
        _weighted(low, node)
        return
    a, b = (low.codes8(v) for v in node.inputs)
    low.set_form(node.output, low.op(node.output, "matmul", a, b))


def _reduce_sum(low: Lowering, node: Node) -> None:
    attrs = dict(node.attrs)
    low.set_form(node.output, low.op(node.output, "reduce_sum", low.codes(node.inputs[0]), **attrs))


RULES: dict[str, Rule] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "requantize": _requantize,
    "requantize_sum": _requantize_sum,
    "conv": _weighted,
    "linear": _weighted,
    "matmul": _matmul,
    "reduce_sum": _reduce_sum,
    "where": _where,
    "avg_pool": _avg_pool,
    "reduce_mean": _reduce_mean,
    "concat": _concat,
    "add": _add,
    "sub": _sub,
    "relu": _clip,
    "clip": _clip,
    **dict.fromkeys(MOVEMENT, _movement),
}
