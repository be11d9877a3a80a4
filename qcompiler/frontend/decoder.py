"""A causal language model of transformers as a function with its key-value cache outside: state in, state out.

    logits [1, 1, V], present [new, 2 layers, heads, size]  =  decoder(input_ids [1, new], past [seen, 2 layers, heads, size])

One graph serves the prompt (nothing seen) and every step of decoding (one new token). `present` holds the keys and
values of the new tokens only; the caller appends them to `past`. Positions come first, so that appending is writing
behind what is there, and a longer `past` is the same memory. Layer i has its keys at 2 i and its values at 2 i + 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedError

EXAMPLE_NEW, EXAMPLE_PAST = 3, 5
"""Sizes to trace with: not equal, and none of them 0 or 1, which tracing would take for constants."""


class _Appending:
    """What attention layers see of the cache: `update` gives all keys and values, and keeps the new ones."""

    is_compileable = False

    def __init__(self, past: Tensor) -> None:
        self.past = past
        self.new: list[Tensor] = []

    def update(self, keys: Tensor, values: Tensor, layer: int, *rest: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Keys and values [1, heads, new, size] behind the past ones."""
        if len(self.new) != 2 * layer:
            raise UnsupportedError(f"layer {layer} asks for the cache out of turn, after {len(self.new) // 2} layers")
        found = []
        for index, fresh in ((2 * layer, keys), (2 * layer + 1, values)):
            self.new.append(fresh)
            seen = self.past[:, index].transpose(0, 1)[None]
            found.append(torch.cat([seen, fresh], dim=2))
        return found[0], found[1]

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens seen."""
        return self.past.shape[0]

    def present(self) -> Tensor:
        """[new, 2 layers, heads, size]."""
        return torch.stack([t[0] for t in self.new]).permute(2, 0, 1, 3)


class CachedDecoder(torch.nn.Module):
    """Wraps a causal language model of transformers; see the module docstring.

    Raises:
        UnsupportedError: the model is none with a decoder of equal layers below `model` and a head `lm_head`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config
        if not hasattr(model, "model") or not hasattr(model, "lm_head") or not hasattr(config, "num_key_value_heads"):
            raise UnsupportedError(
                f"{type(model).__name__} is no causal language model with `model` and `lm_head`; models built like Llama are"
            )
        if getattr(config, "sliding_window", None) is not None:
            raise UnsupportedError(f"{type(model).__name__} attends to a window of its past; a cache of all of it is kept here")
        self.model, self.lm_head = model.model, model.lm_head
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.state_shape = (2 * config.num_hidden_layers, int(config.num_key_value_heads), int(size))

    def forward(self, input_ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the last token, and keys and values of the new tokens."""
        seen, new = past.shape[0], input_ids.shape[1]
        positions = seen + torch.arange(new, device=input_ids.device)
        hidden = torch.arange(seen + new, device=input_ids.device)[None, :] > positions[:, None]
        mask = torch.zeros(hidden.shape, dtype=past.dtype).masked_fill(hidden, torch.finfo(past.dtype).min)
        cache = _Appending(past)
        output = self.model(
            input_ids=input_ids, attention_mask=mask[None, None], position_ids=positions[None], past_key_values=cache, use_cache=True
        )
        return self.lm_head(output.last_hidden_state[:, -1:]), cache.present()

    def example(self, longest: int = 2048) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
        """Example inputs, and dynamic shapes for up to `longest` new tokens behind as many."""
        ids = torch.zeros(1, EXAMPLE_NEW, dtype=torch.long)
        past = torch.zeros(EXAMPLE_PAST, *self.state_shape)
        new, seen = (torch.export.Dim(name, min=low, max=longest) for name, low in (("new", 1), ("seen", 0)))
        return (ids, past), {"input_ids": {1: new}, "past": {0: seen}}
