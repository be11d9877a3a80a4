"""Fake-quantize modules of torch.ao and torchao, as they are exported: with the scales they have now.

Their forward looks at tensors to see whether they observe, learn or quantize, which no traced program can. While a
model is exported each is replaced by what it does in evaluation; the model is left as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

log = logging.getLogger("qcompiler.frontend")
_ATTRIBUTES = ("fake_quant_enabled", "scale", "zero_point", "quant_min", "quant_max")


class _Settled(torch.nn.Module):
    """Rounding with constant parameters."""

    def __init__(self, source: torch.nn.Module) -> None:
        super().__init__()
        self.low, self.high = int(source.quant_min), int(source.quant_max)  # type: ignore[arg-type]
        scale = source.scale.detach().to(torch.float32)  # type: ignore[union-attr, operator]
        # Learned zero points are real numbers, rounded where they are used.
        zero = source.zero_point.detach().round().clamp(self.low, self.high).to(torch.int32)  # type: ignore[union-attr, operator]
        axis = int(getattr(source, "ch_axis", -1))
        self.axis = axis if scale.numel() > 1 or (axis >= 0 and "per_channel" in str(getattr(source, "qscheme", ""))) else None
        shape = (-1,) if self.axis is not None else ()
        self.register_buffer("scale", scale.reshape(shape).clone())
        self.register_buffer("zero_point", zero.reshape(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.axis is None:
            return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, self.low, self.high)
        return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point, self.axis, self.low, self.high)


def is_fake_quantize(module: torch.nn.Module) -> bool:
    """True for a module with the switch, the scale and the limits of torch's fake quantizers."""
    return all(hasattr(module, name) for name in _ATTRIBUTES)


@contextmanager
def settled(model: torch.nn.Module) -> Iterator[None]:
    """The model with its fake quantizers replaced."""
    replaced: list[tuple[torch.nn.Module, str, torch.nn.Module]] = []
    try:
        for path, parent in list(model.named_modules()):
            for name, child in list(parent.named_children()):
                if not is_fake_quantize(child):
                    continue
                if bool(getattr(child, "observer_enabled", torch.zeros(1)).any()):
                    log.warning("%s.%s still observes; the scale it has now is taken", path, name)
                on = bool(torch.as_tensor(child.fake_quant_enabled).any())
                replaced.append((parent, name, child))
                parent._modules[name] = (_Settled(child) if on else torch.nn.Identity()).train(child.training)
        yield
    finally:
        for parent, name, child in replaced:
            parent._modules[name] = child
