import numpy as np
import pytest
import torch
from search.problems import problem

from qcompiler.errors import UsageError
from qcompiler.passes.rounding.sites import weight_of
from qcompiler.search.sensitivity import correlate, get_provider, provider_names
from qcompiler.search.sensitivity.base import Subject
from qcompiler.search.sensitivity.hessian import HutchinsonTrace
from support.toy_networks import encoder_network


@pytest.fixture(scope="module")
def evaluator():
    return problem()


@pytest.fixture(scope="module")
def encoder():
    return problem(graph=encoder_network())


@pytest.mark.parametrize("network", ["evaluator", "encoder"])
@pytest.mark.parametrize("name", provider_names())
def test_every_provider_prefers_more_bits(network, name, request):
    evaluator = request.getfixturevalue(network)
    space = evaluator.space
    reference = space.uniform("static w8a8")
    found = get_provider(name).estimate(evaluator, reference)
    assert found.provider == name and len(found.table) == len(space.groups)
    for row, error, group in zip(found.table, found.error, space.groups, strict=True):
        assert row.shape == error.shape == (len(group.choices),) and (row >= 0).all() and (error >= 0).all()
        assert [c.weight_bits for c in group.choices] == [8, 4]
    total = [sum(row[i] for row in found.table) for i in (0, 1)]
    assert total[1] > total[0]
    assert found.of(space, space.uniform("static w4a8")) == pytest.approx(total[1])


def test_measured_loss_of_one_group_is_the_difference_of_two_trials(evaluator):
    space, reference = evaluator.space, evaluator.space.uniform("static w8a8")
    found = get_provider("loss").estimate(evaluator, reference)
    changed = (*reference[:2], 1, *reference[3:])
    difference = evaluator.accuracy(changed).loss - evaluator.accuracy(reference).loss
    assert found.table[2][1] == max(0.0, difference) and found.table[2][0] == 0.0
    assert found.forwards == 1 + len(space.groups)


def test_layer_output_noise_is_that_of_the_layer_alone(evaluator):
    space, reference = evaluator.space, evaluator.space.uniform("static w8a8")
    found = get_provider("layer_sqnr").estimate(evaluator, reference)
    study = Subject(evaluator, reference)
    plan = study.plan_of(space.groups[0], 1)
    (node,) = study.nodes(space.groups[0])
    noise = power = 0.0
    for (image,) in study.samples(4):
        x, quant = torch.from_numpy(image), plan.activations[node.operands[0]]
        rounded = torch.from_numpy(quant.dequantize(quant.quantize(image)))
        run = lambda x, w, b: torch.nn.functional.conv2d(x, torch.from_numpy(w), torch.from_numpy(b), 2, 1)  # noqa: E731
        real = run(x, weight_of(node), np.asarray(node.operands[2].data))
        got = run(rounded, plan.weights[node].real(), plan.biases[node])
        noise += float((got - real).double().square().sum())
        power += float(real.double().square().sum())
    assert found.table[0][1] == pytest.approx(noise / power, rel=1e-3)  # float32 convolutions in two memory layouts


def test_hutchinson_traces_are_those_of_the_whole_hessian(evaluator):
    """Of the last layer, small enough to compute every second derivative."""
    from qcompiler.executors.torch_executor import TorchExecutor

    space = evaluator.space
    study = Subject(evaluator, space.uniform("static w8a8"))
    (node,) = study.nodes(space.groups[-1])
    executor = TorchExecutor(study.branch.graph)
    exact = 0.0
    for arrays in study.samples(2):
        seen = {}
        executor.run(arrays, [node.operands[0]], lambda v, t, seen=seen: seen.update(x=t.clone()))
        x, w, b = seen["x"], executor.constants[node.operands[1]], executor.constants[node.operands[2]]
        wanted = torch.nn.functional.linear(x, w, b).softmax(-1)

        def loss(weight, x=x, b=b, wanted=wanted):
            return -(wanted * torch.nn.functional.linear(x, weight, b).log_softmax(-1)).sum(-1).mean()

        hessian = torch.autograd.functional.hessian(loss, w).reshape(w.numel(), w.numel())
        exact += float(hessian.diagonal().sum()) / 2
    means, errors, _ = HutchinsonTrace(vectors=64, samples=2).mean_traces(study)
    assert abs(means[-1] - exact / w.numel()) < 4 * errors[-1]
    assert errors[-1] < 0.5 * exact / w.numel()


def test_rank_correlation_needs_thirty_configurations_and_finds_a_perfect_ranking(evaluator):
    space = evaluator.space
    configs = space.sample(np.random.default_rng(0), 40)
    found = get_provider("weight_mse").estimate(evaluator, space.uniform("static w8a8"))
    sums = [found.of(space, c) for c in configs]
    assert correlate(found, space, configs, sums).spearman == pytest.approx(1.0)
    assert correlate(found, space, configs, [-s for s in sums]).kendall == pytest.approx(-1.0)
    assert np.isnan(correlate(found, space, configs, [1.0] * 40).spearman)
    with pytest.raises(UsageError, match="needs 30"):
        correlate(found, space, configs[:29], sums[:29])


def test_unknown_providers_are_refused_by_name():
    with pytest.raises(UsageError, match="Did you mean 'hessian'"):
        get_provider("hesian")
