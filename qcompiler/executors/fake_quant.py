"""Fake quantization in torch: what a real number becomes when it is stored as a code.

The arithmetic is `QuantParams.quantize` and `dequantize`, step by step in float32, so that a fake-quantized
run sees the same numbers as the integer program. Gradients use the straight-through estimator (Bengio et al.
2013): 1 where the code is inside its type's range, 0 where it saturates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from qcompiler.ir import Node, QuantParams, Value

if TYPE_CHECKING:
    from qcompiler.passes.quantize.plan import QuantPlan


class FakeQuant:
    """Rounds tensors to the grid of fixed parameters; callable on a tensor, differentiable."""

    def __init__(self, quant: QuantParams, shape: tuple[int, ...], device: torch.device) -> None:
        self.quant = quant
        self.low: Any
        self.high: Any
        if quant.per_tensor:
            # numpy's float32 -> float is exact, and torch rounds a scalar operand back to float32
            self.scale: Any = float(quant.scale)
            self.low = float(quant.dtype.min - int(quant.zero_point))
            self.high = float(quant.dtype.max - int(quant.zero_point))
        else:
            zero = quant.broadcast(quant.zero_point, shape).astype(np.float32)
            self.scale = torch.tensor(quant.broadcast(quant.scale, shape), device=device)
            self.low = torch.tensor(quant.dtype.min - zero, device=device)
            self.high = torch.tensor(quant.dtype.max - zero, device=device)

    def __call__(self, x: Tensor, overwrite: bool = False) -> Tensor:
        """The rounded tensor, in x's dtype; `overwrite` may use x's memory."""
        if torch.is_grad_enabled() and x.requires_grad:
            result: Tensor = _StraightThrough.apply(x, self.scale, self.low, self.high)
            return result
        return _round(x, self.scale, self.low, self.high, overwrite)


def _round(x: Tensor, scale: Any, low: Any, high: Any, overwrite: bool = False) -> Tensor:
    single = x if x.dtype == torch.float32 else x.to(torch.float32)
    steps = single.div_(scale) if overwrite and single is x else single / scale
    y = steps.round_().clamp_(low, high).mul_(scale)
    return y if y.dtype == x.dtype else y.to(x.dtype)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Any, low: Any, high: Any) -> Tensor:
        steps = (x.to(torch.float32) / scale).round_()
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return steps.clamp_(low, high).mul_(scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None


def fake_quant_dynamic(x: Tensor, granularity: str, group_size: int | None = None, bits: int = 8) -> Tensor:
    """X rounded by its own range, as `dynamic_codes` of the op table does; gradient 1 everywhere.

    `tensor`: uint8 with a zero point, range includes 0. `token`: symmetric per row of the last axis. `group`: per row
    and `group_size` elements of it; with 16 bits, what rounding left is rounded so once more.
    """
    with torch.no_grad():
        single = x.detach().to(torch.float32)
        rounded = _by_group(single, group_size) if granularity == "group" else _dynamic(single, granularity)
        if bits == 16:
            rounded = rounded + _by_group(single - rounded, group_size)
        rounded = rounded.to(x.dtype)
    return x + (rounded - x).detach() if torch.is_grad_enabled() and x.requires_grad else rounded


def _dynamic(x: Tensor, granularity: str) -> Tensor:
    if granularity == "token":
        peak = x.abs().amax(-1, keepdim=True) if x.shape[-1] else x.new_zeros((*x.shape[:-1], 1))
        scale, zero = torch.where(peak > 0, peak / 127, torch.ones_like(peak)), x.new_tensor(128.0)
    else:
        low, high = (x.new_zeros(()),) * 2 if x.numel() == 0 else (x.min().clamp(max=0), x.max().clamp(min=0))
        scale = torch.where(high > low, (high - low) / 255, torch.ones_like(high))
        zero = (-low / scale).round_().clamp_(0, 255)
    return ((x / scale).round_().add_(zero).clamp_(0, 255).sub_(zero)).mul_(scale)


def _by_group(x: Tensor, group_size: int | None) -> Tensor:
    assert group_size is not None
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % group_size))
    return _dynamic(padded.unflatten(-1, (-1, group_size)), "token").flatten(-2)[..., : x.shape[-1]]


class PlanView:
    """A QuantPlan as the executor applies it: read anew at every run, rounded weights cached as tensors."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self._quantizers: dict[Value, FakeQuant] = {}
        self._tensors: dict[tuple[Node, str], tuple[Any, Tensor]] = {}

    def quantizer(self, plan: QuantPlan, value: Value) -> FakeQuant | None:
        """The rounding of a value, None where the plan has no parameters for it (yet)."""
        quant = plan.activations.get(value)
        if quant is None:
            return None
        known = self._quantizers.get(value)
        if known is None or known.quant is not quant:
            known = FakeQuant(quant, value.shape, self.device)
            self._quantizers[value] = known
        return known

    def weight(self, plan: QuantPlan, node: Node) -> Tensor | None:
        """The node's rounded weight."""
        codes = plan.weights.get(node)
        return None if codes is None else self._tensor(node, "weight", codes, codes.real)

    def bias(self, plan: QuantPlan, node: Node) -> Tensor | None:
        """The node's replaced bias."""
        bias = plan.biases.get(node)
        return None if bias is None else self._tensor(node, "bias", bias, lambda: bias)

    def _tensor(self, node: Node, what: str, source: Any, make: Any) -> Tensor:
        known = self._tensors.get((node, what))
        if known is None or known[0] is not source:
            tensor = torch.tensor(np.asarray(make()), dtype=self.dtype, device=self.device)
            if tensor.ndim == 4:  # as the executor holds filters: torch's channels-last convolutions are faster
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            known = (source, tensor)
            self._tensors[node, what] = known
        return known[1]


def weight_operand(node: Node, shape: tuple[int, ...]) -> int:
    """Index of the constant operand that codes of `shape` stand for; -1 if there is none."""
    for index, value in enumerate(node.inputs):
        if value is not None and value.is_const and value.shape == tuple(shape):
            return index
    return -1
