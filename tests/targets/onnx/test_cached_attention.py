"""Attention over a key-value cache as GroupQueryAttention: the same numbers, and refused where it would not be."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import run_model

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Value
from qcompiler.ir.dims import symbol
from qcompiler.targets.onnx.emit import emit_model
from qcompiler.targets.onnx.emitter import Style

HEADS, KEY_HEADS, DEPTH = 4, 2, 8
FAST, PLAIN = Style(runtime_kernels=True), Style(runtime_kernels=True, plain=True)


def split(b: GraphBuilder, rows: Value, heads: int, batch: int) -> Value:
    length = rows.shape[1]
    return b.op("transpose", b.op("reshape", rows, shape=(batch, length, heads, DEPTH)), perm=(0, 2, 1, 3))


def cache_graph(*, batch: int = 1, doubled: bool = True, present: bool = True, causal: bool = False) -> Graph:
    """Rows of queries, keys and values, angles, a mask and a cache -> rows of results, and the new keys."""
    b, new, seen = GraphBuilder(), symbol("new"), symbol("seen")
    rows = [b.input(n, DType.float32, (batch, new, h * DEPTH)) for n, h in (("q", HEADS), ("k", KEY_HEADS), ("v", KEY_HEADS))]
    half = b.input("angles", DType.float32, (1, 1, new, DEPTH // 2))
    other = half if doubled else b.op("neg", half)
    table = b.op("concat", half, other, axis=3)
    cos, sin = b.op("cos", table), b.op("sin", table)
    mask = b.input("mask", DType.float32, (1, 1, new, new + seen))
    past = [b.input(n, DType.float32, (batch, KEY_HEADS, seen, DEPTH)) for n in ("past_keys", "past_values")]
    q, k, v = (split(b, r, h, batch) for r, h in zip(rows, (HEADS, KEY_HEADS, KEY_HEADS), strict=True))
    q, k = b.op("rotary", q, cos, sin), b.op("rotary", k, cos, sin)
    joined = [b.op("concat", a, c, axis=2) for a, c in zip(past, (k, v), strict=True)]
    y = b.op("attention", q, *joined, mask, causal=causal)
    y = b.op("reshape", b.op("transpose", y, perm=(0, 2, 1, 3)), shape=(batch, new, HEADS * DEPTH))
    return b.build([y, k] if present else [y])


def operands(new: int, seen: int, batch: int = 1, blind: bool = False) -> list[np.ndarray]:
    rng = np.random.default_rng(new + seen)
    shapes = [(batch, new, h * DEPTH) for h in (HEADS, KEY_HEADS, KEY_HEADS)]
    shapes += [(1, 1, new, DEPTH // 2), (1, 1, new, new + seen), *[(batch, KEY_HEADS, seen, DEPTH)] * 2]
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    if blind:
        arrays[4][..., 0, :] = -np.inf
    return arrays


def kernels(graph: Graph, style: Style = FAST) -> list[str]:
    return [n.op_type for n in emit_model(graph, style).proto.graph.node]


@pytest.mark.parametrize(
    ("new", "seen", "batch", "blind"), [(1, 5, 1, False), (4, 0, 1, False), (3, 2, 1, True), (3, 2, 2, False)]
)
def test_kernel_gives_what_the_reference_gives(new: int, seen: int, batch: int, blind: bool) -> None:
    graph, arrays = cache_graph(batch=batch), operands(new, seen, batch, blind)
    assert ({"GroupQueryAttention", "RotaryEmbedding"} <= set(kernels(graph))) == (batch == 1)
    with np.errstate(invalid="ignore"):
        expected = run_reference(graph, arrays)
    assert not blind or not expected[0][:, 0].any()
    for style in (FAST, PLAIN):
        for a, b in zip(run_model(emit_model(graph, style).proto, arrays), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # float32, sums in another order


def test_no_transposes_are_left_where_nothing_else_reads_the_heads() -> None:
    assert "Transpose" not in kernels(cache_graph(present=False))
    assert kernels(cache_graph()).count("Transpose") == 1  # of the keys that are returned
    assert "GroupQueryAttention" not in kernels(cache_graph(), PLAIN)


def test_tables_whose_halves_differ_are_turned_by_definition() -> None:
    graph, arrays = cache_graph(doubled=False), operands(2, 3)
    assert "RotaryEmbedding" not in kernels(graph) and "GroupQueryAttention" in kernels(graph)
    for a, b in zip(run_model(emit_model(graph, FAST).proto, arrays), run_reference(graph, arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_causal_mask_of_the_op_itself_counts_from_the_first_key_and_is_not_the_kernels() -> None:
    assert "GroupQueryAttention" not in kernels(cache_graph(causal=True))
