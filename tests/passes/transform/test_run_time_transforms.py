"""Transforms that add work at run time (online rotations, low-rank branches), and scales between queries and keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompiler.calibration import load_samples
from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.ir import DType, Graph, GraphBuilder, verify_graph
from qcompiler.passes.base import Context
from qcompiler.passes.quantize.assign_precision import PLAN, AssignPrecision
from qcompiler.passes.transform.add_low_rank_branch import AddLowRankBranch, LowRankConfig, truncated_svd
from qcompiler.passes.transform.rotate_online import RotateOnline, RotateOnlineConfig
from qcompiler.passes.transform.scale_scores import ScaleScores, find_score_groups, fold_scores, key_factors
from support.decoder import decoder, difference, token_ids
from support.toy_networks import ToyTarget

EXACT64, EXACT32 = 1e-9, 1e-5
ABLE = replace(ToyTarget(), capabilities=frozenset({"online_hadamard", "float_islands", "accumulator_to_float", "dynamic_linear"}))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (3, 1)])
def test_online_rotations_preserve_the_function(bias: bool, heads: int, kv_heads: int) -> None:
    for number, bound in ((np.float64, EXACT64), (np.float32, EXACT32)):
        graph = decoder(bias=bias, heads=heads, kv_heads=kv_heads, number=number)
        result = RotateOnline(RotateOnlineConfig(scores=True)).run(graph, Context(target=ABLE))
        verify_graph(result.graph)
        assert sum(n.op == "matmul" for n in result.graph.nodes) == 2 + 4
        assert difference(graph, result.graph) <= bound


def test_targets_without_the_capability_refuse_online_rotations_by_name() -> None:
    with pytest.raises(UnsupportedError, match="target toy lacks the capability online_hadamard"):
        RotateOnline().run(decoder(), Context(target=ToyTarget()))


def test_widths_without_a_hadamard_matrix_say_that_they_rotate_in_blocks() -> None:
    r = np.random.default_rng(0)
    b = GraphBuilder("mlp")
    x = b.input("x", DType.float64, (3, 8))
    gate, up = (b.op("linear", x, b.const(r.standard_normal((52, 8)))) for _ in range(2))
    graph = b.build([b.op("linear", b.op("mul", b.op("silu", gate), up), b.const(r.standard_normal((8, 52))))])
    result = RotateOnline().run(graph, Context(target=ABLE))
    assert "13 blocks of 4" in result.notes[0].reason


@pytest.mark.parametrize("of", ["error", "weight"])
@pytest.mark.parametrize("bias", [True, False])
def test_branches_preserve_the_function_and_stay_in_float(of: str, bias: bool) -> None:
    for number, bound in ((np.float64, EXACT64), (np.float32, EXACT32)):
        graph = decoder(bias=bias, number=number, tied=False)
        context = Context(target=ABLE)
        result = AddLowRankBranch(LowRankConfig(rank=2, of=of)).run(graph, context)
        assert result.changed
        assert difference(graph, result.graph) <= bound
        if number is np.float32:
            AssignPrecision().run(result.graph, context)
            plan = context.tables[PLAN]
            branches = {p.scheme for n, p in plan.nodes.items() if n.op == "linear" and n.origin.module.endswith(".low_rank")}
            assert branches == {"float"}
            assert any(p.scheme == "static" for n, p in plan.nodes.items() if n.op == "linear")


def test_what_is_left_falls_with_the_rank_and_vanishes_at_full_rank() -> None:
    w = np.random.default_rng(0).standard_normal((6, 9))
    left = [np.square(w - np.matmul(*truncated_svd(w, r))).sum() for r in range(1, 7)]
    assert all(a > b for a, b in zip(left, left[1:]))
    assert left[-1] < 1e-20


def test_ranks_and_shared_weights_that_make_no_sense_are_refused() -> None:
    result = AddLowRankBranch(LowRankConfig(rank=7)).run(decoder(tied=True), Context(target=ABLE))
    reasons = [n.reason for n in result.notes if not n.taken]
    assert any("rank 7 is more than half" in r for r in reasons)
    assert any("another reader" in r for r in reasons)


def test_targets_without_float_refuse_branches() -> None:
    with pytest.raises(UnsupportedError, match="keeps no branch in float"):
        AddLowRankBranch().run(decoder(), Context(target=replace(ABLE, capabilities=frozenset())))


@pytest.mark.parametrize("rope", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_scaling_scores_preserves_the_function(rope: bool, kv_heads: int, bias: bool) -> None:
    for number, bound in ((np.float64, EXACT64), (np.float32, EXACT32)):
        graph = decoder(rope=rope, kv_heads=kv_heads, bias=bias, number=number)
        context = Context(samples=load_samples([(token_ids(i),) for i in range(4)], graph))
        result = ScaleScores().run(graph, context)
        assert result.changed and sum(n.taken for n in result.notes) == 2
        assert difference(graph, result.graph) <= bound
        replayed = ScaleScores().run(graph, Context(locked=context.decisions)).graph
        assert all(np.array_equal(a.data, b.data) for a, b in zip(result.graph.constants(), replayed.constants()))


def test_channels_that_rotary_embedding_mixes_share_a_factor() -> None:
    graph = decoder(rope=True)
    group = find_score_groups(graph)[0][0]
    assert group.pairs.tolist() == [0, 1, 0, 1]
    t = key_factors(group, np.arange(1.0, 9.0), 0.5)
    np.testing.assert_array_equal(t[:, :2], t[:, 2:])
    wrong = np.ones((2, 4))
    wrong[0, 0] = 2
    with pytest.raises(ValueError, match="rotary pairs"):
        fold_scores(graph, {group: wrong}, "test")
    assert fold_scores(graph, {group: np.ones((2, 4))}, "test") is graph


def test_scaling_scores_needs_data() -> None:
    with pytest.raises(UsageError, match="calibration data"):
        ScaleScores().run(decoder(), Context())


def test_keys_with_another_reader_are_refused_by_name() -> None:
    graph = decoder(rope=False)
    key = next(n for n in graph.nodes if n.origin.module == "layers.0.k" and n.op == "transpose")
    b = GraphBuilder("read")
    b.inputs, b.nodes = list(graph.inputs), list(graph.nodes)
    other = b.op("tanh", key.output)
    seen = Graph("read", graph.inputs, b.nodes, [*graph.outputs, other], ["a", "b"], graph.level)
    groups, notes = find_score_groups(seen)
    assert len(groups) == 1
    assert "transpose" in notes[0].reason and "another reader" in notes[0].reason
