"""Converters of Resize and Upsample: the graph's resize where it means the same, else one matrix per axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....ir import Value
from ....ir.dims import Dim, is_symbolic, normalize
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]


@dataclass(frozen=True)
class Sampling:
    """Attributes of Resize (ONNX operator set 19)."""

    mode: str = "nearest"
    transform: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0


def upsample(c: OnnxContext, x: Value, scales: Value | None = None) -> Value:
    """Resize of operator sets before 10: asymmetric coordinates, rounded down."""
    factors = c.attr("scales") if scales is None else c.array_of(scales, "scales").tolist()
    sampling = Sampling(_mode(c.text("mode", "nearest")), "asymmetric", "floor")
    return _resize(c, x, list(range(len(x.shape))), [float(f) for f in factors], None, sampling, None)


def resize(c: OnnxContext, x: Value, *operands: Value | None) -> Value:
    """By scales or to sizes, along some axes."""
    if c.version < 11:
        return upsample(c, x, operands[0])
    roi, scales, sizes = [*operands, None, None, None][:3]
    sampling = Sampling(
        _mode(c.text("mode", "nearest")), c.text("coordinate_transformation_mode", "half_pixel"),
        c.text("nearest_mode", "round_prefer_floor"), c.number("cubic_coeff_a", -0.75),
        bool(c.number("exclude_outside", 0)), bool(c.number("antialias", 0)), c.number("extrapolation_value", 0.0),
    )  # fmt: skip
    axes = [c.axis(x, a) for a in c.integers("axes", tuple(range(len(x.shape))))]
    region = None
    if sampling.transform == "tf_crop_and_resize":
        if roi is None:
            raise Refusal("tf_crop_and_resize needs a region")
        region = c.array_of(roi, "the region").tolist()
    if sizes is not None:
        wanted = list(c.dims_of(sizes, "sizes"))
        factors = None
        if c.text("keep_aspect_ratio_policy", "stretch") != "stretch":
            factors, wanted = _keep_ratio(c, x, axes, wanted)
        return _resize(c, x, axes, factors, wanted, sampling, region)
    if scales is None:
        raise Refusal("needs scales or sizes")
    factors = [float(f) for f in c.array_of(scales, "scales").ravel()]
    return _resize(c, x, axes, factors, None, sampling, region)


def _mode(mode: str) -> str:
    return {"bilinear": "linear", "trilinear": "linear"}.get(mode, mode)


def _keep_ratio(c: OnnxContext, x: Value, axes: Sequence[int], wanted: list[Any]) -> tuple[list[float], list[Dim]]:
    ratios = [wanted[i] / int(x.shape[a]) for i, a in enumerate(axes)]
    larger = c.text("keep_aspect_ratio_policy") == "not_smaller"
    scale = max(ratios) if larger else min(ratios)
    return [scale] * len(axes), [math.floor(scale * int(x.shape[a]) + 0.5) for a in axes]


def _resize(
    c: OnnxContext, x: Value, axes: list[int], scales: list[float] | None, sizes: list[Any] | None, sampling: Sampling,
    region: list[float] | None,
) -> Value:  # fmt: skip
    rank = len(x.shape)
    if len(scales if scales is not None else sizes or ()) != len(axes):
        raise Refusal(f"{len(scales or sizes or ())} factors for {len(axes)} axes")
    target = list(x.shape)
    for i, axis in enumerate(axes):
        target[axis] = sizes[i] if sizes is not None else _scaled(x.shape[axis], (scales or [])[i])
    changed = [a for a in axes if x.shape[a] != target[a] or region is not None]
    by_ratio = {a: scales is None or _is_ratio(x.shape[a], target[a], scales[axes.index(a)]) for a in axes}
    if rank >= 3 and all(a >= 2 for a in changed) and all(by_ratio[a] for a in changed):
        form = _table_form(sampling, [x.shape[a] for a in changed], [target[a] for a in changed])
        if form is not None:
            return c.op("resize", x, size=target[2:], **form) if changed else x
    for axis in changed:
        if is_symbolic(x.shape[axis]) or is_symbolic(target[axis]):
            raise Refusal(f"{sampling.mode} resize with {sampling.transform} coordinates of a dynamic axis")
        size, out = int(x.shape[axis]), int(target[axis])
        scale = scales[axes.index(axis)] if scales is not None else out / size
        i = axes.index(axis)
        bounds = None if region is None else (region[i], region[i + len(axes)])
        x = _resample(c, x, axis, *resampling_matrix(size, out, scale, sampling, bounds), sampling.extrapolation)
    return x


def _scaled(size: Dim, scale: float) -> Dim:
    if is_symbolic(size):
        if scale == int(scale):
            return normalize(size * int(scale))
        if scale > 0 and 1 / scale == int(1 / scale):
            return normalize(size // int(1 / scale))
        raise Refusal(f"a dynamic axis scaled by {scale}")
    return math.floor(int(size) * np.float32(scale))


def _is_ratio(size: Dim, out: Dim, scale: float) -> bool:
    if is_symbolic(size):
        return scale == int(scale)
    return math.isclose(int(size) * scale, int(out), rel_tol=1e-6)


def _table_form(s: Sampling, sizes: Sequence[Dim], outs: Sequence[Dim]) -> dict[str, Any] | None:
    """Attributes of the table's resize where it computes the same."""
    if s.antialias or s.exclude_outside:
        return None
    if s.mode == "nearest":
        for size, out in zip(sizes, outs, strict=True):
            if is_symbolic(size):
                if s.transform != "asymmetric" or s.nearest != "floor":
                    return None
                continue
            at = nearest_index(int(size), int(out), int(out) / int(size), s, None)
            if not np.array_equal(at, np.arange(int(out)) * int(size) // int(out)):
                return None
        return {"mode": "nearest"}
    corners = s.transform == "align_corners"
    half = s.transform == "half_pixel" or (s.transform == "pytorch_half_pixel" and all(o != 1 for o in outs))
    if (s.mode == "cubic" and s.cubic_a != -0.75) or not (corners or half):
        return None
    return {"mode": s.mode, "align_corners": corners}


def coordinates(size: int, out: int, scale: float, s: Sampling, bounds: tuple[float, float] | None) -> np.ndarray:
    """Where each output element lies in the input."""
    i = np.arange(out, dtype=np.float64)
    if s.transform == "half_pixel":
        return (i + 0.5) / scale - 0.5
    if s.transform == "pytorch_half_pixel":
        return (i + 0.5) / scale - 0.5 if out > 1 else np.zeros(out)
    if s.transform == "half_pixel_symmetric":
        adjust = out / (scale * size)
        return size / 2 * (1 - adjust) + (i + 0.5) / scale - 0.5
    if s.transform == "align_corners":
        whole = scale * size
        return i * (size - 1) / (whole - 1) if out > 1 else np.zeros(out)
    if s.transform == "asymmetric":
        return i / scale
    if s.transform == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if s.transform == "tf_crop_and_resize" and bounds is not None:
        start, end = bounds
        if out == 1:
            return np.full(1, 0.5 * (start + end) * (size - 1))
        return start * (size - 1) + i * (end - start) * (size - 1) / (out - 1)
    raise Refusal(f"coordinates {s.transform!r}")


def nearest_index(size: int, out: int, scale: float, s: Sampling, bounds: tuple[float, float] | None) -> np.ndarray:
    """Index of the input element that each output element takes."""
    at = coordinates(size, out, scale, s, bounds)
    rounding: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if s.nearest not in rounding:
        raise Refusal(f"nearest_mode {s.nearest!r}")
    return np.clip(rounding[s.nearest](at), 0, size - 1).astype(np.int64)


def resampling_matrix(
    size: int, out: int, scale: float, s: Sampling, bounds: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """([out, size] weights in float64, [out] bool: lies outside of the input and takes the extrapolation value)."""
    at = coordinates(size, out, scale, s, bounds)
    outside = (at < 0) | (at > size - 1) if s.transform == "tf_crop_and_resize" else np.zeros(out, np.bool_)
    matrix = np.zeros((out, size))
    if s.mode == "nearest":
        matrix[np.arange(out), nearest_index(size, out, scale, s, bounds)] = 1
        return matrix, outside
    support = 1.0 if s.mode == "linear" else 2.0
    stretch = min(scale, 1.0) if s.antialias else 1.0
    reach = math.ceil(support / stretch)
    base = np.floor(at).astype(int)
    taps = np.arange(-reach + 1, reach + 1)
    where = base[:, None] + taps[None]
    distance = np.abs(at[:, None] - where) * stretch
    weights = _triangle(distance) if s.mode == "linear" else _keys(distance, s.cubic_a)
    inside = (where >= 0) & (where < size)
    if s.exclude_outside:
        weights = weights * inside
    if s.exclude_outside or s.antialias:
        weights = weights / weights.sum(1, keepdims=True)
    np.add.at(matrix, (np.arange(out)[:, None], np.clip(where, 0, size - 1)), weights)
    return matrix, outside


def _triangle(d: np.ndarray) -> np.ndarray:
    return np.maximum(1 - d, 0)


def _keys(d: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution (Keys 1981)."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _resample(c: OnnxContext, x: Value, axis: int, matrix: np.ndarray, outside: np.ndarray, fill: float) -> Value:
    if set(np.unique(matrix)) <= {0.0, 1.0} and (matrix.sum(1) == 1).all():
        y = c.op("gather", x, c.const(matrix.argmax(1).astype(np.int64)), axis=axis)
    else:
        perm = [a for a in range(len(x.shape)) if a != axis] + [axis]
        weights = c.const(np.ascontiguousarray(matrix.T).astype(x.dtype.numpy), x.dtype)
        y = c.transpose(c.op("matmul", c.transpose(x, perm), weights), np.argsort(perm).tolist())
    if outside.any():
        mask = outside.reshape([-1 if i == axis else 1 for i in range(len(x.shape))])
        y = c.op("where", c.const(mask), c.scalar(fill, x.dtype), y)
    return y


CONVERTERS: dict[str, Converter] = {"Resize": resize, "Upsample": upsample}
