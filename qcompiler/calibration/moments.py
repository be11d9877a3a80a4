"""First and second moments: per channel, and the covariance of the inputs of a linear or convolution layer.

Both keep a count n, a mean and the sum of squared deviations from it, in float64, and combine two sets by
the pairwise update of Chan, Golub and LeVeque (1979): with d = mean_b - mean_a,
    mean = mean_a + d n_b / n,   M2 = M2_a + M2_b + d d^T n_a n_b / n.
Within one tensor sums run in float32 around the tensor's own mean, so a large mean costs no digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

from qcompiler.errors import CalibrationError

from .observation import Observation
from .observers import Observer, require_channels

if TYPE_CHECKING:
    from typing import Self


@dataclass
class ChannelMoments(Observer):
    """Mean and mean square of every channel of `axis` (the whole tensor is one channel if None)."""

    axis: int | None = 1
    per_channel: int = field(default=0, init=False, compare=False, repr=False)  # elements of each channel
    _mean: Any = field(default=None, init=False, compare=False, repr=False)
    _m2: Any = field(default=None, init=False, compare=False, repr=False)

    def _update(self, observation: Observation) -> None:
        observation.bounds()  # raises on NaN and Inf
        data, axis = observation.data[None, ..., None], 0
        if self.axis is not None:
            axis = observation.axis(self.axis) + 1
        rest = [i for i in range(data.ndim) if i != axis]
        mean = data.mean(rest, keepdim=True)
        m2 = (data - mean).square_().sum(rest)
        self._add(data.numel() // data.shape[axis], _float64(mean.flatten()), _float64(m2), observation.name)

    def _merge(self, other: Self) -> None:
        self._add(other.per_channel, other._mean, other._m2, "merged observer")

    def _add(self, n: int, mean: np.ndarray, m2: np.ndarray, name: str) -> None:
        if self._mean is None:
            self.per_channel, self._mean, self._m2 = n, mean.copy(), m2.copy()
            return
        require_channels(self._mean, mean, name)
        total = self.per_channel + n
        delta = mean - self._mean
        self._mean += delta * (n / total)
        self._m2 += m2 + delta**2 * (self.per_channel * (n / total))
        self.per_channel = total

    @property
    def mean(self) -> np.ndarray:
        """float64 [channels]."""
        self.require_data()
        return self._mean

    @property
    def variance(self) -> np.ndarray:
        """Population variance, float64 [channels]."""
        self.require_data()
        return self._m2 / self.per_channel

    @property
    def mean_square(self) -> np.ndarray:
        """Mean of x**2, float64 [channels]."""
        return self.variance + self.mean**2


@dataclass(frozen=True)
class LinearInput:
    """The rows that a matrix product sees: vectors along `axis`. One group of K = size of the axis."""

    axis: int = -1


@dataclass(frozen=True)
class ConvInput:
    """The rows that a convolution over [N, C, *spatial] sees: one patch per output position (im2col).

    kernel, stride, dilation: one number per spatial axis. padding: (before, after) per spatial axis, with
    zeros. K = C / groups * prod(kernel), ordered as `weight.reshape(out_channels, -1)`.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def __post_init__(self) -> None:
        if not len(self.kernel) == len(self.stride) == len(self.padding) == len(self.dilation):
            raise ValueError(f"kernel, stride, padding and dilation must have equal length, got {self}")


_PATCH_ELEMENTS = 1 << 23  # 32 MiB of float32

LayerInput: TypeAlias = LinearInput | ConvInput


