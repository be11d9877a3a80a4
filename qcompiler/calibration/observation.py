"""One tensor on its way through the observers of a value, with the reductions they share.

A value may have several observers (min-max, histogram, moments). Each asks the `Observation` for the
reduction it needs; a reduction is computed once per tensor, whatever the number of observers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from qcompiler.errors import CalibrationError

_HISTOGRAM_CHUNK = 1 << 17  # elements: the three temporaries of a chunk stay in the L2 cache


def as_float32(data: torch.Tensor | np.ndarray | Any) -> torch.Tensor:
    """`data` as a detached float32 tensor; shares memory when it already is one."""
    if isinstance(data, torch.Tensor):
        return data.detach().to(torch.float32)
    # Constants are read-only, which torch does not have: np.require copies those. bfloat16 is no type that torch reads.
    dtype = np.float32 if data.dtype.name == "bfloat16" else None
    return torch.from_numpy(np.require(data, dtype, ["C", "W"])).to(torch.float32)


def in_memory_order(tensor: torch.Tensor) -> torch.Tensor:
    """All elements as a vector, in the order they lie in memory: channels-last tensors need no copy."""
    return tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True)).reshape(-1)


class Observation:
    """A tensor of one value for one or more consecutive samples.

    data: any shape, tensor or array; taken as float32.
    name: what errors call the tensor.
    sample_ids: index of each sample along axis 0, in order; samples have equal shares of axis 0. If they
        cannot have (axis 0 is not the batch), the tensor counts as one segment.
    mask: bool, [batch, sequence]; False marks padding, which no statistic sees.
    mask_axes: the two axes of `data` that the mask describes.
    """

    def __init__(
        self,
        data: torch.Tensor | np.ndarray,
        *,
        name: str = "tensor",
        sample_ids: Sequence[int] = (0,),
        mask: torch.Tensor | None = None,
        mask_axes: tuple[int, int] = (0, 1),
    ) -> None:
        tensor = as_float32(data)
        self.name = name
        self.sample_ids = tuple(sample_ids)
        self.source_rank = tensor.ndim
        self._cache: dict[Any, Any] = {}
        if mask is None:
            self.data = tensor
            self._axis_of = {axis: axis for axis in range(tensor.ndim)}
            self.segments = _equal_segments(tensor, len(self.sample_ids))
        else:
            self.data = tensor.movedim(mask_axes, (0, 1))[mask.to(tensor.device)]
            kept = [axis for axis in range(tensor.ndim) if axis not in mask_axes]
            self._axis_of = {axis: position + 1 for position, axis in enumerate(kept)}
            rows = mask.reshape(len(self.sample_ids), -1).sum(1)
            self.segments = tuple(int(n) for n in rows)

    @property
    def count(self) -> int:
        """Number of elements (padding left out)."""
        return self.data.numel()

    def axis(self, axis: int) -> int:
        """Where axis `axis` of the value is in `data` (the mask merges its two axes into axis 0)."""
        position = axis + self.source_rank if axis < 0 else axis
        if not 0 <= position < self.source_rank:
            raise CalibrationError(f"{self.name}: axis {axis} does not exist in rank {self.source_rank}")
        if position not in self._axis_of:
            raise CalibrationError(
                f"{self.name}: axis {axis} is a batch or sequence axis with padding, so it cannot be a "
                "channel axis; observe another axis or pass token_mask=None"
            )
        return self._axis_of[position]

    def bounds(self) -> tuple[float, float]:
        """(minimum, maximum) over all elements; raises on NaN or Inf. `count` must be positive."""
        if None not in self._cache:
            found = next(iter(self._axis_bounds()), None)
            low, high = (
                torch.aminmax(in_memory_order(self.data))
                if found is None
                else (found[0].min(), found[1].max())
            )
            self._cache[None] = self._finite(float(low), float(high))
        return self._cache[None]

    def channel_bounds(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """(minima, maxima), float32 [channels]; raises on NaN or Inf."""
        key = ("bounds", self.axis(axis))
        if key not in self._cache:
            rest = [a for a in range(self.data.ndim) if a != key[1]]
            low, high = (self.data.amin(rest), self.data.amax(rest)) if rest else (self.data, self.data)
            self._finite(float(low.min()), float(high.max()))
            self._cache[key] = (low, high)
        low, high = self._cache[key]
        return low.cpu().numpy(), high.cpu().numpy()

    def segment_bounds(self) -> list[tuple[float, float]]:
        """(minimum, maximum) of each sample that has elements, in order."""
        if len(self.segments) == 1:
            return [self.bounds()]
        self.bounds()
        pairs = [
            torch.aminmax(in_memory_order(part)) for part in self.data.split(self.segments) if part.numel()
        ]
        return [(float(low), float(high)) for low, high in pairs]

    def histogram(self, bins: int, every: int) -> tuple[int, int, np.ndarray]:
        """(exponent, start, counts) of each `every`-th element of a sample; see `histogram.py`."""
        key = ("histogram", bins, every)
        if key not in self._cache:
            self._cache[key] = _count(self._subset(every), *self.bounds(), bins)
        return self._cache[key]

    def _subset(self, every: int) -> torch.Tensor:
        if every == 1:
            return in_memory_order(self.data)
        # Per sample, so that the choice of elements does not depend on how samples are batched.
        return torch.cat([in_memory_order(part)[::every] for part in self.data.split(self.segments)])

    def _axis_bounds(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [v for k, v in self._cache.items() if isinstance(k, tuple) and k[0] == "bounds"]

    def _finite(self, low: float, high: float) -> tuple[float, float]:
        if math.isfinite(low) and math.isfinite(high):
            return low, high
        raise CalibrationError(self._describe_bad())

    def _describe_bad(self) -> str:
        where = self.sample_ids[0]
        for index, part in enumerate(self.data.split(self.segments)):
            if not bool(torch.isfinite(part).all()):
                where = self.sample_ids[index] if len(self.segments) == len(self.sample_ids) else where
                break
        nans = int(torch.isnan(self.data).sum())
        infs = int(torch.isinf(self.data).sum())
        several = len(self.segments) != len(self.sample_ids)
        samples = f"samples {self.sample_ids[0]} to {self.sample_ids[-1]}" if several else f"sample {where}"
        return (
            f"{self.name}: {nans} NaN and {infs} Inf values in {samples} of the calibration data "
            f"(tensor of {self.count} elements). Remove or repair the sample; if the value is a mask, "
            "leave it out of quantization with `ignore`."
        )


def _equal_segments(tensor: torch.Tensor, samples: int) -> tuple[int, ...]:
    if tensor.ndim == 0:
        return (1,)
    rows = tensor.shape[0]
    return (rows // samples,) * samples if rows % samples == 0 else (rows,)


def grid_exponent(low: float, high: float, bins: int) -> int:
    """Smallest e such that `bins` bins of width 2**e, edges at its multiples, cover [low, high].

    Not below -100 nor below log2(max|x|) - 22, so that float32 computes bin indices exactly. The result
    grows with [low, high] and depends on nothing else: this makes histograms independent of order.
    """
    top = max(abs(low), abs(high))
    exponent = max(-100, math.frexp(top)[1] - 22)
    spread = (high - low) / bins
    if spread > 0:
        exponent = max(exponent, math.frexp(spread)[1] - 1)
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= bins:
        exponent += 1
    return exponent


def _count(flat: torch.Tensor, low: float, high: float, bins: int) -> tuple[int, int, np.ndarray]:
    exponent = grid_exponent(low, high, bins)
    start = math.floor(math.ldexp(low, -exponent))
    length = math.floor(math.ldexp(high, -exponent)) - start + 1
    counts = torch.zeros(length, dtype=torch.int64, device=flat.device)
    for chunk in flat.split(_HISTOGRAM_CHUNK):
        # Multiplying by a power of two, floor and subtracting an integer below 2**23 are exact in float32,
        # except where a wide bin makes a tiny negative number underflow to -0, which belongs to bin -1.
        index = chunk.mul(2.0**-exponent).floor_()
        if exponent > 0 and low < 0:
            index -= ((index == 0) & (chunk < 0)).to(torch.float32)
        index = index.sub_(start).to(torch.int32)
        counts += torch.bincount(index, minlength=length)
    return exponent, start, counts.cpu().numpy()
