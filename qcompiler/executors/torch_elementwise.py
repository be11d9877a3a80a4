"""Torch bodies of elementwise ops, data movement, creation and reductions."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from qcompiler.ir.ops.rounding import log2_table

from .torch_context import Body, BuildContext, Builder

_DIRECT: dict[str, Body] = {
    "exp": torch.exp,
    "log": torch.log,
    "log1p": torch.log1p,
    "expm1": torch.expm1,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "atan": torch.atan,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "silu": F.silu,
    "mish": F.mish,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": torch.sign,
    "relu": torch.relu,
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "pow": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "fmod": torch.fmod,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "logical_not": torch.logical_not,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "is_nan": torch.isnan,
    "is_inf": torch.isinf,
    "where": torch.where,
}


def _div(ctx: BuildContext) -> Body:
    return torch.div if ctx.x.dtype.is_float else partial(torch.div, rounding_mode="trunc")


def _cast(ctx: BuildContext) -> Body:
    target = ctx.types.of(ctx.attrs["dtype"])
    return lambda x: x.to(target)


def _clip(ctx: BuildContext) -> Body:
    low, high = _limits(ctx)
    return lambda x: torch.clamp(x, low, high)


def _clip_(ctx: BuildContext) -> Body:
    low, high = _limits(ctx)
    return lambda x: torch.clamp_(x, low, high)


def _limits(ctx: BuildContext) -> tuple[Any, Any]:
    low, high = ctx.attrs["min"], ctx.attrs["max"]
    if not ctx.x.dtype.is_float:
        low, high = (None if b is None else int(b) for b in (low, high))
    if low is None and high is None:
        low = -math.inf if ctx.x.dtype.is_float else ctx.x.dtype.min
    return low, high


def _gelu(ctx: BuildContext) -> Body:
    if ctx.attrs["approximate"] == "sigmoid":
        return lambda x: x * torch.sigmoid(1.702 * x)
    return partial(F.gelu, approximate=ctx.attrs["approximate"])


def _round_log2(ctx: BuildContext) -> Body:
    """Gradient 1 between the ends of the table (straight-through estimator)."""
    attrs, top = ctx.attrs, (1 << ctx.attrs["bits"]) - 1

    def body(x: Tensor) -> Tensor:
        table = torch.tensor(log2_table(attrs), dtype=x.dtype, device=x.device)
        with torch.no_grad():
            exact = torch.log2(x / attrs["scale"]) / -attrs["step"]
            codes = torch.where(x > 0, exact, torch.full_like(x, top)).round_().clamp_(0, top)
            rounded = table[codes.long()]
        return x + (rounded - x).detach() if torch.is_grad_enabled() and x.requires_grad else rounded

    return body


def _slice(ctx: BuildContext) -> Body:
    axis = ctx.attrs["axis"] % len(ctx.x.shape)
    index = (slice(None),) * axis + (slice(ctx.attrs["start"], ctx.attrs["stop"], ctx.attrs["step"]),)
    return lambda x: x[index]


def _pad(ctx: BuildContext) -> Body:
    pads, rank, mode = ctx.attrs["pads"], len(ctx.x.shape), ctx.attrs["mode"]
    if mode != "constant":
        return lambda x: _pad_by_index(x, pads, mode)
    value = ctx.attrs["value"]
    flat = [p for axis in reversed(range(rank)) for p in (pads[axis], pads[rank + axis])]
    return lambda x: F.pad(x, flat, value=value)


def _pad_by_index(x: Tensor, pads: tuple[int, ...], mode: str) -> Tensor:
    """Reflect or edge padding of any axes; F.pad takes only some ranks."""
    for axis in range(x.ndim):
        begin, end, size = pads[axis], pads[x.ndim + axis], x.shape[axis]
        if begin == end == 0:
            continue
        # Negative pads crop before the rest is padded: reflection sees the cropped axis only.
        first, last = max(0, -begin), size - max(0, -end)
        index = torch.arange(-max(begin, 0), last - first + max(end, 0), device=x.device)
        if mode == "edge" or last - first == 1:
            index = index.clamp(0, last - first - 1)
        else:
            period = 2 * (last - first - 1)
            index = index.remainder(period)
            index = torch.minimum(index, period - index)
        x = x.index_select(axis, index + first)
    return x


def _from_front(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def _gather(ctx: BuildContext) -> Body:
    axis = ctx.attrs["axis"] % len(ctx.x.shape)

    def run(data: Tensor, indices: Tensor) -> Tensor:
        flat = data.index_select(axis, _from_front(indices, data.shape[axis]).flatten())
        return flat.reshape(data.shape[:axis] + indices.shape + data.shape[axis + 1 :])

    return run


def _gather_elements(ctx: BuildContext) -> Body:
    axis = ctx.attrs["axis"] % len(ctx.x.shape)
    return lambda data, indices: torch.gather(data, axis, _from_front(indices, data.shape[axis]))


def _split_last(indices: Tensor, data: Tensor) -> tuple[Tensor, ...]:
    """Indices [..., K] as K tensors, counted from the front."""
    return tuple(_from_front(part, size) for part, size in zip(indices.unbind(-1), data.shape, strict=False))


def _scatter_nd(ctx: BuildContext) -> Body:
    accumulate = ctx.attrs["accumulate"]
    return lambda data, indices, updates: data.index_put(_split_last(indices, data), updates, accumulate)


def _topk(ctx: BuildContext) -> Body:
    """A stable sort, so that of equal elements the first comes first; torch.topk gives no order."""
    k, axis, largest = ctx.attrs["k"], ctx.attrs["axis"], ctx.attrs["largest"]

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)

    return run


def _arange(ctx: BuildContext) -> Body:
    attrs, target = ctx.attrs, ctx.types.of(ctx.attrs["dtype"])
    first, step = attrs["start"], attrs["step"]
    stop = max(attrs["stop"], first) if step > 0 else min(attrs["stop"], first)
    return lambda: torch.arange(first, stop, step, device=ctx.device).to(target)


def _full(ctx: BuildContext) -> Body:
    target, value = ctx.types.of(ctx.attrs["dtype"]), ctx.attrs["value"]
    value = value if target.is_floating_point else int(value)
    return lambda: torch.full(ctx.attrs["shape"], value, dtype=target, device=ctx.device)


def _dim(ctx: BuildContext) -> Body:
    target = ctx.types.of(ctx.attrs["dtype"])
    return lambda: torch.tensor(ctx.attrs["value"], dtype=target, device=ctx.device)


def _axes(ctx: BuildContext) -> tuple[int, ...]:
    rank = len(ctx.x.shape)
    return tuple(a % rank for a in ctx.attrs["axes"]) or tuple(range(rank))


def _reduce(fn: Body) -> Builder:
    def build(ctx: BuildContext) -> Body:
        axes, keep = _axes(ctx), ctx.attrs["keepdims"]
        return lambda x: fn(x, axes, keep) if axes else x  # a scalar is its own reduction

    return build


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.sum(x, axes, keep, dtype=x.dtype)


def _prod(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


def _truth(fn: Body) -> Body:
    return lambda x, axes, keep: fn(x, axes, keep).to(x.dtype)


def _arg(fn: Body) -> Builder:
    return lambda ctx: lambda x: fn(x, ctx.attrs["axis"], ctx.attrs["keepdims"])


BUILDERS: dict[str, Builder] = {
    **{name: (lambda ctx, fn=fn: fn) for name, fn in _DIRECT.items()},
    "div": _div,
    "cast": _cast,
    "clip": _clip,
    "gelu": _gelu,
    "round_log2": _round_log2,
    "softplus": lambda ctx: partial(F.softplus, beta=ctx.attrs["beta"], threshold=ctx.attrs["threshold"]),
    "elu": lambda ctx: partial(F.elu, alpha=ctx.attrs["alpha"]),
    "leaky_relu": lambda ctx: partial(F.leaky_relu, negative_slope=ctx.attrs["slope"]),
    "prelu": lambda ctx: lambda x, slope: torch.where(x >= 0, x, slope * x),
    "reshape": lambda ctx: lambda x: x.reshape(ctx.attrs["shape"]),
    "transpose": lambda ctx: lambda x: x.permute(ctx.attrs["perm"]),
    "expand": lambda ctx: lambda x: x.expand(ctx.attrs["shape"]),
    "slice": _slice,
    "concat": lambda ctx: lambda *xs: torch.cat(xs, ctx.attrs["axis"]),
    "pad": _pad,
    "gather": _gather,
    "gather_elements": _gather_elements,
    "gather_nd": lambda ctx: lambda data, indices: data[_split_last(indices, data)],
    "scatter_nd": _scatter_nd,
    "topk": _topk,
    "flip": lambda ctx: lambda x: torch.flip(x, ctx.attrs["axes"]),
    "tri": lambda ctx: partial(
        torch.triu if ctx.attrs["upper"] else torch.tril, diagonal=ctx.attrs["diagonal"]
    ),
    "arange": _arange,
    "full": _full,
    "dim": _dim,
    "reduce_sum": _reduce(_sum),
    "reduce_mean": _reduce(torch.mean),
    "reduce_max": _reduce(torch.amax),
    "reduce_min": _reduce(torch.amin),
    "reduce_prod": _reduce(_prod),
    "reduce_any": _reduce(_truth(torch.any)),
    "reduce_all": _reduce(_truth(torch.all)),
    "argmax": _arg(torch.argmax),
    "argmin": _arg(torch.argmin),
    "cumsum": lambda ctx: lambda x: torch.cumsum(x, ctx.attrs["axis"], dtype=x.dtype),
}

# Bodies that overwrite their first operand; used where nobody needs it any more.
IN_PLACE: dict[str, Builder] = {
    "relu": lambda ctx: torch.relu_,
    "clip": _clip_,
    "silu": lambda ctx: partial(F.silu, inplace=True),
    "hard_swish": lambda ctx: partial(F.hardswish, inplace=True),
    "hard_sigmoid": lambda ctx: partial(F.hardsigmoid, inplace=True),
    "sigmoid": lambda ctx: torch.sigmoid_,
    "tanh": lambda ctx: torch.tanh_,
}
