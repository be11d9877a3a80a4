"""Converters of products and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ....ir import DType, Value
from ....ir.dims import is_symbolic
from ...aten.einsum import einsum as torch_einsum
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]


def matmul(c: OnnxContext, a: Value, b: Value) -> Value:
    """NumPy's matmul: vectors are rows or columns."""
    if not a.dtype.is_float:  # exact below 2^53
        wide = matmul(c, c.cast(a, DType.float64), c.cast(b, DType.float64))
        return c.cast(wide, a.dtype)
    left = c.unsqueeze(a, 0) if len(a.shape) == 1 else a
    right = c.unsqueeze(b, -1) if len(b.shape) == 1 else b
    y = c.op("matmul", left, right)
    shape = list(y.shape)
    if len(a.shape) == 1:
        del shape[-2]
    if len(b.shape) == 1:
        del shape[-1]
    return c.reshape(y, shape)


def gemm(c: OnnxContext, a: Value, b: Value, bias: Value | None = None) -> Value:
    """alpha A' B' + beta C; a weight [N, K] with a bias [N] is a linear layer."""
    alpha, beta = c.number("alpha", 1.0), c.number("beta", 1.0)
    left = c.swap_last(a) if c.number("transA", 0) else a
    plain = alpha == 1 and beta == 1 and a.dtype.is_float
    if plain and c.number("transB", 0) and (bias is None or bias.shape == (b.shape[0],)):
        return c.op("linear", left, b, bias)
    y = matmul(c, left, c.swap_last(b) if c.number("transB", 0) else b)
    if alpha != 1:
        y = c.op("mul", y, c.scalar(alpha, y.dtype))
    if bias is None or beta == 0:
        return y
    return c.op("add", y, bias if beta == 1 else c.op("mul", bias, c.scalar(beta, y.dtype)))


def same_pads(sizes: Sequence[Any], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], upper: bool) -> list[int]:
    """SAME padding: output size ceil(size / stride), what is odd goes to the end (upper) or the beginning."""
    begins, ends = [], []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        if is_symbolic(size):
            if s != 1:
                raise Refusal("auto_pad SAME with strides on a dynamic axis")
            total = d * (k - 1)
        else:
            total = max((-(-int(size) // s) - 1) * s + d * (k - 1) + 1 - int(size), 0)
        begins.append(total // 2 if upper else total - total // 2)
        ends.append(total - begins[-1])
    return [*begins, *ends]


def window(c: OnnxContext, x: Value, kernel: Sequence[int]) -> dict[str, Any]:
    """Strides, pads and dilations of a window op."""
    rank = len(kernel)
    strides = c.integers("strides", (1,) * rank)
    dilations = c.integers("dilations", (1,) * rank)
    auto = c.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = same_pads(x.shape[2:], kernel, strides, dilations, auto == "SAME_UPPER")
    else:
        pads = [0] * (2 * rank) if auto == "VALID" else list(c.integers("pads", (0,) * (2 * rank)))
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise Refusal(f"strides {strides}, dilations {dilations}, pads {pads} do not fit a kernel {list(kernel)}")
    return {"strides": strides, "pads": pads, "dilations": dilations}


def kernel_of(c: OnnxContext, w: Value) -> tuple[int, ...]:
    """The weight's spatial size, which the attribute may repeat."""
    if any(is_symbolic(d) for d in w.shape):
        raise Refusal(f"a weight of dynamic shape {list(w.shape)}")
    kernel = tuple(int(d) for d in w.shape[2:])
    given = c.integers("kernel_shape")
    if given is not None and given != kernel:
        raise Refusal(f"kernel_shape {list(given)} and a weight of shape {list(w.shape)}")
    return kernel


def conv(c: OnnxContext, x: Value, w: Value, bias: Value | None = None) -> Value:
    """Convolution."""
    return c.op("conv", x, w, bias, groups=c.number("group", 1), **window(c, x, kernel_of(c, w)))


def conv_transpose(c: OnnxContext, x: Value, w: Value, bias: Value | None = None) -> Value:
    """Transposed convolution; its output size may be given instead of the pads."""
    kernel = kernel_of(c, w)
    rank = len(kernel)
    strides, dilations = c.integers("strides", (1,) * rank), c.integers("dilations", (1,) * rank)
    extra = list(c.integers("output_padding", (0,) * rank))
    wanted, auto = c.integers("output_shape"), c.text("auto_pad", "NOTSET")
    pads = list(c.integers("pads", (0,) * (2 * rank)))
    if wanted is not None or auto in ("SAME_UPPER", "SAME_LOWER"):
        for i in range(rank):
            full = x.shape[2 + i] * strides[i] if wanted is None else wanted[-rank + i]
            span = strides[i] * (x.shape[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
            total = span - full
            if is_symbolic(total):
                raise Refusal("a transposed convolution whose pads depend on a dynamic axis")
            total = max(int(total), 0) if wanted is None else int(total)
            if total < 0:  # larger than what the products reach: zeros at the end
                extra[i] -= total
                total = 0
            begin = total - total // 2 if auto == "SAME_LOWER" or (auto != "SAME_UPPER" and wanted is None) else total // 2
            pads[i], pads[rank + i] = begin, total - begin
    return c.op(
        "conv_transpose", x, w, bias, strides=strides, dilations=dilations, pads=pads, output_padding=extra,
        groups=c.number("group", 1),
    )  # fmt: skip


def einsum(c: OnnxContext, *xs: Value) -> Value:
    """Products and sums by index letters."""
    equation = c.text("equation")
    if xs[0].dtype.is_float:
        return torch_einsum(c, equation, xs)
    wide = torch_einsum(c, equation, [c.cast(x, DType.float64) for x in xs])
    return c.cast(wide, xs[0].dtype)


CONVERTERS: dict[str, Converter] = {
    "MatMul": matmul, "Gemm": gemm, "Conv": conv, "ConvTranspose": conv_transpose, "Einsum": einsum,
}  # fmt: skip
