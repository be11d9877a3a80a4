"""The promised families: captured with dynamic dimensions, verified, equal to the module at several sizes."""

from __future__ import annotations

import pytest

from qcompiler.ir import parse_graph, print_graph, verify_graph
from qcompiler.ir.dims import is_symbolic
from support.architectures import LISTED

from .compare import check


@pytest.mark.parametrize("name", LISTED)
def test_listed_architecture(name: str) -> None:
    architecture = LISTED[name]
    model = architecture.make()
    samples = [architecture.sample(*size) for size in architecture.sizes]
    graph = check(model, samples[0], architecture.dynamic, tuple(samples[1:]))
    axes = architecture.dynamic.values() if isinstance(architecture.dynamic, dict) else architecture.dynamic
    assert graph.symbols() == {dim for axis in axes for dim in axis.values()}
    assert all(is_symbolic(value.shape[0]) for value in graph.inputs)
    assert sum(bool(n.origin.module) for n in graph.nodes) > len(graph.nodes) // 2
    text, arrays = print_graph(graph)
    again = parse_graph(text, arrays)
    verify_graph(again)
    assert print_graph(again)[0] == text
