"""A small language model in 8 bits through the public API, run by ONNX Runtime and checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import qcompiler as qc

WINDOW, VOCABULARY = 24, 50


class Logits(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, use_cache=False).logits


@pytest.fixture(scope="module")
def language_model() -> Logits:
    """Two layers with grouped queries, gated MLPs and tied embeddings; one channel of the first MLP is massive."""
    from qcompiler.frontend.torchvision_schemas import declare_torchvision_schemas

    declare_torchvision_schemas()
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[5] *= 300
        model.model.layers[0].mlp.down_proj.weight[:, 5] /= 100
    return Logits(model)


def windows(count: int, seed: int) -> list[tuple[np.ndarray]]:
    r = np.random.default_rng(seed)
    return [(r.integers(0, VOCABULARY, (1, WINDOW)),) for _ in range(count)]


def compiled(model: Logits, **options: Any) -> Any:
    recipe = {"keep_head": True, "round_embeddings": False, "never_slower": False, **options.pop("recipe")}
    return qc.compile(
        model, (torch.zeros(1, 8, dtype=torch.long),), target="onnxruntime-cpu", recipe=recipe, evaluation=windows(4, 1),
        dynamic_shapes={"input_ids": {1: torch.export.Dim("seq", min=2, max=64)}}, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "notes"),
    [
        ({"base": "w8a8"}, {"smooth_activations"}),
        ({"base": "w8a8-mixed"}, {"choose_scheme", "smooth_activations"}),
    ],
    ids=["static", "mixed"],
)
def test_every_scheme_runs_verified_and_close_to_float(language_model: Logits, recipe: dict, notes: set[str]) -> None:
    result = compiled(language_model, recipe=recipe, calibration=windows(16, 0))
    taken = {step.name for step in result.steps if any(n.taken for n in step.notes)}
    assert notes <= taken
    assert result.report.accuracy.sqnr_db > 25
    (ids,) = windows(1, 9)[0]
    exact = language_model(torch.from_numpy(ids)).detach().numpy()
    found = result.run(ids)[0]
    assert np.square(found - exact).sum() < 10**-2.5 * np.square(exact).sum()
