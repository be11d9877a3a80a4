"""AWQ's scale search."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration import load_samples
from qcompiler.passes.base import Context
from qcompiler.passes.transform.choose_factors import (
    Candidate,
    ChannelStatistics,
    compute_factors,
    score_candidates,
)
from qcompiler.passes.transform.groups import NORM, VALUE, find_sites
from qcompiler.passes.transform.scale_weights import ScaleConfig, ScaleWeights
from qcompiler.passes.transform.site_rounding import REAL, SiteRounding
from qcompiler.passes.transform.site_rows import SampleRows
from qcompiler.recipe import LayerSettings
from support.decoder import decoder, difference, token_ids


class Settings(LayerSettings):
    scheme: str = "weight_only"
    weight_bits: int = 3
    group_size: int | None = 8


class GroupRecipe:
    """What the pass asks of a recipe: 3-bit weights in groups of 8, real activations."""

    integer_only = False
    pair_safe = "auto"

    def settings_for(self, module: str, op: str) -> Settings:
        return Settings()


@pytest.mark.parametrize("bias", [True, False])
def test_scaling_is_exact_and_a_lock_replays_it(bias: bool) -> None:
    graph = decoder(bias=bias, heads=4, kv_heads=2)
    context = Context(samples=load_samples([(token_ids(i),) for i in range(6)], graph))
    result = ScaleWeights(ScaleConfig(min_gain_db=0.01), GroupRecipe()).run(graph, context)
    assert result.changed
    assert difference(graph, result.graph) <= 1e-9
    replayed = ScaleWeights(None, GroupRecipe()).run(graph, Context(locked=context.decisions)).graph
    assert all(np.array_equal(a.data, b.data) for a, b in zip(result.graph.constants(), replayed.constants()))


def test_static_layers_are_left_to_smoothing() -> None:
    graph = decoder()
    result = ScaleWeights().run(graph, Context(samples=load_samples([(token_ids(0),)], graph)))
    assert result.graph is graph
    assert any("static ranges" in n.reason for n in result.notes)


def test_heads_that_share_values_share_the_mean_of_their_factors() -> None:
    site = next(s for s in find_sites(decoder(heads=4, kv_heads=2))[0] if s.fold == VALUE)
    size = np.arange(1.0, site.width + 1)
    f = compute_factors(site, Candidate("average", 1.0), ChannelStatistics(-size, size, size))
    heads = f.t.reshape(4, -1)
    np.testing.assert_array_equal(heads[0], heads[1])
    np.testing.assert_array_equal(heads[2], heads[3])
    np.testing.assert_allclose(heads[0] / heads[0, 0], (size[:4] + size[4:8]) / (size[0] + size[4]))


def test_salient_channels_gain_from_being_scaled() -> None:
    """Two channels carry most of the signal: their weights deserve the finer share of each group's scale."""
    site = next(s for s in find_sites(decoder())[0] if s.fold == NORM)
    strong = np.where(np.arange(site.width) % 8 == 3, 30.0, 1.0)
    rows = [SampleRows.of((np.random.default_rng(i).standard_normal((32, site.width)) * strong).astype(np.float32)) for i in range(4)]
    rounding = SiteRounding(REAL, weight_bits=3, group_size=8)
    errors = score_candidates(site, rows, [Candidate("identity"), Candidate("average", 0.5)], rounding)
    assert errors[1] < errors[0] / 1.5
