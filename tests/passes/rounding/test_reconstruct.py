"""Learned rounding: parameters of one weight, units of a network, and what learning them gains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qcompiler.calibration import Samples, load_samples
from qcompiler.errors import UsageError
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, Graph, QuantParams
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.quantize.plan import WeightCodes
from qcompiler.passes.rounding import reconstruct
from qcompiler.passes.rounding.correct_bias import CorrectBias
from qcompiler.passes.rounding.learned_weight import AdaRoundWeight, SignRoundWeight
from qcompiler.passes.rounding.reconstruct import block_units, layer_units
from qcompiler.passes.rounding.round_adaround import AdaroundConfig, RoundAdaround
from qcompiler.passes.rounding.round_autoround import AutoroundConfig, RoundAutoround
from qcompiler.passes.rounding.round_brecq import BrecqConfig, RoundBrecq
from qcompiler.passes.rounding.sites import weight_of, weighted_nodes
from support.toy_networks import (
    FOLLOWERS,
    Layers,
    ToyKernel,
    ToyTarget,
    basic_passes,
    plan_of,
    recipe_with,
    sqnr_db,
)

NARROW = ToyTarget(
    kernels={op: (ToyKernel(DType.uint8, DType.int4),) for op in ("linear", "conv")}
    | dict.fromkeys(FOLLOWERS, (ToyKernel(DType.uint8, None),))
)
METHODS = {
    "adaround": lambda **k: RoundAdaround(AdaroundConfig(steps=80, **k)),
    "brecq": lambda **k: RoundBrecq(BrecqConfig(steps=80, **k)),
    "autoround": lambda **k: RoundAutoround(AutoroundConfig(steps=80, **k)),
}


def blocks_network(count: int = 2, width: int = 12, seed: int = 0) -> Graph:
    """Residual blocks of a norm and two linear layers with GELU, then a head."""
    b = Layers("blocks", seed)
    x = b.input("tokens", DType.float32, (1, 6, width))
    for i in range(count):
        b.origin = type(b.origin)(f"blocks.{i}.norm")
        h = b.op("layer_norm", x, None, None, eps=1e-5)
        h = b.op("gelu", b.linear(h, 2 * width, at=f"blocks.{i}.up"))
        x = b.op("add", x, b.linear(h, width, at=f"blocks.{i}.down"))
    return b.build([b.linear(x, 5, at="head")])


def correlated_samples(graph: Graph, count: int, seed: int = 1) -> Samples:
    """Tokens that vary in few directions, as a network's do: only then is there something to learn."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(3, 12))
    tokens = random.normal(size=(count, 1, 6, 3)) @ mixing + 0.1 * random.normal(size=(count, 1, 6, 12))
    return load_samples([(t.astype(np.float32),) for t in tokens], graph)


def prepared(method: str, graph: Graph | None = None, **rest: object) -> tuple[Graph, Context]:
    graph = graph or blocks_network()
    context = Context(target=NARROW, samples=correlated_samples(graph, 32))
    run_passes(graph, basic_passes(recipe_with(rounding=method, weight_bits=4, weight_range="minmax", **rest)), context)
    return graph, context


def fake_sqnr(graph: Graph, context: Context, seed: int = 11) -> float:
    executor, samples = TorchExecutor(graph), correlated_samples(graph, 16, seed)
    real = np.stack([executor.run(s)[0].numpy() for s in samples])
    return sqnr_db(real, np.stack([executor.run(s, plan=plan_of(context))[0].numpy() for s in samples]))


# -- one weight -------------------------------------------------------------------------------------------------------


def grids(weight: np.ndarray) -> list[WeightCodes]:
    """The weight on a grid per channel, per group with zero points, and with scales of both signs."""
    channel = QuantParams(DType.int4, np.abs(weight).max(1) / 7, axis=0)
    low, high = (f(weight.reshape(3, 2, 4), axis=2) for f in (np.min, np.max))
    scale = (high - low) / 15
    group = QuantParams(DType.uint4, scale, np.clip(np.round(-low / scale), 0, 15), axis=1, group_size=4)
    signed = QuantParams(DType.int4, channel.scale * np.array([1, -1, 1]), axis=0)
    return [WeightCodes(quant.quantize(weight), quant) for quant in (channel, group, signed)]


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)


