"""Attention of an unknown number of queries over a cache: one kernel beside the reference."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm")

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Level
from qcompiler.ir.dims import symbol
from qcompiler.targets import get_target
from support.tvm_programs import session_of

SIZE = 32
MASKS = ("none", "real", "bool", "causal")


def cached(mask: str, heads: int = 4, key_heads: int = 2) -> Graph:
    """Queries of `new` tokens over `seen` + `new` keys, in the layouts of a decoder's cache."""
    new, seen = symbol("new"), symbol("seen")
    b = GraphBuilder("cached", Level.FLOAT)
    q = b.input("q", DType.float32, (1, new, heads, SIZE))
    past = b.input("past", DType.float32, (seen, 6, key_heads, SIZE))
    fresh = [b.input(name, DType.float32, (1, key_heads, new, SIZE)) for name in ("k", "v")]
    given = {"real": DType.float32, "bool": DType.bool}.get(mask)
    held = None if given is None else b.input("mask", given, (1, 1, new, seen + new))
    joined = []
    for index, value in enumerate(fresh):
        part = b.op("slice", past, axis=1, start=index + 3, stop=index + 4, step=1)
        part = b.op("transpose", b.op("reshape", part, shape=(seen, key_heads, SIZE)), perm=(1, 0, 2))
        joined.append(b.op("concat", b.op("reshape", part, shape=(1, key_heads, seen, SIZE)), value, axis=2))
    y = b.op("attention", b.op("transpose", q, perm=(0, 2, 1, 3)), *joined, held, scale=None, causal=mask == "causal")
    return b.build([b.op("transpose", y, perm=(0, 2, 1, 3))])


def inputs(mask: str, new: int, seen: int, heads: int = 4, key_heads: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(new + 100 * seen)
    shapes = [(1, new, heads, SIZE), (seen, 6, key_heads, SIZE), *[(1, key_heads, new, SIZE)] * 2]
    arrays: list[Any] = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    if mask in ("real", "bool"):
        keep = rng.random((1, 1, new, seen + new)) < 0.7
        keep[..., 0, :] = new != 3  # a query that may look at nothing
        arrays.append(keep if mask == "bool" else np.where(keep, 0, -np.inf).astype(np.float32))
    return arrays


@pytest.mark.parametrize("mask", MASKS)
def test_attention_over_a_cache(mask: str) -> None:
    graph, target = cached(mask), get_target("tvm-cpu")
    with tempfile.TemporaryDirectory() as folder:
        chosen = target.emit(graph, Path(folder))
        assert "attention" in [row.op for row in chosen.kernels] and "concat" not in [row.op for row in chosen.kernels]
        session = target.open(Path(folder))
        for new, seen in ((1, 40), (3, 15), (1, 0), (17, 16), (2, 1)):
            given = inputs(mask, new, seen)
            (found,), (wanted,) = session.run(given), run_reference(graph, given)
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


def test_rotary_of_whole_heads_is_one_kernel() -> None:
    new = symbol("new")
    b = GraphBuilder("rotary", Level.FLOAT)
    x = b.input("x", DType.float32, (1, new, 3, SIZE))
    angles = [b.input(name, DType.float32, (1, 1, new, SIZE)) for name in ("cos", "sin")]
    graph = b.build([b.op("rotary", b.op("transpose", x, perm=(0, 2, 1, 3)), *angles, interleaved=False)])
    rng = np.random.default_rng(0)
    given = [rng.normal(size=shape).astype(np.float32) for shape in ((1, 5, 3, SIZE), *[(1, 1, 5, SIZE)] * 2)]
    session = session_of(graph)
    assert len(session.lowered.kernels) == 1
    (found,), (wanted,) = session.run(given), run_reference(graph, given)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_exponentials() -> None:
    b = GraphBuilder("exp", Level.FLOAT)
    graph = b.build([b.op("exp", b.input("x", DType.float32, (2, 4096)))])
    x = np.linspace(-86, 88.7, 8192, dtype=np.float32).reshape(2, 4096)
    x[0, :5] = 0, -np.inf, np.inf, np.nan, -1e30
    with np.errstate(over="ignore"):
        wanted = np.exp(x.astype(np.float64))
    (found,) = session_of(graph).run([x])
    np.testing.assert_allclose(found, wanted, rtol=2.5e-7)
    assert found[0, 0] == 1 and found[0, 1] == 0


def test_an_input_is_the_same_whether_it_is_lent_or_copied() -> None:
    b = GraphBuilder("twice", Level.FLOAT)
    x = b.input("x", DType.float32, (64,))
    session = session_of(b.build([b.op("add", x, x), x]))
    block = np.arange(96, dtype=np.float32)
    for start in range(17):
        given = block[start : start + 64]
        twice, same = session.run([given])
        assert np.array_equal(twice, 2 * given) and np.array_equal(same, given) and not np.shares_memory(same, block)
