import sys
from dataclasses import replace

import numpy as np
import pytest
from search.problems import bits_target, problem, space_for, workload

from qcompiler.errors import UsageError
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.frontend.factory import load_callable
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.quantize.assign_precision import PLAN
from qcompiler.passes.quantize.plan import QuantPlan
from qcompiler.passes.rounding.round_gptq import RoundGptq
from qcompiler.passes.rounding.sites import is_matrix
from qcompiler.recipe import load_recipe
from qcompiler.search.fast import FastEvaluator
from qcompiler.search.losses import paired_error
from qcompiler.search.recipes import to_recipe
from qcompiler.search.shipping import pack, unpack
from qcompiler.targets import get_target
from support.toy_networks import encoder_network, mobile_network


@pytest.mark.parametrize("network", [mobile_network, encoder_network])
def test_codes_and_ranges_are_those_of_the_compilers_own_passes(network):
    """With corrections off, the shared caches give what running the passes for one recipe gives, for every recipe."""
    work = workload(network(), bits_target(8, 4))
    space = space_for(work, knobs=True)
    evaluator = FastEvaluator(work, space)
    for config in space.sample(np.random.default_rng(2), 6):
        recipe = to_recipe(space, config, work.recipe).with_changes({"bias_correction": False, "rounding": "nearest"})
        if recipe.activation_range.method == "auto":
            continue  # decided once for all configurations here
        branch = evaluator.branch(recipe)
        count = min(recipe.calibration.max_samples, len(work.calibration))
        context = Context(target=work.target, samples=work.calibration.select(range(count)))
        run_passes(branch.graph, work.target.pipeline({"assign_precision": _assign(recipe), "correct_bias": None}), context)
        ours, theirs = branch.plan(recipe), context.tables[PLAN]
        assert ours.activations == theirs.activations and ours.stored == theirs.stored
        for node, codes in theirs.weights.items():
            np.testing.assert_array_equal(ours.weights[node].codes, codes.codes)
            assert ours.weights[node].quant == codes.quant


def _assign(recipe):
    from qcompiler.passes.quantize.assign_precision import AssignConfig

    return AssignConfig(recipe=recipe)


def test_fewer_bits_lose_more_and_figures_agree():
    evaluator = problem()
    wide = evaluator.accuracy(evaluator.space.uniform("static w8a8"))
    narrow = evaluator.accuracy(evaluator.space.uniform("static w4a8"))
    assert 0 < wide.loss < narrow.loss
    assert wide.loss == pytest.approx(10 ** (-wide.evaluation.sqnr_db / 10), rel=1e-6)  # the same sums, added otherwise
    assert wide.drop("sqnr") == -wide.evaluation.sqnr_db
    assert paired_error(wide.noise, narrow.noise) > 0 == paired_error(wide.noise, wide.noise)


def test_bias_correction_removes_the_mean_error_of_a_layer():
    work = workload(mobile_network(), bits_target(8, 4))
    evaluator = FastEvaluator(work, space_for(work))
    recipe = to_recipe(evaluator.space, evaluator.space.uniform("static w4a8"), work.recipe)
    branch = evaluator.branch(recipe)
    plan = branch.plan(recipe)
    layer = next(n for n in branch.graph.nodes if n.origin.module == "block.project0")  # 1x1: no border
    shifts = {}
    for name, biases in (("off", {}), ("on", {layer: plan.biases[layer]})):
        alone = QuantPlan(branch.graph, weights={layer: plan.weights[layer]}, biases=biases)
        total = 0.0
        for sample in work.calibration:
            seen = {}
            run = TorchExecutor(branch.graph)
            run.run(sample, [layer.output], lambda v, t, seen=seen: seen.update(real=t.clone()))
            run.run(sample, [layer.output], lambda v, t, seen=seen: seen.update(rounded=t.clone()), plan=alone)
            total = total + (seen["rounded"] - seen["real"]).mean((0, 2, 3)).numpy()
        shifts[name] = np.abs(total).sum()
    assert shifts["on"] < 1e-4 * shifts["off"]  # float32 sums