@pytest.mark.parametrize("grid", range(3))
def test_learning_begins_with_the_codes_given(weight, grid):
    start = grids(weight)[grid]
    adaround, signround = AdaRoundWeight(weight, start, 0.01, 0.2), SignRoundWeight(weight, start, 0.01)
    assert np.array_equal(signround.codes().codes, start.codes)
    np.testing.assert_allclose(signround.real().detach(), start.real(), rtol=1e-6)
    # h(v) begins as the part that rounding down cuts off, so the weight is not rounded yet.
    inside = (start.codes > start.codes.min()) & (start.codes < start.quant.dtype.max)
    np.testing.assert_allclose(adaround.real().detach().numpy()[inside], weight[inside], atol=0.02)
    assert np.abs(adaround.codes().codes.astype(int) - start.codes).max() <= 1


@pytest.mark.parametrize("grid", range(3))
def test_gradients_reach_every_parameter(weight, grid):
    start = grids(weight)[grid]
    for learned, parameters in (
        ((a := AdaRoundWeight(weight, start, 0.01, 0.2)), [a.v]),
        ((s := SignRoundWeight(weight, start, 0.01)), [s.v, s.factor]),
    ):
        (learned.real() * torch.arange(24.0).reshape(3, 8)).sum().backward()
        assert all(p.grad is not None and (p.grad != 0).any() for p in parameters)


def test_rounding_becomes_binary(weight):
    """The penalty alone drives h to 0 or 1."""
    learned = AdaRoundWeight(weight, grids(weight)[0], 0.05, 0.0)
    for step in range(300):
        learned.start_step()
        learned.penalty(step / 300).backward()
        learned.step(step / 300)
    up = learned._up().detach()
    assert float((2 * up - 1).abs().min()) > 0.99
    np.testing.assert_allclose(learned.codes().real(), learned.real().detach(), atol=0.01)


def test_limits_of_signround(weight):
    start = grids(weight)[0]
    floor = start.quant.scale * np.array([0.9, 0.1, 1.0])
    learned = SignRoundWeight(weight, start, 1.0, floor)
    learned.v.grad, learned.factor.grad = torch.ones(3, 8), torch.ones(3)
    learned.step(0.0)
    assert learned.v.detach().unique().tolist() == [-0.5]
    np.testing.assert_allclose(learned.factor.detach(), [0.9, 0.5, 1.0], rtol=1e-6)
    learned.factor.grad = -torch.ones(3)
    learned.step(0.0)
    np.testing.assert_allclose(learned.factor.detach(), 1.2)
    assert (learned.codes().quant.scale > 0).all()
    before = learned.v.detach().clone()
    learned.start_step()
    learned.step(0.5)
    assert torch.equal(before, learned.v.detach())  # no gradient, no step


# -- units --------------------------------------------------------------------------------------------------------------


def test_blocks_are_found_from_module_paths():
    graph, context = prepared("brecq")
    units = block_units(graph, weighted_nodes(plan_of(context)))
    assert [u.name for u in units] == ["blocks.0", "blocks.1", "head"]
    assert [[n.op for n in u.nodes] for u in units] == [["linear", "gelu", "linear", "add"]] * 2 + [["linear"]]
    assert [len(u.layers) for u in units] == [2, 2, 1]
    assert all(u.outputs == (u.nodes[-1].output,) for u in units)
    assert [len(u.nodes) for u in layer_units(weighted_nodes(plan_of(context)))] == [1] * 5


# -- learning -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_learned_codes_are_better_on_new_data_and_repeat(method):
    found = []
    for _ in range(2):
        graph, context = prepared(method)
        before = fake_sqnr(graph, context)
        result = METHODS[method]().run(graph, context)
        assert len(result.notes) == 5 and sum(n.taken for n in result.notes) >= 3
        assert all(n.data["error_ratio"] < 1 for n in result.notes if n.taken)
        assert fake_sqnr(graph, context) > before + 0.5
        found.append(list(plan_of(context).weights.values()))
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a.codes, b.codes) and a.quant == b.quant


def test_means_that_bias_correction_takes_out_are_not_learned() -> None:
    """Told that it follows, blocks are learned to a smaller error behind it."""
    found = {}
    for corrected in (True, False):
        graph, context = prepared("brecq")
        RoundBrecq(BrecqConfig(steps=80), corrected).run(graph, context)
        CorrectBias().run(graph, context)
        found[corrected] = fake_sqnr(graph, context)
    assert found[True] > found[False] + 0.2


