"""Capture a module and compare the graph with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.frontend import capture
from qcompiler.ir import Graph, verify_graph


def max_rel(a: np.ndarray, b: np.ndarray) -> float:
    """max|a - b| / max|b|."""
    if a.size == 0 or np.array_equal(a, b):
        return 0.0
    return float(np.abs(a.astype(np.float64) - b).max() / max(np.abs(b).max(), 1e-30))


def tensors_of(results: Any) -> list[torch.Tensor]:
    """The tensors that a model returns, in order."""
    return [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]


def call(model: torch.nn.Module, inputs: Any) -> list[torch.Tensor]:
    """The model's own results; language models without their key-value cache."""
    with torch.no_grad():
        if isinstance(inputs, dict):
            extra = {"use_cache": False} if getattr(getattr(model, "config", None), "use_cache", False) else {}
            try:
                return tensors_of(model(**inputs, **extra))
            except TypeError:
                return tensors_of(model(**inputs))
        return tensors_of(model(*inputs))


def worst(graph: Graph, model: torch.nn.Module, inputs: Any) -> float:
    """Largest max_rel over the outputs of the torch executor."""
    values = [v for v in pytree.tree_leaves(inputs) if isinstance(v, torch.Tensor)]
    # A tensor that the model does not read is still an input of the graph.
    got = TorchExecutor(graph).run(values)
    wanted = call(model, inputs)
    assert len(got) == len(wanted), (len(got), len(wanted))
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
    return max(max_rel(a.numpy(), b.numpy()) for a, b in zip(got, wanted, strict=True))


def check(
    model: torch.nn.Module, inputs: Any, dynamic_shapes: Any = None, others: tuple[Any, ...] = (), bound: float = 1e-4
) -> Graph:
    """Capture, verify, compare at the example's sizes and at others; returns the graph."""
    model.eval()
    graph = capture(model, inputs, dynamic_shapes)
    verify_graph(graph)
    for sample in (inputs, *others):
        assert worst(graph, model, sample) <= bound
    return graph
