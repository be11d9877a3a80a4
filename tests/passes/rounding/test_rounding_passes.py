"""Rounding passes on small networks: error bounds, and better than what they start from."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from qcompiler.calibration import ConvInput
from qcompiler.errors import ConstraintError
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, Graph
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.quantize.plan import WeightCodes
from qcompiler.passes.quantize.sample_batches import choose_samples
from qcompiler.passes.rounding.correct_bias import BiasConfig, CorrectBias
from qcompiler.passes.rounding.filter_covariance import FilterCovariance
from qcompiler.passes.rounding.round_adaround import AdaroundConfig, RoundAdaround
from qcompiler.passes.rounding.round_hessian import RoundHessian
from qcompiler.passes.rounding.round_nearest import NearestConfig, RoundNearest, quantize_weight
from qcompiler.passes.rounding.side_by_side import SideBySide
from qcompiler.passes.rounding.sites import weight_of, weighted_nodes
from qcompiler.recipe import load_recipe
from qcompiler.targets import saturation
from qcompiler.targets.saturation import is_depthwise, is_pair_safe
from support.sums import sums_fit
from support.toy_networks import (
    Layers,
    ToyTarget,
    basic_passes,
    context_for,
    encoder_network,
    mobile_network,
    plan_of,
    quantize,
    random_samples,
    recipe_with,
    sqnr_db,
)


def prepared(graph: Graph, recipe=None, target: ToyTarget | None = None, count: int = 8) -> Context:
    context = context_for(graph, count, target)
    run_passes(graph, basic_passes(recipe), context)
    return context


def fake_sqnr(graph: Graph, context: Context, seed: int = 11) -> float:
    executor, samples = TorchExecutor(graph), random_samples(graph, 8, seed)
    real = np.stack([executor.run(s)[0].numpy() for s in samples])
    return sqnr_db(real, np.stack([executor.run(s, plan=plan_of(context))[0].numpy() for s in samples]))


def test_nearest_codes_are_within_half_a_step_and_symmetric():
    context = prepared(mobile_network(), recipe_with(weight_range="minmax"))
    for node, codes in plan_of(context).weights.items():
        step = codes.quant.broadcast(codes.quant.scale, codes.codes.shape)
        assert np.abs(codes.real() - weight_of(node)).max() <= 0.5001 * step.max()
        assert codes.codes.min() >= -127 and codes.quant.axis == 0


def test_least_squares_scale_is_no_worse_than_the_largest_weight():
    rng = np.random.default_rng(0)
    b = Layers("heavy")
    x = b.input("x", DType.float32, (1, 64))
    w = (rng.standard_t(3, (8, 64))).astype(np.float32)
    graph = b.build([b.op("linear", x, b.const(w), None)])
    context = prepared(graph)
    plan, node, errors = plan_of(context), graph.nodes[0], {}
    for method in ("minmax", "mse"):
        plan.nodes[node] = replace(plan.nodes[node], weight_dtype=DType.int4, weight_range=method)
        errors[method] = np.square(RoundNearest().round(plan, node).real() - w).sum(1)
    assert (errors["mse"] <= errors["minmax"] * (1 + 1e-6)).all() and errors["mse"].sum() < 0.9 * errors["minmax"].sum()


def test_per_tensor_weights():
    graph = mobile_network()
    context = context_for(graph)
    quantize(graph, context, recipe_with(per_channel=False))
    assert all(c.quant.per_tensor for c in plan_of(context).weights.values())


def test_pair_products_get_safe_weights_except_depthwise():
    graph = mobile_network()
    target = ToyTarget(capabilities=frozenset({"accumulator_to_float", "int16_pair_products"}))
    context = prepared(graph, target=target)
    RoundHessian().run(graph, context)
    for node, codes in plan_of(context).weights.items():
        assert is_pair_safe(codes.codes, node.attrs.get("groups", 1)), node


def test_integer_programs_keep_eight_bits_where_pairs_saturate():
    """Their weights are those of a target without the limit: the emitter stores them so that nothing saturates."""
    graph, recipe = mobile_network(), load_recipe("w8a8-int")
    limited = ToyTarget(capabilities=frozenset({"accumulator_to_float", "int16_pair_products"}))
    free = ToyTarget(capabilities=frozenset({"accumulator_to_float"}))
    first, second = (plan_of(prepared(graph, recipe, target)).weights for target in (limited, free))
    assert all(np.array_equal(first[n].codes, second[n].codes) for n in first)
    assert not all(is_pair_safe(c.codes, n.attrs.get("groups", 1)) for n, c in first.items())


@pytest.fixture
def few_channels(monkeypatch):
    """Layers of a toy network may add up many products too."""
    monkeypatch.setattr(saturation, "LEAST_CHANNELS", {4: 1, 8: 1})


@pytest.mark.parametrize("wanted", [1, 2, 4, 8])
def test_a_recipe_decides_on_sums_whatever_the_target_asks_for(wanted, few_channels):
    graph, weights = mobile_network(), []
    for capabilities in ({"accumulator_to_float"}, {"accumulator_to_float", "int16_pair_products"}):
        for base in ("w8a8", "w8a8-int"):
            context = prepared(graph, load_recipe({"base": base, "int16_products": wanted}), ToyTarget(capabilities=frozenset(capabilities)))
            RoundHessian().run(graph, context)
            weights.append({n: c.codes for n, c in plan_of(context).weights.items()})
    full = [{n: c for n, c in found.items() if not is_depthwise(c.shape, n.attrs.get("groups", 1))} for found in weights]
    assert all(0 < len(found) < len(weights[0]) for found in full)
    for count in (2, 4, 8):
        assert [all(sums_fit(c, count) for c in found.values()) for found in full] == [count <= wanted] * 4


def test_roundings_that_move_codes_beyond_the_limit_are_refused(few_channels):
    graph = mobile_network()
    for field in ({"rounding": "hessian"}, {"rounding": "adaround"}, {"weight_digits": 2}):
        recipe = load_recipe({"base": "w8a8", "int16_products": 4, **field})
        with pytest.raises(ConstraintError, match=r"int16_products: 4 limits sums of 4 weights, which .* does not keep to"):
            prepared(graph, recipe)


def test_hessian_rounding_finds_the_best_of_all_roundings():
    rng = np.random.default_rng(1)
    w = rng.standard_normal((3, 1, 2, 2)).astype(np.float32)
    rows = rng.standard_normal((3, 50, 4)) @ rng.standard_normal((3, 4, 4))
    covariance = np.einsum("gri,grj->gij", rows, rows) / 50
    start = quantize_weight(w, np.abs(w.reshape(3, -1)).max(1) / 127, DType.int8)
    pass_ = RoundHessian()
    codes, gain = pass_.round(w, start, covariance, np.zeros(3))
    hessian = covariance + 0.01 * np.trace(covariance, axis1=1, axis2=2)[:, None, None] / 4 * np.eye(4)
    for channel in range(3):
        flat = w[channel].ravel().astype(np.float64)
        least = np.inf
        for factor in np.linspace(1, 0.6, 21):
            scale = float(np.float32(factor * np.abs(flat).max() / 127))
            for bits in itertools.product((0, 1), repeat=4):
                q = np.clip(np.floor(flat / scale), -127, 126) + bits
                rest = flat - scale * q
                least = min(least, rest @ hessian[channel] @ rest)
        rest = flat - codes.real()[channel].ravel()
        assert rest @ hessian[channel] @ rest == pytest.approx(least, rel=1e-4)
    assert 0 < gain < 1


@pytest.mark.parametrize("kernel", [3, 5])
def test_hessian_rounding_lowers_the_error_it_looks_at(kernel):
    b = Layers("depthwise", seed=kernel)
    x = b.input("x", DType.float32, (1, 6, 11, 9))
    graph = b.build([b.conv(b.op("sigmoid", x), 6, kernel, groups=6)])
    context = prepared(graph)
    node = weighted_nodes(plan_of(context))[0]
    before = plan_of(context).weights[node]
    result = RoundHessian().run(graph, context)
    after = plan_of(context).weights[node]
    assert result.notes[0].taken and result.notes[0].data["error_ratio"] < 0.9
    samples, executor = random_samples(graph, 8, 5), TorchExecutor(graph)

    def variance(codes: WeightCodes) -> float:
        """Output error of the layer around its mean, on other data."""
        errors = []
        for sample in samples:
            y = executor.run_node(node, [torch.sigmoid(torch.tensor(sample[0])), torch.tensor(weight_of(node) - codes.real()), None])
            errors.append((y[0] - torch.as_tensor(node.inputs[2].data).reshape(1, -1, 1, 1)).numpy())
        stacked = np.concatenate(errors)
        return float(stacked.var(axis=(0, 2, 3)).sum())

    assert variance(after) < variance(before)
    again = RoundHessian().run(graph, context)
    assert not again.notes[0].taken and plan_of(context).weights[node] is after


def test_hessian_rounding_refuses_long_filters_with_a_reason():
    graph = encoder_network()
    context = prepared(graph)
    result = RoundHessian().run(graph, context)
    assert result.notes and not any(n.taken for n in result.notes) and all(n.reason for n in result.notes)


def test_filter_covariance_is_that_of_the_patches_and_merges():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4, 7, 6)).astype(np.float32) + 2
    layer = ConvInput((3, 3), (2, 1), ((0, 1), (1, 1)), (1, 1), groups=4)
    whole, left, right = (FilterCovariance(layer, patches=1000) for _ in range(3))
    whole.observe(x)
    left.observe(x[:2])
    right.observe(x[2:])
    left.merge(right)
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (1, 1)))
    rows = np.stack([padded[n, :, i : i + 3, j : j + 3].reshape(4, 9) for n in range(6) for i in (0, 2, 4) for j in range(6)], 1)
    centred = rows - rows.mean(1, keepdims=True)
    expected = np.einsum("gri,grj->gij", centred, centred) / rows.shape[1]
    np.testing.assert_allclose(whole.covariance, expected, atol=1e-4)
    np.testing.assert_allclose(left.covariance, expected, atol=1e-4)


def biased_network() -> Graph:
    """Weights whose rounding errors all point one way, on inputs with a large mean."""
    b = Layers("biased")
    x = b.input("x", DType.float32, (1, 8, 6, 6))
    y = b.op("sigmoid", x)
    for name in ("a", "b"):
        w = (np.full((8, 8, 1, 1), 0.3004) + b.random(8, 8, 1, 1, scale=1e-4)).astype(np.float32)
        w[:, 0] = 1.0
        y = b.op("conv", y, b.const(w), None, strides=(1, 1), pads=(0,) * 4, dilations=(1, 1), origin=type(b.origin)(name))
    return b.build([y])


def test_bias_correction_removes_the_mean_error():
    graph = biased_network()
    context = prepared(graph, recipe_with(weight_range="minmax"))
    before = fake_sqnr(graph, context)
    CorrectBias().run(graph, context)
    assert fake_sqnr(graph, context) > before + 3
    executor = TorchExecutor(graph)
    samples = context.samples
    error = np.stack([(executor.run(s)[0] - executor.run(s, plan=plan_of(context))[0]).numpy() for s in samples])
    assert np.abs(error.mean(axis=(0, 1, 3, 4))).max() < 2e-3


def test_on_a_float_prefix_a_layer_makes_up_for_its_own_error_only():
    graph = biased_network()
    context = prepared(graph, recipe_with(weight_range="minmax"))
    plan = plan_of(context)
    CorrectBias(BiasConfig(prefix="float")).run(graph, context)
    assert fake_sqnr(graph, context) > fake_sqnr(graph, prepared(graph, recipe_with(weight_range="minmax"))) + 3
    executor, layers = TorchExecutor(graph), [n for n in graph.nodes if n.op == "conv"]
    for node in layers:  # alone, each has the float layer's mean; samples of one shape count alike
        alone = replace(plan.with_real_activations(), weights={node: plan.weights[node]}, biases={node: plan.biases[node]})
        means = []
        for used in ({}, {"plan": alone}):
            seen = []
            for sample in context.samples:
                executor.run(sample, {node.output}, lambda _, t, seen=seen: seen.append(t.double().mean((0, 2, 3))), **used)
            means.append(torch.stack(seen).mean(0))
        np.testing.assert_allclose(means[1].numpy(), means[0].numpy(), atol=1e-5)  # float32 sums


def test_bias_correction_gives_a_biasless_layer_a_bias_that_the_program_has():
    graph = biased_network()
    context = context_for(graph)
    program = quantize(graph, context, extra=(CorrectBias(),))
    assert all(n.inputs[2] is not None for n in program.nodes if n.op == "conv")
    assert len(plan_of(context).biases) == 2


def test_bias_correction_is_idempotent_up_to_rounding():
    graph = mobile_network()
    context = prepared(graph)
    CorrectBias().run(graph, context)
    first = {n: b.copy() for n, b in plan_of(context).biases.items()}
    CorrectBias().run(graph, context)
    for node, bias in plan_of(context).biases.items():
        np.testing.assert_allclose(bias, first[node], atol=5e-3)


def test_bias_correction_without_data_says_so():
    graph = encoder_network()
    context = prepared(graph)
    context.samples = None
    result = CorrectBias().run(graph, context)
    assert not result.notes[0].taken and "no calibration data" in result.notes[0].reason


def test_samples_side_by_side_are_limited_by_memory():
    graph = mobile_network()
    samples = random_samples(graph, 32)
    assert len(choose_samples(graph, samples, 16, 1 << 30)) == 16
    assert len(choose_samples(graph, samples, 16, 1)) == 1


def test_side_by_side_agrees_with_a_whole_run():
    graph = mobile_network()
    context = prepared(graph)
    samples = random_samples(graph, 3, 4)
    seen = {}
    walk = SideBySide(graph, plan_of(context), samples)
    nodes = weighted_nodes(plan_of(context))
    walk.run(nodes, lambda layer: seen.update({layer.node: [t.clone() for t in layer.outputs]}))
    assert list(seen) == nodes
    executor = TorchExecutor(graph)
    expected = [executor.run(s, plan=plan_of(context))[0] for s in samples]
    np.testing.assert_allclose(torch.cat(seen[nodes[-1]]).numpy(), torch.cat(expected).numpy(), rtol=1e-5, atol=1e-6)


def test_configs_round_trip():
    for config in (NearestConfig(shrink=0.7), BiasConfig(samples=3)):
        assert type(config).model_validate_json(config.model_dump_json()) == config
    assert RoundNearest(NearestConfig(steps=2)).config.steps == 2


@pytest.mark.parametrize("network", [mobile_network, encoder_network])
def test_learned_rounding_is_better_than_nearest_and_repeats(network):
    graph = network()
    results = []
    for _ in range(2):
        context = prepared(graph, recipe_with(rounding="adaround", weight_range="minmax"))
        before = {n: c.codes for n, c in plan_of(context).weights.items()}
        result = RoundAdaround(AdaroundConfig(steps=60)).run(graph, context)
        assert len(result.notes) == len(before)
        taken = [n.data["error_ratio"] for n in result.notes if n.taken]
        assert len(taken) >= len(before) // 2 and min(taken) < 0.9
        for node, codes in plan_of(context).weights.items():
            exact = weight_of(node) / codes.quant.broadcast(codes.quant.scale, codes.codes.shape)
            assert (np.abs(codes.codes - exact) < 1.0001).all()  # up or down, nothing else
        results.append([c.codes for c in plan_of(context).weights.values()])
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_learned_rounding_touches_only_the_layers_that_ask_for_it():
    graph = mobile_network()
    context = prepared(graph, recipe_with(rules=[{"match": "head", "rounding": "adaround"}]))
    before = dict(plan_of(context).weights)
    RoundAdaround(AdaroundConfig(steps=30)).run(graph, context)
    changed = [n.origin.module for n, c in plan_of(context).weights.items() if c is not before[n]]
    assert changed in ([], ["head"])
