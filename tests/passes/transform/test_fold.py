"""Sites, fold primitives and the choice of factors."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, verify_graph
from qcompiler.ir.dims import symbol
from qcompiler.passes.transform.choose_factors import (
    Candidate,
    ChannelStatistics,
    candidates,
    choose_factors,
    compute_factors,
)
from qcompiler.passes.transform.fold import Factors, apply_factors
from qcompiler.passes.transform.groups import FORK, MULTIPLY, NORM, UP, VALUE, Site, find_sites
from qcompiler.passes.transform.site_rows import SampleRows


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def f32(*shape: int, seed: int = 0) -> np.ndarray:
    return rng(seed).standard_normal(shape).astype(np.float32)


def block(
    post_norm: bool = False,
    heads: int = 4,
    kv_heads: int = 2,
    norm: str = "layer_norm",
    bias: bool = True,
    double: bool = False,
) -> Graph:
    """A transformer block of width 16: norm -> q, k, v -> attention -> o, and a gated MLP."""
    b = GraphBuilder("block")
    number = np.float64 if double else np.float32

    def const(array):
        return b.const(array.astype(number))

    x = b.input("x", DType.of(np.zeros(0, number)), (symbol("batch"), symbol("seq"), 16))

    def linear(value, rows, columns, seed):
        return b.op(
            "linear",
            value,
            const(f32(rows, columns, seed=seed) / 4),
            const(f32(rows, seed=seed + 99)) if bias else None,
        )

    gamma = const(f32(16, seed=1) * np.array([1e-6] + [1] * 15))
    affine = [gamma, const(f32(16, seed=2))] if norm == "layer_norm" else [gamma]
    n = b.op(norm, x, *affine, eps=1e-5)

    def split(value, count):
        shaped = b.op("reshape", value, shape=(x.shape[0], x.shape[1], count, 4))
        return b.op("transpose", shaped, perm=(0, 2, 1, 3))

    q, k, v = (
        split(linear(n, 4 * heads, 16, 3), heads),
        split(linear(n, 4 * kv_heads, 16, 4), kv_heads),
        split(linear(n, 4 * kv_heads, 16, 5), kv_heads),
    )
    a = b.op("transpose", b.op("attention", q, k, v), perm=(0, 2, 1, 3))
    o = linear(b.op("reshape", a, shape=(x.shape[0], x.shape[1], 4 * heads)), 16, 4 * heads, 6)
    h = b.op("add", n if post_norm else x, o)
    m = b.op("gelu", h)
    gate, up = b.op("silu", linear(m, 24, 16, 7)), linear(m, 24, 16, 8)
    return b.build([b.op("add", h, linear(b.op("mul", gate, up), 16, 24, 9))])


def random_factors(sites: list[Site], seed: int = 0) -> dict[Site, Factors]:
    r = rng(seed)
    result = {}
    for site in sites:
        free = np.exp(r.standard_normal(int(site.tie.max()) + 1))
        z = r.standard_normal(site.width) if site.shift else np.zeros(site.width)
        result[site] = Factors(free[site.tie], z)
    return result


def max_rel(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("post_norm", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_folding_preserves_the_function(norm: str, bias: bool, post_norm: bool, kv_heads: int) -> None:
    for double, bound in ((True, 1e-9), (False, 1e-5)):
        graph = block(post_norm, 4, kv_heads, norm, bias, double)
        sites, _ = find_sites(graph)
        assert [s.fold for s in sites] == [FORK if post_norm else NORM, VALUE, MULTIPLY, UP]
        x = f32(2, 5, 16, seed=7).astype(graph.inputs[0].dtype.numpy)
        exact = run_reference(graph, [x])[0]
        folded = apply_factors(graph, random_factors(sites), "test")
        verify_graph(folded)
        assert max_rel(run_reference(folded, [x])[0], exact) < bound


def test_powers_of_two_fold_without_any_rounding() -> None:
    graph = block(post_norm=True)
    sites, _ = find_sites(graph)
    factors = {
        s: Factors(2.0 ** rng(i).integers(-3, 4, int(s.tie.max()) + 1)[s.tie], np.zeros(s.width))
        for i, s in enumerate(sites)
    }
    x = f32(2, 5, 16, seed=7)
    exact = run_reference(graph, [x], float64=True)[0]
    assert max_rel(run_reference(apply_factors(graph, factors, "test"), [x], float64=True)[0], exact) < 1e-12


def test_identity_returns_the_same_graph() -> None:
    graph = block()
    sites, _ = find_sites(graph)
    assert apply_factors(graph, {s: Factors.none(s.width) for s in sites}, "test") is graph


def test_two_folds_compose() -> None:
    graph = block(post_norm=True, double=True)
    x = f32(1, 6, 16, seed=3).astype(np.float64)
    exact = run_reference(graph, [x])[0]
    once = apply_factors(graph, random_factors(find_sites(graph)[0], 1), "a")
    twice = apply_factors(once, random_factors(find_sites(once)[0], 2), "b")
    assert max_rel(run_reference(twice, [x])[0], exact) < 1e-9


def test_a_weight_with_another_reader_is_refused_by_name() -> None:
    b = GraphBuilder("tied")
    ids = b.input("ids", DType.int64, (3,))
    table = b.const(f32(10, 8))
    x = b.op("gather", table, ids)
    graph = b.build([b.op("linear", b.op("rms_norm", x, eps=1e-6), table)])
    sites, notes = find_sites(graph)
    assert not sites and "shared with gather" in notes[0].reason


def test_shift_is_refused_where_it_would_cost() -> None:
    graph = block(norm="rms_norm")
    site = find_sites(graph)[0][0]
    with pytest.raises(ValueError, match="takes no shift"):
        apply_factors(graph, {site: Factors(np.ones(16), np.ones(16))}, "test")


def test_smoothquant_balances_activation_and_weight() -> None:
    """At strength 1/2 the ranges of x / t and W t agree channel by channel up to the common factor."""
    site = find_sites(block())[0][0]
    r = rng(3)
    low, high = -np.abs(r.standard_normal(16)) - 0.1, np.abs(r.standard_normal(16)) * 9 + 0.1
    t = compute_factors(site, Candidate("smooth", 0.5), ChannelStatistics(low, high, high)).t
    w = np.max([np.abs(n.operands[1].data).max(0) for n in site.readers], 0).astype(np.float64)
    ratio = (np.maximum(-low, high) / t) / (w * t)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


def test_shift_makes_channels_symmetric() -> None:
    site = find_sites(block())[0][0]
    low, high = rng(1).uniform(-5, 0, 16), rng(2).uniform(1, 9, 16)
    f = compute_factors(site, Candidate("threshold", 0.5), ChannelStatistics(low, high, high))
    np.testing.assert_allclose((low - f.z) + (high - f.z), 0, atol=1e-12)
    assert (f.t >= 1).all()


def test_outlier_channels_gain_and_clean_data_gains_little() -> None:
    site = find_sites(block())[0][0]
    grid = candidates((0.5, 0.7, 0.9), (0.5, 0.2))
    outliers = np.ones(16, np.float32)
    outliers[3] = 60
    rows = [SampleRows.of(f32(64, 16, seed=i) * outliers) for i in range(8)]
    choice = choose_factors(site, rows, grid)
    assert choice.candidate.method != "identity"
    assert choice.error < choice.error_before / 2
    clean = choose_factors(site, [SampleRows.of(f32(64, 16, seed=i)) for i in range(8)], grid)
    assert clean.error > clean.error_before / 1.5


def test_scores_come_from_held_out_samples() -> None:
    """A channel that is large in one sample only: no candidate may look better than it is on the other fold."""
    site = find_sites(block())[0][0]
    rows = [f32(32, 16, seed=i) for i in range(2)]
    rows[0][:, 5] *= 100
    grid = [Candidate("identity"), Candidate("smooth", 0.9)]
    choice = choose_factors(site, [SampleRows.of(r) for r in rows], grid)
    # Factors computed from sample 1 cannot know channel 5 of sample 0: its range saturates there.
    assert choice.error > 0.01


def test_no_rows_is_an_error() -> None:
    site = find_sites(block())[0][0]
    with pytest.raises(ValueError, match="no calibration rows"):
        choose_factors(site, [], [Candidate("identity")])


def test_no_multiply_after_what_stays_in_codes() -> None:
    b = GraphBuilder("head")
    x = b.input("x", DType.float32, (1, 8, 4, 4))
    pooled = b.op("reshape", b.op("reduce_mean", x, axes=(2, 3)), shape=(1, 8))
    graph = b.build([b.op("linear", pooled, b.const(f32(5, 8)))])
    sites, notes = find_sites(graph)
    assert not sites and "reduce_mean" in notes[0].reason