def test_a_block_is_never_taken_that_makes_the_network_worse_on_held_out_samples() -> None:
    """A head that looks at one channel, while all channels of a block's output count alike in learning."""
    refused = 0
    for seed in range(3):
        graph = blocks_network(seed=seed)
        head = graph.nodes[-1].operands[1].data
        head.setflags(write=True)
        head[:, 1:] = 0
        graph, context = prepared("brecq", graph)
        held_out = [context.samples[i] for i in range(24, 32)]
        executor = TorchExecutor(graph)
        real = np.stack([executor.run(s)[0].numpy() for s in held_out])

        def error(real=real, executor=executor, held_out=held_out, context=context) -> float:
            got = np.stack([executor.run(s, plan=plan_of(context))[0].numpy() for s in held_out])
            return float(np.square(got - real).sum())

        before = error()
        notes = RoundBrecq(BrecqConfig(steps=40)).run(graph, context).notes
        assert error() <= before
        assert all(n.data["network_ratio"] < 1 for n in notes if n.taken)
        refused += sum("no nearer" in n.reason and n.data["network_ratio"] >= 1 for n in notes)
    assert refused


@pytest.mark.parametrize("method", METHODS)
def test_only_layers_that_ask_are_learned(method):
    graph, context = prepared("nearest", rules=[{"match": "blocks.1.up", "rounding": method}])
    before = dict(plan_of(context).weights)
    result = METHODS[method]().run(graph, context)
    assert {n.site.partition(" (")[0] for n in result.notes} == {"linear at blocks.1.up"}
    changed = {n.origin.module for n, codes in plan_of(context).weights.items() if codes is not before[n]}
    assert changed <= {"blocks.1.up"}


def test_codes_that_learning_does_not_improve_stay():
    graph, context = prepared("adaround")
    for node in plan_of(context).weights:  # weights on their grid: nothing to gain
        node.inputs[1].data.setflags(write=True)
        node.inputs[1].data[:] = plan_of(context).weights[node].real()
        node.inputs[1].data.setflags(write=False)
    before = dict(plan_of(context).weights)
    result = METHODS["adaround"]().run(graph, context)
    assert not any(n.taken for n in result.notes) and "no better" in result.notes[0].reason
    assert all(plan_of(context).weights[n] is codes for n, codes in before.items())


def test_without_data_it_says_what_to_do():
    graph, context = prepared("autoround")
    context.samples = None
    with pytest.raises(UsageError, match="rounding: autoround needs calibration data"):
        METHODS["autoround"]().run(graph, context)


@pytest.mark.parametrize("method", ["adaround", "autoround"])
def test_a_killed_run_continues_to_the_same_bytes(method, tmp_path, monkeypatch):
    def run(kill_after: int | None = None) -> list[WeightCodes]:
        graph, context = prepared(method)
        context = replace(context, checkpoint=tmp_path / "kept", fingerprint={"model": "toy"})
        count = 0
        learn = reconstruct.Reconstruction._learn

        def counted(self, unit, generator):
            nonlocal count
            count += 1
            if kill_after is not None and count > kill_after:
                raise KeyboardInterrupt
            learn(self, unit, generator)

        monkeypatch.setattr(reconstruct.Reconstruction, "_learn", counted)
        try:
            METHODS[method]().run(graph, context)
        finally:
            monkeypatch.setattr(reconstruct.Reconstruction, "_learn", learn)
            counts.append(count)
        return list(plan_of(context).weights.values())

    counts: list[int] = []
    graph, context = prepared(method)
    METHODS[method]().run(graph, context)
    whole = list(plan_of(context).weights.values())
    with pytest.raises(KeyboardInterrupt):
        run(kill_after=2)
    resumed = run()
    units = 5 if method == "adaround" else 3
    assert counts == [3, units - 2]
    for a, b in zip(whole, resumed, strict=True):
        assert a.codes.tobytes() == b.codes.tobytes() and a.quant == b.quant
    again = replace(prepared(method)[1], checkpoint=tmp_path / "kept", fingerprint={"model": "another"})
    with pytest.raises(UsageError, match="model differs"):
        METHODS[method]().run(plan_of(again).graph, again)


def test_weights_of_the_graph_are_not_touched():
    graph, context = prepared("autoround")
    before = {n: weight_of(n).copy() for n in plan_of(context).weights}
    METHODS["autoround"]().run(graph, context)
    assert all(np.array_equal(weight_of(n), w) for n, w in before.items())
