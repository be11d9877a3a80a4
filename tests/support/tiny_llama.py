"""A random decoder of two layers: RMS norm, rotary embeddings, grouped queries, gated MLP, tied embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from qcompiler.frontend.torchvision_schemas import declare_torchvision_schemas

VOCABULARY, LENGTH = 512, 32


def tiny_llama() -> Any:
    """LlamaForCausalLM, in evaluation mode; weights large enough that attention is not uniform."""
    declare_torchvision_schemas()
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=VOCABULARY, tie_word_embeddings=True, max_position_embeddings=128,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter *= 3
    return model


class _Logits(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.lm_head = model.model, model.lm_head

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.model(input_ids=input_ids, use_cache=False).last_hidden_state)


def logits_model() -> torch.nn.Module:
    """The decoder as a function of token ids alone."""
    return _Logits(tiny_llama())


def sequence() -> torch.export.Dim:
    """The symbolic length of a sequence."""
    return torch.export.Dim("seq", min=2, max=128)


def calibration(count: int = 8, seed: int = 1) -> list[tuple[np.ndarray]]:
    """Random windows of token ids."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, VOCABULARY, (1, LENGTH)),) for _ in range(count)]