@dataclass
class Covariance(Observer):
    """Centred second moment of a layer's input rows, per group of channels.

    The Hessian of the layer's squared output error is 2 X^T X (Frantar et al., arXiv:2210.17323, section 3).

    max_rows: if set, about that many evenly spaced output positions of a sample are used (convolution) or
        evenly spaced rows (linear): neighbours say nearly the same.
    Memory: groups * K * K float64.
    """

    layer: LayerInput = LinearInput()
    max_rows: int | None = None
    rows: int = field(default=0, init=False, compare=False, repr=False)  # rows per group
    _mean: Any = field(default=None, init=False, compare=False, repr=False)
    _m2: Any = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.max_rows is not None and self.max_rows < 1:
            raise ValueError(f"max_rows must be positive, got {self.max_rows}")

    def _update(self, observation: Observation) -> None:
        observation.bounds()  # raises on NaN and Inf
        for rows in layer_rows(observation, self.layer, self.max_rows):
            mean = rows.mean(1, keepdim=True)
            centred = rows - mean
            gram = centred.transpose(1, 2) @ centred
            self._add(rows.shape[1], _float64(mean[:, 0]), _float64(gram), observation.name)

    def _merge(self, other: Self) -> None:
        self._add(other.rows, other._mean, other._m2, "merged observer")

    def _add(self, n: int, mean: np.ndarray, m2: np.ndarray, name: str) -> None:
        if self._mean is None:
            self.rows, self._mean, self._m2 = n, mean.copy(), m2.copy()
            return
        require_channels(self._mean.T, mean.T, name)
        total = self.rows + n
        delta = mean - self._mean
        self._m2 += m2
        self._m2 += (self.rows * (n / total)) * delta[:, :, None] * delta[:, None, :]
        self._mean += delta * (n / total)
        self.rows = total

    @property
    def mean(self) -> np.ndarray:
        """Mean row, float64 [groups, K]."""
        self.require_data()
        return self._mean

    @property
    def covariance(self) -> np.ndarray:
        """E[(x - mean)(x - mean)^T], float64 [groups, K, K]."""
        self.require_data()
        return self._m2 / self.rows

    @property
    def second_moment(self) -> np.ndarray:
        """E[x x^T] = X^T X / rows, float64 [groups, K, K]."""
        return self.covariance + self.mean[:, :, None] * self.mean[:, None, :]


def layer_rows(
    observation: Observation, layer: LayerInput, max_rows: int | None = None
) -> Iterator[torch.Tensor]:
    """The rows a layer sees, float32 [groups, rows, K], in pieces of bounded size.

    Raises:
        CalibrationError: the rank or the number of channels does not fit the layer.
    """
    if isinstance(layer, LinearInput):
        yield _linear_rows(observation, layer, max_rows)
        return
    growth = int(np.prod(layer.kernel))
    for part in observation.data.split(observation.segments):
        # Samples of a segment are convolved one after another where their patches would need much memory.
        size = max(1, part[:1].numel() * growth)
        for piece in part.split(max(1, _PATCH_ELEMENTS // size)):
            if piece.numel():
                rows = _patches(piece, layer, max_rows, observation.name)
                if rows.shape[1]:
                    yield rows


def _linear_rows(observation: Observation, layer: LinearInput, max_rows: int | None) -> torch.Tensor:
    data = observation.data
    axis = observation.axis(layer.axis)
    if data.ndim == 1:
        return data[None, None]
    if max_rows is None:
        return data.movedim(axis, -1).flatten(0, -2)[None]
    parts = [
        part.movedim(axis, -1).flatten(0, -2) for part in data.split(observation.segments) if part.numel()
    ]
    return torch.cat([part[:: max(1, -(-len(part) // max_rows))] for part in parts])[None]


def _patches(part: torch.Tensor, layer: ConvInput, max_rows: int | None, name: str) -> torch.Tensor:
    spatial = len(layer.kernel)
    if part.ndim != spatial + 2 or part.shape[1] % layer.groups:
        raise CalibrationError(
            f"{name}: a convolution with {layer.groups} group(s) and a {spatial}-d kernel takes [N, C"
            f"{', ...' if spatial else ''}] with C divisible by the groups, got {tuple(part.shape)}"
        )
    view = F.pad(part, [p for pair in reversed(layer.padding) for p in pair])
    for i in range(spatial):
        window = (layer.kernel[i] - 1) * layer.dilation[i] + 1
        if view.shape[2 + i] < window:
            return part.new_zeros(layer.groups, 0, 0)
        view = view.unfold(2 + i, window, layer.stride[i])[..., :: layer.dilation[i]]
    positions = part.shape[0] * int(np.prod(view.shape[2 : 2 + spatial]))
    if max_rows is not None and positions > max_rows:
        step = int(np.ceil((positions / max_rows) ** (1 / spatial)))
        view = view[(slice(None), slice(None), *([slice(None, None, step)] * spatial))]
    # [N, G, C/G, *out, *kernel] -> [G, N, *out, C/G, *kernel]
    view = view.unflatten(1, (layer.groups, part.shape[1] // layer.groups))
    out = list(range(3, 3 + spatial))
    kernel = list(range(3 + spatial, 3 + 2 * spatial))
    view = view.permute(1, 0, *out, 2, *kernel)
    return view.flatten(1, 1 + spatial).flatten(2)


def _float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().numpy().astype(np.float64)
