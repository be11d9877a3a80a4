"""Streaming, mergeable observers: what they have in common, and those that keep a minimum and a maximum.

Laws (tested): `a.merge(b)` leaves in `a` what observing the stream of `a` and then that of `b` gives.
- Exactly, bit for bit, and in any order and any batching: MinMax, all histogram observers, every count.
- Up to float64 rounding: MovingAverage (order matters), ChannelMoments and Covariance (order does not).
Empty tensors change nothing. NaN and Inf raise. Memory does not depend on the number of tensors observed.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from qcompiler.errors import CalibrationError

from .observation import Observation

if TYPE_CHECKING:
    from typing import Self

    from qcompiler.ir import DType

Bound: TypeAlias = "float | np.ndarray"


@dataclass
class Observer(ABC):
    """A statistic of one value. Constructor arguments are its configuration, which alone decides equality.

    count: elements observed.
    """

    count: int = field(default=0, init=False, compare=False)

    def observe(self, data: Observation | torch.Tensor | np.ndarray) -> None:
        """Take in one tensor of any shape (also empty).

        Raises:
            CalibrationError: the tensor holds NaN or Inf, or another number of channels than before.
        """
        observation = data if isinstance(data, Observation) else Observation(data)
        if observation.count:
            self._update(observation)
            self.count += observation.count

    def merge(self, other: Self) -> None:
        """Take in what `other`, of the same configuration, has observed; `other` is not changed.

        Raises:
            TypeError: `other` is of another kind or configuration.
        """
        if type(other) is not type(self) or other._config() != self._config():
            raise TypeError(f"cannot merge {self!r} with {other!r}: the configurations differ")
        if other.count:
            self._merge(other)
            self.count += other.count

    def fresh(self) -> Self:
        """A new observer with the same configuration that has observed nothing."""
        return type(self)(**self._config())

    def copy(self) -> Self:
        """An independent copy, data included."""
        return copy.deepcopy(self)

    def require_data(self) -> None:
        """Raise CalibrationError if nothing was observed."""
        if not self.count:
            raise CalibrationError(
                f"{type(self).__name__} observed no element: every calibration sample left this value empty"
            )

    def _config(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    @abstractmethod
    def _update(self, observation: Observation) -> None: ...

    @abstractmethod
    def _merge(self, other: Self) -> None: ...


@dataclass
class RangeObserver(Observer):
    """An observer that proposes a quantization range."""

    @abstractmethod
    def range(self, dtype: DType, symmetric: bool) -> tuple[Bound, Bound]:
        """(lo, hi) for codes of `dtype`; float per tensor, float32 [channels] per channel.

        symmetric: lo == -hi. Otherwise the range need not contain 0; `quant_params_from_range` widens it.

        Raises:
            CalibrationError: nothing was observed.
        """


def mirrored(lo: Bound, hi: Bound, symmetric: bool) -> tuple[Bound, Bound]:
    """The range itself, or the smallest one around it that is symmetric to zero."""
    if not symmetric:
        return lo, hi
    top = np.maximum(np.abs(lo), np.abs(hi))
    return (-top, top) if np.ndim(top) else (-float(top), float(top))


@dataclass
class MinMax(RangeObserver):
    """Smallest and largest element, per tensor or per channel of `axis`."""

    axis: int | None = None
    lo: Any = field(default=None, init=False, compare=False, repr=False)
    hi: Any = field(default=None, init=False, compare=False, repr=False)

    def _update(self, observation: Observation) -> None:
        bounds = observation.bounds() if self.axis is None else observation.channel_bounds(self.axis)
        self._widen(bounds[0], bounds[1], observation.name)

    def _merge(self, other: Self) -> None:
        self._widen(other.lo, other.hi, "merged observer")

    def _widen(self, lo: Any, hi: Any, name: str) -> None:
        if self.lo is None:
            self.lo, self.hi = copy.copy(lo), copy.copy(hi)
        elif self.axis is None:
            self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        else:
            require_channels(self.lo, lo, name)
            self.lo, self.hi = np.minimum(self.lo, lo), np.maximum(self.hi, hi)

    def range(self, dtype: DType, symmetric: bool) -> tuple[Bound, Bound]:
        self.require_data()
        return mirrored(self.lo, self.hi, symmetric)


@dataclass
class MovingAverage(RangeObserver):
    """Exponential moving average of the minima and maxima of samples (Jacob et al., arXiv:1712.05877, 3.1).

    After n samples with minima x_1..x_n: lo = sum(c (1-c)^(n-i) x_i) / (1 - (1-c)^n), c = `constant`. The
    division makes the weights sum to 1 from the first sample on and keeps merging exact: streams a, b give
    sum_ab = (1-c)^n_b sum_a + sum_b. Order matters, the batching of samples does not.
    """

    constant: float = 0.01
    samples: int = field(default=0, init=False, compare=False, repr=False)
    _sums: np.ndarray = field(default_factory=lambda: np.zeros(2), init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.constant <= 1:
            raise ValueError(f"constant must be in (0, 1], got {self.constant}")

    def _update(self, observation: Observation) -> None:
        for bounds in observation.segment_bounds():
            self._sums = (1 - self.constant) * self._sums + self.constant * np.array(bounds)
            self.samples += 1

    def _merge(self, other: Self) -> None:
        self._sums = (1 - self.constant) ** other.samples * self._sums + other._sums
        self.samples += other.samples

    def range(self, dtype: DType, symmetric: bool) -> tuple[Bound, Bound]:
        self.require_data()
        lo, hi = self._sums / (1 - (1 - self.constant) ** self.samples)
        return mirrored(float(lo), float(hi), symmetric)


def require_channels(before: np.ndarray, now: np.ndarray, name: str) -> None:
    """Raise CalibrationError if the number of channels changed."""
    if np.shape(before)[:1] != np.shape(now)[:1]:
        raise CalibrationError(
            f"{name}: {len(now)} channels, but earlier tensors of this value had {len(before)}; "
            "a channel axis must have a fixed size"
        )
