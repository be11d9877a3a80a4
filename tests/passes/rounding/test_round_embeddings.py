"""Embedding tables as codes."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, verify_graph
from qcompiler.passes.base import Context
from qcompiler.passes.rounding.round_embeddings import EmbeddingsConfig, RoundEmbeddings, round_rows

SMALL = EmbeddingsConfig(min_bytes=0)


def lookup(table: np.ndarray, tied: bool = False, axis: int = 0, twice: bool = False) -> Graph:
    b = GraphBuilder()
    ids, weight = b.input("ids", DType.int64, (2, 3)), b.const(table)
    rows = b.op("gather", weight, ids, axis=axis)
    out = [b.op("linear", rows, weight, None) if tied else rows]
    return b.build([*out, b.op("neg", b.op("gather", weight, ids, axis=0))] if twice else out)


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_within_half_a_step(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = (rng.normal(size=(9, 16)) * np.exp(rng.normal(size=(9, 1)) * 4)).astype(np.float32)
    table[4] = 0
    graph = lookup(table)
    result = RoundEmbeddings(SMALL).run(graph, Context())
    verify_graph(result.graph)
    assert {v.dtype for v in result.graph.constants() if v.shape == (9, 16)} == {DType.int8}
    ids = rng.integers(0, 9, (2, 3))
    (expected,), (found,) = run_reference(graph, [ids]), run_reference(result.graph, [ids])
    step = np.abs(table).max(1)[ids][..., None] / 127
    assert (np.abs(found - expected) <= step * 0.5001).all()
    assert result.notes[0].data["sqnr_db"] > 30


def test_is_idempotent_and_exact_on_codes() -> None:
    codes = np.random.default_rng(0).integers(-126, 127, (5, 8))
    codes[:, 0] = 127
    table = (codes * np.float32(0.25)).astype(np.float32)
    assert (round_rows(table)[0] == codes).all()
    once = RoundEmbeddings(SMALL).run(lookup(table), Context()).graph
    assert RoundEmbeddings(SMALL).run(once, Context()).graph is once


def test_two_readers_share_the_codes() -> None:
    table = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    result = RoundEmbeddings(SMALL).run(lookup(table, twice=True), Context()).graph
    assert len([v for v in result.constants() if v.shape == (5, 8)]) == 1


@pytest.mark.parametrize(
    "graph, reason",
    [
        (lookup(np.ones((8, 8), np.float32), tied=True), "also read by linear"),
        (lookup(np.ones((8, 8), np.float32), axis=1), "reads columns"),
        (lookup(np.ones((8, 8), np.float32)), "takes 256 bytes only"),
    ],
)
def test_refuses(graph: Graph, reason: str) -> None:
    config = EmbeddingsConfig() if "bytes" in reason else SMALL
    result = RoundEmbeddings(config).run(graph, Context())
    assert result.graph is graph and reason in result.notes[0].reason
