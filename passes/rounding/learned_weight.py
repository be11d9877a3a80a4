"""A weight whose rounding is learned by gradients: how codes follow from parameters, and how these are updated.

    AdaRound     code = clip(floor(w / s + z) + h(v)),  h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1)
                 penalty  mean(1 - |2 h(v) - 1|^beta), beta from 20 to 2; Adam
    SignRound    code = clip(round(w / (a s) + v) + z),  v in [-1/2, 1/2], a in [0.5, 1.2] per scale
                 steps of the gradient's sign, their size falling to 0

(Nagel et al., arXiv:2004.10568, section 3.3; Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent",
arXiv:2309.05516, section 3.) Rounding passes gradients straight through. Zero points stay what they are.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from qcompiler.ir import QuantParams
from qcompiler.passes.quantize.plan import WeightCodes


class LearnedWeight(ABC):
    """One weight while it is learned.

    Args:
        weight: real, as the node has it.
        start: codes and grid to begin from.
    """

    def __init__(self, weight: np.ndarray, start: WeightCodes) -> None:
        quant = start.quant
        self.quant, self.exact = quant, torch.from_numpy(np.array(weight, np.float32))
        self.scale = _spread(quant, quant.scale, weight.shape)
        self.zero = _spread(quant, quant.zero_point, weight.shape)
        # A symmetric grid has as many codes below 0 as above, unless it is begun with all of them.
        narrow = -quant.dtype.max if quant.dtype.is_signed else 0
        self.low, self.high = min(narrow, int(start.codes.min(initial=0))), quant.dtype.max

    @abstractmethod
    def real(self) -> Tensor:
        """The weight that the parameters stand for, differentiable."""

    @abstractmethod
    def codes(self) -> WeightCodes:
        """The codes that the parameters have arrived at."""

    def penalty(self, share: float) -> Tensor | None:
        """What is added to the loss after `share` (0 to 1) of the steps; None for nothing."""
        return None

    @abstractmethod
    def start_step(self) -> None:
        """Forget the gradients of the last step."""

    @abstractmethod
    def step(self, share: float) -> None:
        """Update the parameters along their gradients, after `share` of the steps."""

    def _stored(self, codes: Tensor, quant: QuantParams) -> WeightCodes:
        return WeightCodes(codes.clamp(self.low, self.high).numpy().astype(quant.dtype.numpy), quant)


class AdaRoundWeight(LearnedWeight):
    """Each code one of the two neighbours of w / s; the grid stays."""

    def __init__(self, weight: np.ndarray, start: WeightCodes, rate: float, warm_up: float) -> None:
        super().__init__(weight, start)
        self.warm_up = warm_up
        steps = self.exact / self.scale + self.zero
        self.down = steps.floor().clamp_(self.low, self.high - 1)
        part = (steps - self.down).clamp_(0.01, 0.99)
        self.v = torch.log((part + 0.1) / (1.1 - part)).requires_grad_()
        self.optimizer = torch.optim.Adam([self.v], rate)

    def _up(self) -> Tensor:
        return (1.2 * torch.sigmoid(self.v) - 0.1).clamp(0, 1)

    def real(self) -> Tensor:
        return (self.down + self._up() - self.zero) * self.scale

    def codes(self) -> WeightCodes:
        return self._stored(self.down + (self.v.detach() > 0), self.quant)

    def penalty(self, share: float) -> Tensor | None:
        if share < self.warm_up:
            return None
        late = (share - self.warm_up) / (1 - self.warm_up)
        beta = 2 + 9 * (1 + math.cos(late * math.pi))
        return (1 - (2 * self._up() - 1).abs().pow(beta)).mean()

    def start_step(self) -> None:
        self.optimizer.zero_grad()

    def step(self, share: float) -> None:
        self.optimizer.step()


class SignRoundWeight(LearnedWeight):
    """An offset per weight, at most half a step, and a factor on every scale."""

    FACTORS = (0.5, 1.2)

    def __init__(
        self, weight: np.ndarray, start: WeightCodes, rate: float, floor: np.ndarray | None = None
    ) -> None:
        """floor: smallest admissible scales, of the scales' shape; None for no limit."""
        super().__init__(weight, start)
        self.rate = rate
        least = np.full(start.quant.scale.shape, self.FACTORS[0], np.float32)
        if floor is not None:
            least = np.clip(floor / np.abs(start.quant.scale), least, 1).astype(np.float32)
        self.least = torch.from_numpy(least)
        self.v = torch.zeros_like(self.exact).requires_grad_()
        self.factor = torch.ones(start.quant.scale.shape).requires_grad_()

    def _factors(self) -> Tensor:
        """The factors, one per weight."""
        return _spread_tensor(self.quant, self.factor, self.exact.shape)

    def _steps(self, scale: Tensor) -> Tensor:
        steps = self.exact / scale + self.v
        rounded = steps + (steps.round() - steps).detach()
        return (rounded + self.zero).clamp(self.low, self.high)

    def real(self) -> Tensor:
        scale = self.scale * self._factors()
        return (self._steps(scale) - self.zero) * scale

    def codes(self) -> WeightCodes:
        quant = self.quant
        grid = QuantParams(
            quant.dtype, (quant.scale * self.factor.detach().numpy()).astype(np.float32), quant.zero_point, quant.axis,
            quant.group_size,
        )  # fmt: skip
        with torch.no_grad():
            # The grid as it will be stored: its float32 scales decide what the codes are.
            return self._stored(self._steps(_spread(grid, grid.scale, tuple(self.exact.shape))), grid)

    def start_step(self) -> None:
        self.v.grad = self.factor.grad = None

    def step(self, share: float) -> None:
        with torch.no_grad():
            for parameter in (self.v, self.factor):
                if parameter.grad is not None:
                    parameter.sub_(self.rate * (1 - share) * parameter.grad.sign())
            self.v.clamp_(-0.5, 0.5)
            self.factor.copy_(self.factor.clamp(max=self.FACTORS[1]).maximum(self.least))


def _spread(quant: QuantParams, values: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Scales or zero points as one number per weight, float32."""
    return torch.from_numpy(np.array(np.broadcast_to(quant.broadcast(values, shape), shape), np.float32))


def _spread_tensor(quant: QuantParams, values: Tensor, shape: torch.Size) -> Tensor:
    """The same, differentiable: by index, as every weight knows the number of its scale."""
    numbers = np.arange(values.numel()).reshape(tuple(values.shape))
    index = np.broadcast_to(quant.broadcast(numbers, tuple(shape)), tuple(shape))
    return values.flatten()[torch.from_numpy(np.array(index, np.int64))]
