"""Attention as two products, its weights as powers of two, and activations of 4 bits in the ONNX file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

import qcompiler as qc
from qcompiler.calibration import load_samples
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph
from qcompiler.ir.ops.rounding import log2_table
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.quantize.plan import STATIC
from qcompiler.passes.quantize.round_softmax import (
    RoundSoftmax,
    RoundSoftmaxConfig,
    candidates,
    round_weights,
)
from qcompiler.passes.quantize.split_attention import SplitAttention, SplitAttentionConfig
from qcompiler.recipe import load_recipe
from support.toy_networks import Layers

PRODUCTS = load_recipe({"rules": [{"match": "*", "ops": ["matmul"]}]})
SPLIT = SplitAttention(SplitAttentionConfig(recipe=PRODUCTS))


def attention_graph(scale: float | None = None, heads: int = 2, key_heads: int = 2, **attrs) -> Graph:
    b = Layers("attention")
    q = b.input("q", DType.float32, (1, heads, 5, 4))
    k, v = (b.input(name, DType.float32, (1, key_heads, 6, 4)) for name in "kv")
    b.origin = type(b.origin)("block.attention")
    return b.build([b.op("attention", q, k, v, attrs.pop("mask", None), scale=scale, **attrs)])


def data(graph: Graph, count: int = 6) -> list[list[np.ndarray]]:
    random = np.random.default_rng(1)
    return [[random.normal(size=v.shape).astype(np.float32) * 3 for v in graph.inputs] for _ in range(count)]


@pytest.mark.parametrize("scale", [None, 0.25, -1.5])
def test_split_computes_the_same(scale):
    graph = attention_graph(scale)
    split, (step,) = run_passes(graph, [SPLIT], Context())
    assert step.changed and [n.taken for n in step.notes] == [True]
    assert [n.op for n in split.nodes] == ["transpose", "matmul", "mul", "softmax", "matmul"]
    assert all(n.origin.module == "block.attention" for n in split.nodes)
    for sample in data(graph):
        (a,), (b) = run_reference(graph, sample, float64=True), run_reference(split, sample, float64=True)
        assert np.abs(a - b[0]).max() <= 1e-9 * np.abs(a).max()


def test_split_again_changes_nothing():
    split, _ = run_passes(attention_graph(), [SPLIT], Context())
    again, (step,) = run_passes(split, [SPLIT], Context())
    assert again is split and not step.changed


def test_only_what_a_rule_names_is_split():
    graph = attention_graph()
    for recipe in ({}, {"rules": [{"match": "other.*", "ops": ["matmul"]}]}, {**PRODUCTS.to_dict(), "ignore": ["block"]}):
        settings = SplitAttentionConfig(recipe=load_recipe(recipe))
        result, (step,) = run_passes(graph, [SplitAttention(settings)], Context())
        assert result is graph and step.notes == ()


@pytest.mark.parametrize(
    ("options", "reason"), [({"causal": True}, "masked"), ({"key_heads": 1}, "share keys")]
)
def test_attention_that_stays_whole_says_why(options, reason):
    graph = attention_graph(**options)
    result, (step,) = run_passes(graph, [SPLIT], Context())
    assert result is graph
    assert not step.notes[0].taken and reason in step.notes[0].reason


# -- attention weights ----------------------------------------------------------------------------------------


def rounded(bits: int = 4, locked=None, count: int = 6):
    graph = attention_graph()
    context = Context(samples=load_samples([tuple(s) for s in data(graph, count)], graph), locked=locked)
    passes = [SPLIT, RoundSoftmax(RoundSoftmaxConfig(bits=bits, equal_steps=False))]
    result, steps = run_passes(graph, passes, context)
    return graph, result, steps[-1], context


def test_weights_take_the_numbers_of_their_table():
    graph, result, step, _ = rounded()
    assert step.changed and step.notes[0].taken
    (node,) = [n for n in result.nodes if n.op == "round_log2"]
    seen: dict = {}
    run_reference(result, data(graph)[0], taps=[node.output], on_value=seen.__setitem__)
    table = log2_table(node.attrs).astype(np.float32)
    assert set(np.unique(seen[node.output])) <= set(table) and len(np.unique(seen[node.output])) > 4


def test_off_by_default_and_elsewhere():
    graph = attention_graph()
    for passes in ([SPLIT, RoundSoftmax()], [RoundSoftmax(RoundSoftmaxConfig(bits=4))]):
        result, steps = run_passes(graph, passes, Context())
        assert not steps[-1].changed and "round_log2" not in {n.op for n in result.nodes}


def test_replay_from_a_lock_measures_nothing():
    graph, result, _, context = rounded()
    again, *_ = rounded(locked=context.decisions, count=1)[1:]
    grids = [[dict(n.attrs) for n in g.nodes if n.op == "round_log2"] for g in (result, again)]
    assert grids[0] == grids[1]


def softmax_rows(sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights [200, 50] and values [50, 8] with a mean, as layers behind a norm give them."""
    random = np.random.default_rng(0)
    weights = torch.from_numpy(random.normal(size=(200, 50)) * sharpness).softmax(-1).numpy().astype(np.float32)
    return weights, (random.normal(size=(50, 8)) + 1).astype(np.float32)


