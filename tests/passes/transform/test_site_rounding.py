"""What candidates are scored with: the rounding of a site's readers, and the size of each row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qcompiler.executors.fake_quant import fake_quant_dynamic
from qcompiler.passes.base import Context
from qcompiler.passes.rounding.limit_sums import limited_weights
from qcompiler.passes.rounding.round_nearest import quantize_weight
from qcompiler.passes.transform.add_low_rank_branch import AddLowRankBranch, LowRankConfig
from qcompiler.passes.transform.choose_factors import Candidate, score_candidates
from qcompiler.passes.transform.groups import NORM, UP, VALUE, find_sites, residual_sums
from qcompiler.passes.transform.site_rounding import REAL, TENSOR, TOKEN, SiteRounding, readers_rounding
from qcompiler.passes.transform.site_rows import SampleRows
from qcompiler.recipe import Int16Products, Recipe
from qcompiler.targets.saturation import pair_safe_scale
from support.decoder import decoder
from support.toy_networks import ToyTarget

PAIRS = replace(ToyTarget(), capabilities=frozenset({"int16_pair_products"}))


def weights(seed: int = 0, columns: int = 33) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((6, columns)).astype(np.float32))


@pytest.mark.parametrize("columns", [32, 33])
def test_pair_safe_weights_are_those_of_the_rounding_pass(columns: int) -> None:
    from qcompiler.ir import DType

    w = weights(columns=columns)
    expected = quantize_weight(w.numpy(), pair_safe_scale(w.numpy()), DType.int8).real()
    # A last digit of the scale may differ (float64 there): by far less than a step.
    step = pair_safe_scale(w.numpy()).max()
    np.testing.assert_allclose(SiteRounding(summed=2).weights(w).numpy(), expected, atol=1e-4 * step)
    plain = SiteRounding(summed=2, activation=REAL).weights(w)
    torch.testing.assert_close(plain, SiteRounding(activation=REAL).weights(w))


@pytest.mark.parametrize("summed", [4, 8])
def test_limited_weights_are_close_to_those_of_the_rounding_pass(summed: int) -> None:
    w = weights(columns=384)
    codes, scale = limited_weights(w.numpy(), pair_safe_scale(w.numpy()), summed, 127)
    least = float(np.square(codes * scale[:, None] - w.numpy()).sum())
    found = SiteRounding(summed=summed).weights(w)
    assert least <= float((found - w).square().sum()) < 1.3 * least  # 1 dB: one scale, not the best of a grid


@pytest.mark.parametrize(("kind", "granularity"), [(TOKEN, "token"), (TENSOR, "tensor")])
def test_run_time_ranges_are_those_of_the_executor(kind: str, granularity: str) -> None:
    x = weights(3)
    torch.testing.assert_close(SiteRounding(kind).activations(x, 0, 0), fake_quant_dynamic(x, granularity))
    assert SiteRounding(REAL).activations(x, 0, 0) is x


def test_groups_have_scales_and_zero_points_of_their_own() -> None:
    w = weights(columns=36) + 3
    symmetric = SiteRounding(REAL, weight_bits=3, group_size=8).weights(w) - w
    shifted = SiteRounding(REAL, weight_bits=3, group_size=8, weight_symmetric=False).weights(w) - w
    whole = SiteRounding(REAL, weight_bits=3).weights(w) - w
    assert float((shifted**2).sum()) < float((symmetric**2).sum()) < float((whole**2).sum())
    one = SiteRounding(REAL, weight_bits=3).weights(w[:, :8])
    torch.testing.assert_close((symmetric + w)[:, :8], one)


def test_the_recipe_and_the_target_say_how_readers_round() -> None:
    site = find_sites(decoder())[0][0]
    found = readers_rounding(site, Recipe(activation_bits=4, weight_bits=3), Context(target=PAIRS))
    assert found == SiteRounding(activation_bits=4, weight_bits=3, summed=2)
    assert readers_rounding(site, Recipe(scheme="float"), Context(target=PAIRS)) is None
    token = readers_rounding(site, Recipe(scheme="dynamic", granularity="token"), Context(target=PAIRS))
    assert token is not None and token.activation == TOKEN and token.summed == 2
    grouped = readers_rounding(site, Recipe(scheme="dynamic", granularity="token", group_size=8), Context(target=PAIRS))
    assert grouped is not None and grouped.group_size == 8 and grouped.summed == 1  # as the plan says
    chosen = Context(target=PAIRS, tables={"schemes": {n.origin.module: "weight_only" for n in site.readers}})
    real = readers_rounding(site, Recipe(scheme="auto"), chosen)
    assert real is not None and real.activation == REAL


@pytest.mark.parametrize(("word", "summed"), [("auto", 2), (1, 1), (2, 2), (4, 4)])
def test_the_recipes_word_on_sums_counts_for_every_pass(word: Int16Products, summed: Int16Products) -> None:
    graph = decoder()
    site, recipe = find_sites(graph)[0][0], Recipe(scheme="static", int16_products=word)
    found = readers_rounding(site, recipe, Context(target=PAIRS))
    assert found is not None and found.summed == summed
    without = readers_rounding(site, recipe, Context(target=ToyTarget()))
    assert without is not None and without.summed == (1 if word == "auto" else word)
    target = replace(PAIRS, capabilities=PAIRS.capabilities | {"float_islands"})
    wanted = AddLowRankBranch(LowRankConfig(rank=2), recipe).run(graph, Context(target=target)).graph
    other = replace(ToyTarget(), capabilities=frozenset({"float_islands"}))
    plain = AddLowRankBranch(LowRankConfig(rank=2), Recipe(scheme="static", int16_products=summed)).run(graph, Context(target=other)).graph
    assert all(np.array_equal(a.data, b.data) for a, b in zip(wanted.constants(), plain.constants(), strict=True))


def test_residual_writers_are_told_from_others() -> None:
    graph = decoder()
    found = {s.fold: residual_sums(graph, s) for s in find_sites(graph)[0]}
    assert all(v is None for v in found[NORM]) and len(found[NORM]) == 2
    for kind in (VALUE, UP):
        (value,) = found[kind]
        node = graph.producer(value)
        assert node is not None and node.op == "add"


def test_errors_count_relative_to_the_sum_they_enter() -> None:
    """A row whose residual is massive decides nothing; without the sums it decides alone."""
    site = next(s for s in find_sites(decoder())[0] if s.fold == UP)
    r = np.random.default_rng(0)
    rows = [r.standard_normal((20, site.width)).astype(np.float32) for _ in range(2)]
    for x in rows:
        x[0] *= 1e-3  # tiny on its own: rounding loses it
    residual = [np.ones((20, 16), np.float32) * 3 for _ in range(2)]
    for x in residual:
        x[0] *= 1e3
    samples, sums = [SampleRows.of(x) for x in rows], [[SampleRows.of(x) for x in residual]]
    alone = score_candidates(site, samples, [Candidate("identity")])[0]
    beside = score_candidates(site, samples, [Candidate("identity")], sums=sums)[0]
    lost = [SampleRows(s.rows[1:], s.low, s.high) for s in samples]
    without = score_candidates(site, lost, [Candidate("identity")], sums=[[SampleRows.of(x[1:]) for x in residual]])[0]
    assert alone > 10 * beside
    np.testing.assert_allclose(beside, without * 19 / 20, rtol=0.02)
