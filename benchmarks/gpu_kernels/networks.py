"""Whole networks for the CUDA targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

TOKENS, WORDS = 128, 2000
NETWORKS = {
    "resnet8": "w8a8-int",
    "minilm-layer": "w8a8-int",
    "minilm-layer-w8a8": "w8a8",
    "minilm-layer-w8a8-dynamic": "w8a8-dynamic",
    "smollm2-layer-w4a16": "w4a16",
    "smollm2-layer-w4a8": "w4a8",
}
"""Recipe by network."""


def compile_network(name: str, samples: int, batch: int = 1, layers: int = 1, target: str = "cuda-sm80") -> tuple[Any, list[tuple[np.ndarray, ...]]]:
    """The compiled network and samples that it was not calibrated with."""
    import qcompiler as qc

    if name == "resnet8":
        module, example, calibration, given = resnet8(samples)
    elif name.startswith("smollm2"):
        module, example, calibration, given = smollm2(samples, layers)
    else:
        module, example, calibration, given = minilm(samples, batch, layers)
    compiled = qc.compile(module, example, target=target, recipe=NETWORKS[name], calibration=calibration, progress=False)
    return compiled, given


def resnet8(samples: int) -> tuple[Any, Any, Sequence[tuple[np.ndarray, ...]], list[tuple[np.ndarray, ...]]]:
    """The trained network of the benchmarks."""
    from benchmarks.models import MODELS

    model = MODELS["resnet8"]
    module, example = model.load()
    images, _ = model.evaluation()
    return module, example, [(x[None],) for x in model.calibration(64)], [(x[None],) for x in images[:samples]]


def minilm(samples: int, batch: int = 1, layers: int = 1) -> tuple[Any, Any, Sequence[tuple[np.ndarray, ...]], list[tuple[np.ndarray, ...]]]:
    """The pretrained encoder cut to `layers`, with 2,000 of its words; 128 random tokens, masked to several lengths."""
    import torch

    from benchmarks.workloads import WORKLOADS

    module, _ = WORKLOADS["minilm-l6"].load()
    module.bert.encoder.layer = module.bert.encoder.layer[:layers]
    module.bert.config.num_hidden_layers = layers
    words = torch.nn.Embedding(WORDS, module.bert.config.hidden_size)
    words.weight.data = module.bert.embeddings.word_embeddings.weight.data[1000 : 1000 + WORDS].clone()
    module.bert.embeddings.word_embeddings = words
    rng = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        mask = (np.arange(TOKENS) < rng.integers(16, TOKENS + 1, (batch, 1))).astype(np.int64)
        return rng.integers(0, WORDS, (batch, TOKENS)), mask

    example = tuple(torch.tensor(a) for a in draw())
    return module, example, [draw() for _ in range(6)], [draw() for _ in range(samples)]


def smollm2(samples: int, layers: int = 1, tokens: int = 16, words: int = 1000) -> tuple[Any, Any, Sequence[tuple[np.ndarray, ...]], list[tuple[np.ndarray, ...]]]:
    """The pretrained language model cut to `layers` and its first words; random tokens."""
    import torch

    from benchmarks.llm_rows import logits_module
    from benchmarks.smollm2 import load_model

    model = load_model()
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    table = torch.nn.Parameter(model.model.embed_tokens.weight.data[:words].clone())
    model.model.embed_tokens.weight = model.lm_head.weight = table
    rng = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, ...]:
        return (rng.integers(0, words, (1, tokens)),)

    return logits_module(model), (torch.tensor(draw()[0]),), [draw() for _ in range(6)], [draw() for _ in range(samples)]