def best(weights: np.ndarray, values: np.ndarray, kept=lambda attrs: True) -> tuple[float, dict]:
    grid = [attrs for attrs in candidates(4, RoundSoftmaxConfig()) if kept(attrs)]
    errors = [np.square((round_weights(weights, attrs) - weights) @ values).sum() for attrs in grid]
    return min(errors), grid[int(np.argmin(errors))]


def test_powers_of_two_beat_equal_steps_on_flat_rows_with_a_peak():
    """Many small weights beside a large one: equal steps drop them all."""
    weights, values = softmax_rows(0.5)
    weights = (0.5 * weights + 0.5 * np.eye(200, 50, dtype=np.float32)).astype(np.float32)
    powers, _ = best(weights, values, lambda attrs: attrs["step"] > 0)
    equal, _ = best(weights, values, lambda attrs: attrs["step"] == 0)
    assert powers < 0.2 * equal


def test_uniform_rows_are_exact():
    weights = np.full((4, 8), 0.125, np.float32)
    error, attrs = best(weights, np.ones((8, 2), np.float32))
    assert error == 0 and attrs["step"] > 0


def test_equal_steps_are_left_to_the_product():
    """Where they win, nothing is inserted, and the note says so."""
    graph = attention_graph()
    samples = load_samples([tuple(s) for s in data(graph)], graph)
    context = Context(samples=samples)
    config = RoundSoftmaxConfig(bits=8, steps=(4.0,))  # far too coarse
    result, steps = run_passes(graph, [SPLIT, RoundSoftmax(config)], context)
    assert not steps[-1].changed and "round_log2" not in {n.op for n in result.nodes}
    assert not steps[-1].notes[0].taken and "equal steps" in steps[-1].notes[0].reason
    replayed = Context(samples=samples, locked=context.decisions)
    again, steps = run_passes(graph, [SPLIT, RoundSoftmax(config)], replayed)
    assert not steps[-1].changed and len(again.nodes) == len(result.nodes)


# -- the whole path ----------------------------------------------------------------------------------------------


class Tiny(torch.nn.Module):
    """One transformer block behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = torch.nn.Conv2d(1, 16, 4, 4)
        self.norm = torch.nn.LayerNorm(16)
        self.q, self.k, self.v, self.out = (torch.nn.Linear(16, 16) for _ in range(4))
        self.fc1, self.fc2 = torch.nn.Linear(16, 32), torch.nn.Linear(32, 16)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        h = self.norm(x)
        q, k, v = (layer(h).view(1, -1, 2, 8).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(1, -1, 16))
        return (x + self.fc2(torch.nn.functional.gelu(self.fc1(x)))).mean(1)


@pytest.fixture(scope="module")
def compiled():
    images = np.random.default_rng(0).normal(size=(12, 1, 1, 16, 16)).astype(np.float32)
    return qc.compile(Tiny().eval(), (torch.from_numpy(images[0]),), target="onnx", recipe="w4a4", calibration=list(images))


def test_every_product_computes_on_4_bits(compiled):
    kinds = {row.dtype for row in compiled.report.coverage if row.op in ("linear", "matmul") and "x" in row.dtype}
    assert kinds == {"uint4 x int4", "uint4 x uint4"}
    assert {row.dtype for row in compiled.report.coverage if row.op == "conv"} == {"uint8 x int8"}
    assert compiled.report.verified


def test_codes_that_are_only_dequantized_are_4_bit_tensors(compiled):
    model = onnx.load(compiled.folder / "model.onnx")
    types = {i.name: i.data_type for i in model.graph.initializer}
    zero_types = [types[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert zero_types.count(onnx.TensorProto.UINT4) >= 3  # norm, attention weights, input of fc1 or fc2
    onnx.checker.check_model(model)


def test_the_width_of_codes_is_that_of_the_product_that_made_them():
    from qcompiler.compilation import build_passes
    from qcompiler.targets import get_target

    images = np.random.default_rng(0).normal(size=(4, 1, 1, 16, 16)).astype(np.float32)
    from qcompiler.compilation import Request, capture_model

    graph, _ = capture_model(Request(Tiny().eval(), (torch.from_numpy(images[0]),)))
    context = Context(target=get_target("onnx"), samples=load_samples(list(images), graph))
    passes = build_passes(load_recipe("w4a4"), context.target)
    names = [p.name for p in passes]
    run_passes(graph, passes[: names.index("calibrate_activations") + 1], context)
    plan = context.tables["plan"]
    (conv,) = [n for n in plan.nodes if n.op == "conv"]
    (moved,) = [n for n, _ in plan.graph.uses(conv.output)]
    assert plan.nodes[moved].scheme == STATIC
    assert plan.activations[conv.output].dtype is plan.activations[moved.output].dtype is DType.uint8