def test_fitted_codes_are_those_of_the_uniform_model_and_made_once():
    target = get_target("onnxruntime-cpu:avx2")
    work = replace(workload(mobile_network(), target), recipe=load_recipe("w8a8").with_changes({"equalize": False, "never_slower": False}))
    space = space_for(work, knobs=True)
    evaluator = FastEvaluator(work, space)
    place = [k.name for k in space.knobs].index("rounding")
    assert [o.name for o in space.knobs[place].options] == ["auto", "gptq"]
    plain = (*([0] * len(space.knobs)), *([0] * len(space.groups)))
    fitted = (*plain[:place], 1, *plain[place + 1 :])
    assert evaluator.reuses(plain) != evaluator.reuses(fitted) and not evaluator.made()
    evaluator.trial(plain)
    assert evaluator.reuses(plain) in evaluator.made() and evaluator.reuses(fitted) not in evaluator.made()
    recipe = to_recipe(space, fitted, work.recipe)
    branch = evaluator.branch(recipe)
    plans = [branch.plan(to_recipe(space, c, work.recipe)) for c in (plain, fitted)]
    assert evaluator.reuses(fitted) in evaluator.made() and branch is evaluator.branch(to_recipe(space, plain, work.recipe))
    moved = {n for n, c in plans[1].weights.items() if (c.codes != plans[0].weights[n].codes).any()}
    assert moved and all(is_matrix(n) for n in moved)
    # what the pass itself does on that plan, from the codes that it starts with
    context = Context(target=target, samples=work.calibration)
    context.tables[PLAN] = replace(plans[1], weights=dict(plans[0].weights), biases={})
    RoundGptq().run(branch.graph, context)
    for node in moved:
        np.testing.assert_array_equal(context.tables[PLAN].weights[node].codes, plans[1].weights[node].codes)
        assert (plans[0].biases[node] != plans[1].biases[node]).any()
    first = next(i for i, g in enumerate(space.groups) if any(n.origin.module == m for n in moved for m, _ in g.members))
    real = (*fitted[: len(space.knobs) + first], len(space.groups[first].choices) - 1, *fitted[len(space.knobs) + first + 1 :])
    mixed = branch.plan(to_recipe(space, real, work.recipe))
    kept = moved & mixed.weights.keys()
    assert kept < moved and all(mixed.weights[n] is plans[1].weights[n] for n in kept)


def test_an_evaluator_travels_to_another_process_with_what_it_has_computed(monkeypatch):
    work = workload(mobile_network(seed=3))
    space = space_for(work)
    first, second = space.sample(np.random.default_rng(0), 2)
    evaluator = FastEvaluator(work, space)
    evaluator.accuracy(first)
    copy = unpack(pack(evaluator))
    assert space_for(copy.workload).hash == space.hash
    with monkeypatch.context() as patched:
        patched.setattr("qcompiler.calibration.collect", None)  # nothing is calibrated again
        assert copy.accuracy(first).loss == evaluator.accuracy(first).loss
    assert copy.accuracy(second).loss == evaluator.accuracy(second).loss


def test_a_metric_of_the_user_s_file_travels(tmp_path):
    (tmp_path / "mine.py").write_text("def half(outputs, expected):\n    return 0.5\n")
    evaluator = problem(metric=load_callable(tmp_path / "mine.py", "half"))
    packed = pack(evaluator)
    del sys.modules["qcompiler_user_mine"]  # as in another process
    assert unpack(packed).workload.metric(None, None) == 0.5


def test_what_cannot_travel_is_named():
    evaluator = problem(metric=lambda outputs, expected: 0.0)
    with pytest.raises(UsageError, match="A metric must be a function of a module"):
        pack(evaluator)
