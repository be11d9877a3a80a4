"""Linear layers that compute with the codes of a checkpoint, put into a model of transformers."""

from __future__ import annotations

import numpy as np
import torch
from torch.ao.quantization.fx._decomposed import quantized_decomposed_lib  # noqa: F401  registers the op used below

from ..errors import UnsupportedError, UsageError
from .packed_checkpoint import PackedLinear


class CodedLinear(torch.nn.Module):
    """x W^T + b with W = scale * (codes - zero point)."""

    def __init__(self, packed: PackedLinear, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.low, self.high = packed.limits
        self.group = packed.group
        self.register_buffer("codes", torch.from_numpy(packed.codes))
        self.register_buffer("scale", torch.from_numpy(np.ascontiguousarray(packed.scale)))
        self.register_buffer("zero", torch.from_numpy(np.ascontiguousarray(packed.zero)))
        self.register_buffer("order", None if packed.order is None else torch.from_numpy(packed.order))
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., K] -> [..., N]."""
        if self.order is not None:
            x = x.index_select(-1, self.order)
        weight = torch.ops.quantized_decomposed.dequantize_per_channel_group(
            self.codes, self.scale, self.zero, self.low, self.high, self.codes.dtype, self.group, torch.float32
        )
        return torch.nn.functional.linear(x, weight, self.bias)


def put_in(model: torch.nn.Module, layers: dict[str, PackedLinear]) -> None:
    """Replace linear layers of a model by those of a checkpoint.

    Raises:
        UsageError: a layer that the model does not have, or of another size. UnsupportedError: it is no nn.Linear.
    """
    for path, packed in layers.items():
        parent_path, _, name = path.rpartition(".")
        try:
            parent = model.get_submodule(parent_path)
            old = parent.get_submodule(name)
        except AttributeError:
            raise UsageError(f"the checkpoint has a layer {path}, the model of its config has none") from None
        if not isinstance(old, torch.nn.Linear):
            raise UnsupportedError(f"{path} is a {type(old).__name__}; only linear layers are read from packed codes")
        if old.weight.shape != packed.codes.shape:
            raise UsageError(f"{path}: codes {packed.codes.shape} for a weight {tuple(old.weight.shape)}")
        setattr(parent, name, CodedLinear(packed, old.bias))
