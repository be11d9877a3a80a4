"""Any two EXACT transforms compose, in either order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qcompiler.calibration import load_samples
from qcompiler.ir import Graph, verify_graph
from qcompiler.passes.base import Context, Kind, Pass, Result
from qcompiler.passes.transform.add_low_rank_branch import AddLowRankBranch, LowRankConfig
from qcompiler.passes.transform.reparameterize_layer_norm import ReparameterizeLayerNorm
from qcompiler.passes.transform.rotate_online import RotateOnline, RotateOnlineConfig
from qcompiler.passes.transform.rotate_residual import RotateResidual
from qcompiler.passes.transform.rotate_values import RotateValues
from qcompiler.passes.transform.scale_scores import ScaleScores
from qcompiler.passes.transform.scale_weights import ScaleConfig, ScaleWeights
from qcompiler.passes.transform.smooth_activations import SmoothActivations, SmoothConfig
from qcompiler.passes.transform.split_channels import SplitChannels, find_gated, split_gated
from qcompiler.recipe import Recipe
from support.decoder import decoder, difference, token_ids
from support.toy_networks import ToyTarget

TARGET = replace(ToyTarget(), capabilities=frozenset({"online_hadamard", "float_islands", "accumulator_to_float", "dynamic_linear"}))
WEIGHTS = Recipe(scheme="weight_only", weight_bits=3, group_size=4)
class SplitAlways(Pass):
    """`split_channels` without its measurement: channel j in 1 + j % 3 copies."""

    name = "split_channels"
    kind = SplitChannels.kind

    def run(self, graph: Graph, context: Context) -> Result:
        counts = {m: 1 + np.arange(m.site.width) % 3 for m in find_gated(graph)[0]}
        result = split_gated(graph, counts, self.name)
        return Result(result, result is not graph)


PASSES: dict[str, Callable[[], Pass]] = {
    "rotate_residual": RotateResidual,
    "rotate_values": RotateValues,
    "scale_scores": ScaleScores,
    "split_channels": SplitAlways,
    "smooth_activations": lambda: SmoothActivations(SmoothConfig(min_gain_db=0, thresholds=(0.3,))),
    "scale_weights": lambda: ScaleWeights(ScaleConfig(min_gain_db=0), WEIGHTS),
    "reparameterize_layer_norm": ReparameterizeLayerNorm,
    "rotate_online": lambda: RotateOnline(RotateOnlineConfig(scores=True)),
    "add_low_rank_branch": lambda: AddLowRankBranch(LowRankConfig(rank=2)),
}


def apply(name: str, graph: Graph) -> Graph:
    step = PASSES[name]()
    assert step.kind is Kind.EXACT
    samples = load_samples([(token_ids(i),) for i in range(3)], graph)
    result = step.run(graph, Context(target=TARGET, samples=samples)).graph
    verify_graph(result)
    return result


@pytest.fixture(scope="module")
def transformed() -> dict[tuple[str, str], tuple[Graph, Graph]]:
    """(first pass, norm) -> float64 graph before and after."""
    found = {}
    for norm in ("rms_norm", "layer_norm"):
        graph = decoder(norm=norm, bias=norm == "layer_norm", positions=True, layers=1)
        found |= {(name, norm): (graph, apply(name, graph)) for name in PASSES}
    return found


def test_every_pass_of_the_list_changes_something(transformed: dict) -> None:
    unchanged = [key for key, (before, after) in transformed.items() if before is after]
    assert unchanged == []


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm"])
@pytest.mark.parametrize("first", PASSES)
@pytest.mark.parametrize("second", PASSES)
def test_two_transforms_compose(first: str, second: str, norm: str, transformed: dict) -> None:
    before, once = transformed[first, norm]
    assert difference(before, apply(second, once)) <= 1e-9


def test_all_of_them_in_a_row() -> None:
    graph = after = decoder(norm="layer_norm", bias=True, number=np.float32)
    for name in PASSES:
        after = apply(name, after)
    # Nine folds, each of which stores float32 weights.
    assert difference(graph, after) <= 3e-5
