"""Per-layer errors of a plan: what a layer adds alone, and the error of the whole run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, GraphBuilder, Origin, QuantParams
from qcompiler.layer_taps import compare_layers
from qcompiler.metrics import sqnr
from qcompiler.passes.quantize.plan import FLOAT, STATIC, NodePlan, QuantPlan, WeightCodes

RNG = np.random.default_rng(7)
SAMPLES = [(RNG.normal(size=(5, 4)).astype(np.float32),) for _ in range(3)]
FINE, COARSE = QuantParams(DType.uint8, 0.1, 128), QuantParams(DType.uint8, 1.0, 128)


def planned(first=FINE, coarse_weight=False):
    """x -> linear -> relu (fused) -> linear -> softmax (float), every stored value rounded."""
    b = GraphBuilder()
    x = b.input("x", DType.float32, (5, 4))
    w1, w2 = (RNG.normal(size=(4, 4)).astype(np.float32) for _ in range(2))
    hidden = b.op("relu", b.op("linear", x, b.const(w1), origin=Origin("up")), origin=Origin("act"))
    logits = b.op("linear", hidden, b.const(w2), origin=Origin("down"))
    graph = b.build([b.op("softmax", logits, origin=Origin("head"))])
    up, act, down, head = graph.nodes
    plan = QuantPlan(graph, stored={x, hidden, logits})
    plan.nodes = {
        up: NodePlan(STATIC, weight_dtype=DType.int8, fused=act),
        act: NodePlan(STATIC),
        down: NodePlan(STATIC, weight_dtype=DType.int8),
        head: NodePlan(FLOAT, "the recipe allows softmax in float"),
    }
    plan.activations = {x: first, hidden: FINE, logits: FINE}
    step = 1.0 if coarse_weight else 0.03
    for node, weight in ((up, w1), (down, w2)):
        scale = step if node is up else 0.03
        plan.weights[node] = WeightCodes(
            np.round(weight / scale).clip(-127, 127).astype(np.int8), QuantParams(DType.int8, scale)
        )
    return plan


def test_rows_name_the_layers_and_skip_the_fused_activation():
    rows = compare_layers(planned(), SAMPLES)
    assert [(row.module, row.op) for row in rows] == [
        ("up", "linear"),
        ("down", "linear"),
        ("head", "softmax"),
    ]


def test_local_error_is_of_the_layer_on_float_operands():
    plan = planned(first=COARSE)
    up, act, _, _ = plan.graph.nodes
    (row, *_) = compare_layers(plan, SAMPLES)
    x = np.concatenate([sample[0] for sample in SAMPLES])
    exact = np.maximum(x @ up.inputs[1].data.T, 0)
    alone = np.maximum(x @ plan.weights[up].real().T, 0)
    alone = FINE.dequantize(FINE.quantize(alone))
    assert row.sqnr_local_db == pytest.approx(sqnr(exact, alone), abs=0.01)
    assert row.sqnr_cumulative_db < row.sqnr_local_db - 5  # the coarse input counts in the whole run only


def test_whole_run_is_the_executor_with_the_plan():
    plan = planned()
    executor = TorchExecutor(plan.graph)
    exact, rounded = (np.stack([executor.run(s, plan=p)[0].numpy() for s in SAMPLES]) for p in (None, plan))
    last = compare_layers(plan, SAMPLES)[-1]
    assert last.op == "softmax"
    assert last.sqnr_cumulative_db == pytest.approx(sqnr(exact, rounded))
    assert last.sqnr_local_db == math.inf  # it computes in float


def test_the_layer_with_the_coarse_weight_is_the_worst_alone():
    up, down, *_ = compare_layers(planned(coarse_weight=True), SAMPLES)
    assert up.sqnr_local_db < down.sqnr_local_db - 10
    assert down.sqnr_cumulative_db < down.sqnr_local_db - 10
