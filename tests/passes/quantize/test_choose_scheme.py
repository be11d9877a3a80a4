"""Static, dynamic or weight-only per layer, by measured error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompiler.calibration import load_samples
from qcompiler.errors import UsageError
from qcompiler.ir import DType, Graph, GraphBuilder, Origin
from qcompiler.passes.base import Context
from qcompiler.passes.quantize.assign_precision import PLAN, AssignConfig, AssignPrecision
from qcompiler.passes.quantize.choose_scheme import ChooseScheme, SchemeConfig, assign_schemes
from qcompiler.passes.transform.smooth_activations import SmoothActivations
from qcompiler.recipe import load_recipe
from support.toy_networks import ToyKernel, ToyTarget

RECIPE = load_recipe({"base": "w8a8-mixed", "keep_head": False})
TARGET = ToyTarget()
TARGET = replace(TARGET, kernels={**TARGET.kernels, "weight_only_linear": (ToyKernel(None, DType.int8),)})


def test_layers_move_up_in_the_order_of_what_it_gains() -> None:
    errors = [
        {"static": 1.0, "dynamic": 0.9, "weight_only": 0.1},
        {"static": 100.0, "dynamic": 2.0, "weight_only": 1.5},
        {"static": 0.2, "dynamic": 0.2, "weight_only": 0.1},
    ]
    assert assign_schemes(errors, 100.0) == ["static", "static", "static"]
    # The least sum is 1.7; 3 dB above it is 3.39: 1 + 2 + 0.2 is enough.
    assert assign_schemes(errors, 3.0) == ["static", "dynamic", "static"]
    assert assign_schemes(errors, 1e-6) == ["weight_only", "weight_only", "weight_only"]


def test_a_dearer_scheme_that_is_no_better_is_never_taken() -> None:
    assert assign_schemes([{"static": 1.0, "dynamic": 3.0, "weight_only": 0.5}], 1e-6) == ["weight_only"]
    assert assign_schemes([{"static": 1.0, "dynamic": 3.0, "weight_only": 2.0}], 1e-6) == ["static"]


def network() -> Graph:
    """Two layers over tanh, so that nothing can be folded: one reads rows of one size, one rows of very different sizes."""
    r = np.random.default_rng(0)
    b = GraphBuilder("two")
    outputs = []
    for name in ("even", "uneven"):
        x = b.input(name, DType.float32, (16, 12))
        b.origin = Origin(name)
        outputs.append(b.op("linear", x, b.const(r.standard_normal((8, 12)).astype(np.float32))))
    return b.build(outputs)


def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    even = r.uniform(-1, 1, (16, 12)).astype(np.float32)
    return even, (even * np.exp(r.uniform(-7, 7, (16, 1)))).astype(np.float32)


def context(graph: Graph) -> Context:
    return Context(target=TARGET, samples=load_samples([sample(i) for i in range(8)], graph))


@pytest.fixture
def inputs_count_as_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graph inputs are refused as sites, since a multiply there might meet codes; this test needs none."""
    from qcompiler.passes.transform import groups

    monkeypatch.setattr(groups, "REAL_OPS", groups.REAL_OPS | {""})


def test_rows_of_different_sizes_are_not_static(inputs_count_as_sites: None) -> None:
    graph = network()
    ctx = context(graph)
    result = ChooseScheme(SchemeConfig(multiply=False, slack_db=3), RECIPE).run(graph, ctx)
    assert ctx.tables["schemes"]["even"] == "static"
    assert ctx.tables["schemes"]["uneven"] != "static"
    assert {n.taken for n in result.notes} == {True, False}
    AssignPrecision(AssignConfig(recipe=RECIPE)).run(graph, ctx)
    plan = ctx.tables[PLAN]
    assert {n.origin.module: p.scheme for n, p in plan.nodes.items()} == ctx.tables["schemes"]
    assert {p.granularity for p in plan.nodes.values()} == {"token"}


def test_a_lock_replays_the_choice_without_data(inputs_count_as_sites: None) -> None:
    graph = network()
    ctx = context(graph)
    ChooseScheme(SchemeConfig(slack_db=3), RECIPE).run(graph, ctx)
    again = Context(target=TARGET, locked=ctx.decisions)
    ChooseScheme(None, RECIPE).run(graph, again)
    assert again.tables["schemes"] == ctx.tables["schemes"]


def test_recipes_that_leave_nothing_open_measure_nothing() -> None:
    graph = network()
    ctx = Context(target=TARGET)
    assert ChooseScheme(None, load_recipe("w8a8")).run(graph, ctx).notes == ()
    assert "schemes" not in ctx.tables


def test_open_layers_need_data(inputs_count_as_sites: None) -> None:
    with pytest.raises(UsageError, match="calibration data"):
        ChooseScheme(None, RECIPE).run(network(), Context(target=TARGET))


def test_what_stays_real_is_left_unsmoothed() -> None:
    r = np.random.default_rng(0)
    b = GraphBuilder("norm")
    x = b.input("x", DType.float32, (8, 16))
    gamma = np.where(np.arange(16) == 3, 80, 1).astype(np.float32)
    n = b.op("rms_norm", x, b.const(gamma), eps=1e-6)
    b.origin = Origin("layer")
    graph = b.build([b.op("linear", n, b.const(r.standard_normal((8, 16)).astype(np.float32)))])
    samples = load_samples([(np.random.default_rng(i).standard_normal((8, 16)).astype(np.float32),) for i in range(6)], graph)
    for scheme, changed in (("static", True), ("dynamic", True), ("weight_only", False), ("float", False)):
        ctx = Context(target=TARGET, samples=samples, tables={"schemes": {"layer": scheme}})
        assert SmoothActivations(None, RECIPE).run(graph, ctx).changed is changed, scheme
