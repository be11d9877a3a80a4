"""A small transformer encoder on token ids with a mask: every kind of layer that integer programs have rules for."""

from __future__ import annotations

import numpy as np

from qcompiler.calibration import Samples, load_samples
from qcompiler.ir import DType, Graph, Origin
from qcompiler.ir.dims import symbol
from support.toy_networks import Layers

VOCABULARY, WIDTH, HEADS = 37, 32, 4


def encoder(seed: int = 0, activation: str = "gelu", causal: bool = False, norm: str = "layer_norm") -> Graph:
    """Embedding, two pre-norm layers with masked attention and a gated product, pooled classifier."""
    b = Layers("encoder", seed)
    tokens = symbol("tokens")
    ids = b.input("ids", DType.int64, (1, tokens))
    given = b.input("attention_mask", DType.int64, (1, tokens))
    keep = b.op("reshape", b.op("cast", given, dtype=DType.bool), shape=(1, 1, 1, tokens))
    b.origin = Origin("embedding")
    x = b.op("gather", b.const(b.random(VOCABULARY, WIDTH)), ids)
    x = b.op("add", x, b.op("slice", b.const(b.random(64, WIDTH, scale=0.3)), axis=0, stop=tokens))
    for layer in range(2):
        x = b.op("add", x, _attention(b, _norm(b, x, norm, f"{layer}.norm1"), keep, tokens, causal, f"{layer}.attention"))
        h = _norm(b, x, norm, f"{layer}.norm2")
        up = b.linear(h, 2 * WIDTH, at=f"{layer}.up")
        b.origin = Origin(f"{layer}.act")
        h = b.op("mul", b.op(activation, up), b.const(np.linspace(0.5, 1.5, 2 * WIDTH).astype(np.float32)))
        x = b.op("add", x, b.linear(h, WIDTH, at=f"{layer}.down"))
    x = _norm(b, x, norm, "norm")
    return b.build([b.linear(x, 5, at="head"), x], ["logits", "hidden"])


def _norm(b: Layers, x, norm: str, at: str):
    b.origin = Origin(at)
    weight, bias = b.const(1 + b.random(WIDTH, scale=0.3)), b.const(b.random(WIDTH, scale=0.2))
    return b.op("layer_norm", x, weight, bias, eps=1e-5) if norm == "layer_norm" else b.op("rms_norm", x, weight, eps=1e-5)


def _attention(b: Layers, x, keep, tokens, causal: bool, at: str):
    parts = []
    for name, heads in (("q", HEADS), ("k", HEADS // 2), ("v", HEADS // 2)):
        y = b.linear(x, heads * WIDTH // HEADS, at=f"{at}.{name}")
        y = b.op("reshape", y, shape=(1, tokens, heads, WIDTH // HEADS))
        parts.append(b.op("transpose", y, perm=(0, 2, 1, 3)))
    b.origin = Origin(at)
    y = b.op("transpose", b.op("attention", *parts, keep, causal=causal), perm=(0, 2, 1, 3))
    return b.linear(b.op("reshape", y, shape=(1, tokens, WIDTH)), WIDTH, at=f"{at}.output")


def sentences(graph: Graph, count: int = 6, seed: int = 1, longest: int = 12) -> Samples:
    """Random ids of several lengths, some with padding at the end."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        length = int(rng.integers(4, longest))
        mask = np.ones((1, length), np.int64)
        mask[:, length - int(rng.integers(0, 3)) :] = 0
        found.append((rng.integers(0, VOCABULARY, (1, length)), mask))
    return load_samples(found, graph)
