"""Windows without a matrix product (`cuda/qc_windows.cuh`): depthwise convolution, maximum pooling, sums over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qcompiler.kernels.gpu.gemm import Geometry, vector_width
from qcompiler.kernels.gpu.launch import (
    RANK,
    Field,
    Kernel,
    Launch,
    View,
    ceil_div,
    constant,
    ints,
    longs,
    reading,
    writing,
)
from qcompiler.kernels.gpu.pointwise import padded, strided
from qcompiler.kernels.gpu.rescale import OUTPUTS, PROFILES, Rescale

THREADS = 128


def depthwise(
    name: str, x: View, codes: np.ndarray, bias: np.ndarray | None, y: View, geometry: Geometry, zero_point: int, rescale: Rescale,
    zeros: np.ndarray | None = None,
) -> Launch:  # fmt: skip
    """One filter per channel: codes [C, kernel y, kernel x] with zero points [C]; x of int8 or int16, y [N, C, H, W], channels last."""
    batch, channels, height, width = x.shape
    image, _, line, pixel = x.strides
    row = ceil_div(channels, 4) * 4
    filters = np.zeros((codes.shape[1] * codes.shape[2], row), np.int8)
    filters[:, :channels] = codes.reshape(channels, -1).T
    strides = [s for s, d in zip((image, line, pixel), (batch, height, width)) if d > 1]
    vec = min(4, vector_width(x, channels, strides, x.offset // x.dtype.itemsize))
    profile, out = PROFILES[rescale.profile], OUTPUTS[y.dtype.name]
    fields: list[Field] = [
        ("p", reading(x)), ("p", reading(constant(f"{name}.weight", filters))), ("p", writing(y)), *longs(image, line, pixel),
        ("p", reading(None if bias is None else constant(f"{name}.bias", bias.astype(np.int32)))),
        ("p", reading(constant(f"{name}.zeros", zeros.astype(np.int32)) if zeros is not None and zeros.any() else None)), *rescale.fields(),
        *ints(batch, channels, row, height, width, *y.shape[2:], *geometry.kernel, *geometry.stride, *geometry.pad, *geometry.dilation, zero_point),
    ]  # fmt: skip
    kernel = Kernel(
        f"depthwise{vec}{'_wide' if x.dtype == np.int16 else ''}_{rescale.profile}_{y.dtype.name}", "qc_windows.cuh", "qc::DepthwiseParams",
        f"qc::depthwise<{x.dtype.name}_t, {vec}, {profile}, {out}>(p)", THREADS,
    )  # fmt: skip
    return Launch(kernel, (ceil_div(y.count // vec, THREADS), 1, 1), tuple(fields), y.count * len(filters))


def max_pool(x: View, y: View, geometry: Geometry) -> Launch:
    """x, y [N, C, H, W] or [N, C, D, H, W], any strides."""
    fields: list[Field] = [*front(x), *front(y, write=True), *sizes(x, y, geometry), *ints(y.count), ("a", 8)]
    kernel = Kernel("max_pool", "qc_windows.cuh", "qc::WindowParams", "qc::max_pool(p)", THREADS)
    return Launch(kernel, (ceil_div(y.count, THREADS), 1, 1), tuple(fields), y.count)


def front(view: View, write: bool = False, real: bool = False) -> list[Field]:
    """`qc::Strided` with [N, C, D, H, W] in front."""
    pointer, *fields = strided(view, 0, write=write, real=real)
    strides: list[int] = [v for _, v in fields[RANK - len(view.shape) : RANK]]  # type: ignore[misc]
    return [pointer, *longs(*strides[:2], *[0] * (5 - len(strides)), *strides[2:], 0), *fields[RANK:]]


def sizes(x: View, y: View, geometry: Geometry) -> list[Field]:
    """The result's axes, and what windows over three axes have of each; fewer get axes of size 1 before them."""
    lift = lambda values, fill: [fill] * (3 - len(values)) + list(values)  # noqa: E731
    numbers = [
        *y.shape[:2], *lift(y.shape[2:], 1), 1, *lift(x.shape[2:], 1), *lift(geometry.kernel, 1), *lift(geometry.stride, 1),
        *lift(geometry.pad, 0), *lift(geometry.dilation, 1),
    ]  # fmt: skip
    return ints(*numbers)


def sum_axes(x: View, zero_point: int, axes: Sequence[int], y: View, rescale: Rescale) -> Launch:
    """Sum of centred codes over `axes`, rescaled; y has the axes that remain, with or without those of size 1."""
    kept = [a for a in range(len(x.shape)) if a not in axes]
    outer = View(x.buffer, x.dtype, tuple(x.shape[a] for a in kept), tuple(x.strides[a] for a in kept), x.offset)
    result = y.reshape(outer.shape)
    assert result is not None, "a result lies in row-major order"
    sizes, strides = [x.shape[a] for a in axes], [x.strides[a] for a in axes]
    terms = math.prod(sizes)
    fields: list[Field] = [
        ("p", reading(x)), *strided(outer, zero_point)[1:], *strided(result, write=True),
        *longs(*padded(strides, 0)), *ints(*padded(outer.shape), *padded(sizes), y.count, terms), *rescale.fields(),
    ]  # fmt: skip
    kernel = Kernel(f"sum_axes_{rescale.profile}", "qc_windows.cuh", "qc::SumParams", f"qc::sum_axes<{PROFILES[rescale.profile]}>(p)", THREADS)
    return Launch(kernel, (ceil_div(y.count, THREADS // 32), 1, 1), tuple(fields), y.count * terms)
