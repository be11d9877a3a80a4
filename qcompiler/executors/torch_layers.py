"""Torch bodies of products, convolutions, pools, normalizations and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from qcompiler.errors import UnsupportedError
from qcompiler.ir.ops.pool import interpolation_matrix, out_size

from .torch_context import Body, BuildContext, Builder

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_INTERPOLATE = {
    ("linear", 1): "linear",
    ("linear", 2): "bilinear",
    ("linear", 3): "trilinear",
    ("cubic", 2): "bicubic",
}


def _of_rank(ctx: BuildContext, table: dict[int, Body]) -> Body:
    rank = len(ctx.x.shape) - 2
    if rank not in table:
        raise UnsupportedError(
            f"{ctx.node.where()}: {rank} spatial axes; the torch executor takes {sorted(table)}"
        )
    return table[rank]


def _symmetric(pads: Sequence[int]) -> tuple[int, ...] | None:
    half = len(pads) // 2
    return tuple(pads[:half]) if tuple(pads[:half]) == tuple(pads[half:]) else None


def _flat(begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Pads in F.pad's order: last axis first."""
    return [p for b, e in zip(reversed(begins), reversed(ends), strict=True) for p in (b, e)]


def _conv(ctx: BuildContext) -> Body:
    fn, attrs = _of_rank(ctx, _CONV), ctx.attrs
    options: dict[str, Any] = {k: attrs[k] for k in ("dilations", "groups")}
    options["dilation"] = options.pop("dilations")
    pads = attrs["pads"]
    same = _symmetric(pads)
    if same is not None and min(same) >= 0:
        return partial(fn, stride=attrs["strides"], padding=same, **options)
    flat = _flat(pads[: len(pads) // 2], pads[len(pads) // 2 :])
    plain = partial(fn, stride=attrs["strides"], **options)
    return lambda x, w, bias=None: plain(F.pad(x, flat), w, bias)


def _conv_transpose(ctx: BuildContext) -> Body:
    fn, attrs = _of_rank(ctx, _CONV_TRANSPOSE), ctx.attrs
    pads, extra = attrs["pads"], attrs["output_padding"]
    same = _symmetric(pads)
    options = {"stride": attrs["strides"], "groups": attrs["groups"], "dilation": attrs["dilations"]}
    limits = [max(s, d) for s, d in zip(attrs["strides"], attrs["dilations"], strict=True)]
    if same is not None and min(same) >= 0 and all(e < m for e, m in zip(extra, limits, strict=True)):
        return partial(fn, padding=same, output_padding=extra, **options)
    half = len(pads) // 2
    flat = _flat([-p for p in pads[:half]], [e - p for e, p in zip(extra, pads[half:], strict=True)])

    def run(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        y = F.pad(fn(x, w, **options), flat)
        return y if bias is None else y + bias.reshape(-1, *(1,) * half)

    return run


def _native_pool(ctx: BuildContext) -> tuple[int, ...] | None:
    """The padding, if torch's own pool takes it: symmetric and at most half the kernel."""
    same = _symmetric(ctx.attrs["pads"])
    fits = same is not None and all(0 <= 2 * p <= k for p, k in zip(same, ctx.attrs["kernel"], strict=True))
    return same if fits else None


def _pool_extent(ctx: BuildContext, size: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Pads (F.pad order) that make every window of the pool lie inside the padded input."""
    attrs, rank = ctx.attrs, len(size)
    begins, ends = attrs["pads"][:rank], []
    for i in range(rank):
        out = out_size(size[i], i, rank, attrs, dilations[i])
        need = (out - 1) * attrs["strides"][i] + dilations[i] * (attrs["kernel"][i] - 1) + 1
        ends.append(need - size[i] - begins[i])
    return _flat(begins, ends)


def _max_pool(ctx: BuildContext) -> Body:
    fn, attrs = _of_rank(ctx, _MAX_POOL), ctx.attrs
    dilations = attrs["dilations"] or (1,) * (len(ctx.x.shape) - 2)
    same = _native_pool(ctx)
    if same is not None:
        options = {"padding": same, "ceil_mode": attrs["ceil_mode"]}
        return partial(
            fn, kernel_size=attrs["kernel"], stride=attrs["strides"], dilation=dilations, **options
        )
    lowest = -math.inf if ctx.x.dtype.is_float else ctx.x.dtype.min

    def run(x: Tensor) -> Tensor:
        padded = F.pad(x, _pool_extent(ctx, x.shape[2:], dilations), value=lowest)
        return fn(padded, attrs["kernel"], attrs["strides"], 0, dilations)

    return run


def _avg_pool(ctx: BuildContext) -> Body:
    fn, attrs = _of_rank(ctx, _AVG_POOL), ctx.attrs
    same = _native_pool(ctx)
    include = attrs["count_include_pad"]
    if same is not None:
        options = {"padding": same, "ceil_mode": attrs["ceil_mode"], "count_include_pad": include}
        return partial(fn, kernel_size=attrs["kernel"], stride=attrs["strides"], **options)

    def run(x: Tensor) -> Tensor:
        rank = x.ndim - 2
        extent = _pool_extent(ctx, x.shape[2:], (1,) * rank)
        inside = x.new_ones((1, 1, *x.shape[2:]))
        if include:
            # Padding counts, what ceil_mode adds beyond it does not.
            pads = _flat(attrs["pads"][:rank], attrs["pads"][rank:])
            inside = F.pad(inside, pads, value=1.0)
            counted = F.pad(inside, [e - p for e, p in zip(extent, pads, strict=True)])
        else:
            counted = F.pad(inside, extent)
        mean, share = (fn(t, attrs["kernel"], attrs["strides"]) for t in (F.pad(x, extent), counted))
        return mean / share

    return run


def _resize(ctx: BuildContext) -> Body:
    size, mode, align = ctx.attrs["size"], ctx.attrs["mode"], ctx.attrs["align_corners"]
    if mode == "nearest":
        return lambda x: _nearest(x, size)
    native = _INTERPOLATE.get((mode, len(size)))
    if native is not None:
        return lambda x: F.interpolate(x, size, mode=native, align_corners=align)

    def run(x: Tensor) -> Tensor:
        for axis, out in enumerate(size, 2):
            matrix = interpolation_matrix(x.shape[axis], out, mode, align)
            x = torch.movedim(torch.movedim(x, axis, -1) @ x.new_tensor(np.asarray(matrix.T)), -1, axis)
        return x

    return run


def _nearest(x: Tensor, size: Sequence[int]) -> Tensor:
    for axis, out in enumerate(size, 2):
        if out != x.shape[axis]:
            index = torch.arange(out, device=x.device) * x.shape[axis] // out
            x = x.index_select(axis, index)
    return x


def _layer_norm(ctx: BuildContext) -> Body:
    count, eps = ctx.attrs["axes"], ctx.attrs["eps"]
    return lambda x, weight=None, bias=None: F.layer_norm(x, x.shape[-count:], weight, bias, eps)


def _rms_norm(ctx: BuildContext) -> Body:
    axes, eps = tuple(range(-ctx.attrs["axes"], 0)), ctx.attrs["eps"]

    def run(x: Tensor, weight: Tensor | None = None) -> Tensor:
        y = x * torch.rsqrt((x * x).mean(axes, keepdim=True) + eps)
        return y if weight is None else y * weight

    return run


def _batch_norm(ctx: BuildContext) -> Body:
    eps = ctx.attrs["eps"]
    return lambda x, mean, var, weight=None, bias=None: F.batch_norm(
        x, mean, var, weight, bias, False, 0.0, eps
    )


def _group_norm(ctx: BuildContext) -> Body:
    groups, eps = ctx.attrs["groups"], ctx.attrs["eps"]
    return lambda x, weight=None, bias=None: F.group_norm(x, groups, weight, bias, eps)


def _attention(ctx: BuildContext) -> Body:
    scale, causal = ctx.attrs["scale"], ctx.attrs["causal"]

    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if causal and mask is not None:
            tri = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
            mask = mask & tri if mask.dtype == torch.bool else mask.masked_fill(~tri, -math.inf)
        batch = torch.broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3])
        q, k, v = (t.expand(*batch, *t.shape[-3:]) for t in (q, k, v))
        gqa = q.shape[-3] != k.shape[-3]
        return F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=causal and mask is None, scale=scale, enable_gqa=gqa
        )

    return run


def _rotary(ctx: BuildContext) -> Body:
    interleaved = ctx.attrs["interleaved"]

    def run(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        width = cos.shape[-1]
        part = x[..., :width]
        if interleaved:
            turned = torch.stack([-part[..., 1::2], part[..., 0::2]], -1).flatten(-2)
        else:
            turned = torch.cat([-part[..., width // 2 :], part[..., : width // 2]], -1)
        y = part * cos + turned * sin
        return y if width == x.shape[-1] else torch.cat([y, x[..., width:]], -1)

    return run


BUILDERS: dict[str, Builder] = {
    "linear": lambda ctx: F.linear,
    "matmul": lambda ctx: torch.matmul,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "resize": _resize,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "softmax": lambda ctx: partial(torch.softmax, dim=ctx.attrs["axis"]),
    "log_softmax": lambda ctx: partial(torch.log_softmax, dim=ctx.attrs["axis"]),
    "attention": _attention,
    "rotary": _rotary,
}
