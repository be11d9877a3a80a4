"""Layers go back to float by the numbers: the cut, the decision, the replay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_models.float_models import calibration, conv_chain

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Graph
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.quantize.assign_precision import AssignPrecision
from qcompiler.passes.quantize.plan import FLOAT
from qcompiler.targets import get_target
from qcompiler.targets.base import Measurement
from qcompiler.targets.onnx import never_slower
from qcompiler.targets.onnx.isa import ISAS, host_isa
from qcompiler.targets.onnx.never_slower import NeverSlower, NeverSlowerConfig
from qcompiler.targets.onnx.profile import find_source
from qcompiler.targets.onnx.region_choice import Layer, cheapest_real

QUICK = NeverSlowerConfig(rounds=3, seconds=0.01)


def run(graph: Graph, locked: dict[str, Any] | None = None, target: str = "onnxruntime-cpu") -> tuple[Context, Any]:
    context = Context(target=get_target(target), samples=calibration(graph), locked=locked)
    _, steps = run_passes(graph, [AssignPrecision(), NeverSlower(QUICK)], context)
    return context, steps[-1]


def test_cut_weighs_layers_against_crossings() -> None:
    chain = {"r": Layer(0, 0, movable=False), "a": Layer(1, 3), "b": Layer(4, 1), "c": Layer(1, 2)}
    cheap = [("r", "a", 0.1), ("a", "b", 0.1), ("b", "c", 0.1)]
    chosen, saved = cheapest_real(chain, cheap)
    assert chosen == {"a", "c"} and saved == pytest.approx((3 + 1 + 2 + 0.1) - (1 + 1 + 1 + 0.2))
    dear = [("r", "a", 0.1), ("a", "b", 0.1), ("b", "c", 5.0)]
    assert cheapest_real(chain, dear)[0] == {"a"}
    assert cheapest_real({"r": Layer(0, 0, movable=False), "a": Layer(2, 1)}, [("r", "a", 9.0)])[0] == {"a"}
    assert cheapest_real({"a": Layer(2, 1)}, []) == (set(), 0.0)


def test_kernels_are_found_by_their_names_in_the_profile() -> None:
    sources: dict[str, Any] = {"a.b/Conv_0": 1, "a.b/Conv_01": 2, "Add_0": 3}
    assert find_source("a.b/Conv_0_nchwc", sources) == 1
    assert find_source("a.b/Conv_0/MatMulAddFusion", sources) == 1
    assert find_source("a.b/Conv_0_token_17", sources) == 1
    assert find_source("a.b/Conv_01", sources) == 2
    assert find_source("gemm_input_reshape_token_3", sources) is None


def with_times(monkeypatch: pytest.MonkeyPatch, real: float, integer: float, mixed_gain: float, ratio: float) -> None:
    """Stand-ins for the clock: the first layer costs (real, integer), the others always pay."""

    def problem(costs: Any) -> tuple[dict[Any, Layer], list[Any]]:
        modules = [n.origin.module for n in costs.layers]
        layers = {m: Layer(real, integer) if m == modules[0] else Layer(9.0, 1.0) for m in modules}
        return {never_slower.REAL_REST: Layer(0, 0, movable=False), **layers}, []

    monkeypatch.setattr(never_slower._Costs, "problem", problem)
    def timed(value: float) -> Measurement:
        return Measurement(value * 9, 9.0, value, 0.1, False, 5, 1)

    def compare(trial: Any, *args: Any) -> tuple[Measurement, float]:
        real_compare(trial, *args)  # the mixed form has to compile and run
        return timed(ratio * (1 - mixed_gain)), mixed_gain

    monkeypatch.setattr(never_slower._Trial, "_time", lambda self, subject, baseline: timed(ratio))
    real_compare = never_slower._Trial._compare
    monkeypatch.setattr(never_slower._Trial, "_compare", compare)
    monkeypatch.setattr(never_slower._Costs, "__init__", lambda self, g, plan, *rest: setattr(
        self, "layers", never_slower.quantized_layers(plan)))  # fmt: skip
    propose = never_slower._Trial._propose
    monkeypatch.setattr(never_slower._Trial, "_propose", lambda self, *a: (propose(self, *a)[0], 1.0))


def test_a_slow_layer_goes_back_with_figures_and_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = conv_chain()
    with monkeypatch.context() as patch:
        with_times(patch, real=1.0, integer=3.0, mixed_gain=0.2, ratio=0.6)
        context, step = run(graph)
    decision = context.decisions["never_slower"]
    assert [row["site"] for row in decision if row["chosen"] == "float"] == ["stem"]
    assert decision[0]["scores"] == {"all integer": 0.6, "mixed": pytest.approx(0.48)}
    plan = context.tables["plan"]
    stem = next(n for n in graph.nodes if n.origin.module == "stem" and n.op == "conv")
    assert plan.nodes[stem].scheme == FLOAT and "3.000 ms in integers, 1.000 ms in float" in plan.nodes[stem].reason
    assert stem in context.tables["put_back"]
    assert [note.site for note in step.notes if note.taken] == ["stem"]

    def never(*args: Any) -> None:
        raise AssertionError("a locked decision must not measure")

    monkeypatch.setattr(never_slower._Trial, "decide", never)
    replayed, _ = run(graph, locked=dict(context.decisions))
    assert replayed.decisions == context.decisions
    assert replayed.tables["plan"].nodes == plan.nodes
    assert run(graph, locked={})[0].decisions == {}


def test_too_little_gain_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_times(monkeypatch, real=1.0, integer=3.0, mixed_gain=0.01, ratio=0.6)
    context, step = run(conv_chain())
    assert [row["chosen"] for row in context.decisions["never_slower"]] == ["all integer"]
    assert "too little" in step.notes[0].reason and "put_back" not in context.tables


def test_a_model_that_never_pays_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with_times(monkeypatch, real=9.0, integer=1.0, mixed_gain=0.0, ratio=1.3)
    with pytest.raises(UnsupportedError, match="never_slower: false"):
        run(conv_chain())


def test_real_clock_decides_something() -> None:
    whole = run(conv_chain(size=48))[0].decisions["never_slower"][0]
    assert whole["site"] == "whole model" and 0 < whole["scores"]["all integer"] < 1.0
    (whole,) = run(conv_chain(size=4))[0].decisions["never_slower"]
    assert whole["chosen"] == "all integer" and "not decided" in whole["why"]


def test_what_cannot_be_measured_is_said() -> None:
    other = next(isa for isa in ISAS if isa != host_isa())
    context, step = run(conv_chain(), target=f"onnxruntime-cpu:{other}")
    assert "never_slower" not in context.decisions
    assert f"compiled for {other}" in step.notes[0].reason and not step.notes[0].taken


def test_stand_in_weights_and_ranges_compute_numbers() -> None:
    graph = conv_chain()
    context = Context(target=get_target("onnxruntime-cpu"), samples=calibration(graph))
    AssignPrecision().run(graph, context)
    trial = never_slower._Trial(graph, context, QUICK, NeverSlower().recipe)
    from qcompiler.executors.reference import run_reference

    (result,) = run_reference(trial._lowered(context.tables["plan"]), trial.arrays)
    assert np.isfinite(result).all()
