"""Captured models: composite ops are found, nothing of their formulas is left, the function stays, dynamic shapes too."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils import _pytree as pytree

from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.frontend import capture
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.canonicalize import canonicalize_passes
from support.architectures import LISTED

# Composite ops by count in the canonical graph, and ops of which none may be left.
LAYERS = 2
EXPECTED: dict[str, tuple[dict[str, int], str]] = {
    "mobilenetv3_small_100": ({"conv": 53, "hard_swish": 19, "hard_sigmoid": 9}, "batch_norm clip div"),
    "repvgg_a0": ({"conv": 22, "relu": 22}, "batch_norm add mul"),
    "swin_tiny_patch4_window7_224": ({"attention": 4, "gelu": 4, "linear": 18}, "matmul softmax mul"),
    "bert": ({"attention": LAYERS, "gelu": LAYERS, "layer_norm": 2 * LAYERS + 1}, "matmul softmax erf mul"),
    "llama": (
        {"attention": LAYERS, "rotary": 2 * LAYERS, "rms_norm": 2 * LAYERS + 1, "silu": LAYERS},
        "neg rsqrt sigmoid",
    ),
    "phi": ({"attention": LAYERS, "rotary": 2 * LAYERS, "gelu": LAYERS}, "neg tanh pow"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_composites_are_found_and_nothing_is_left(name: str) -> None:
    architecture = LISTED[name]
    samples = [architecture.sample(*size) for size in architecture.sizes]
    graph = capture(architecture.make().eval(), samples[0], architecture.dynamic)
    new, _ = run_passes(graph, canonicalize_passes(), Context(), verify_each=True)
    counts = Counter(n.op for n in new.nodes)
    composites, gone = EXPECTED[name]
    assert {op: counts[op] for op in composites} == composites
    assert not [op for op in gone.split() if counts[op]], counts
    for sample in samples:
        inputs = [v for v in pytree.tree_leaves(sample) if isinstance(v, torch.Tensor)]
        for got, wanted in zip(TorchExecutor(new).run(inputs), TorchExecutor(graph).run(inputs), strict=True):
            assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert run_passes(new, canonicalize_passes(), Context())[0] is new
    # Folded position tables may add a little; no weight is stored twice.
    assert sum(v.data.nbytes for v in new.constants()) <= 1.05 * sum(v.data.nbytes for v in graph.constants())
