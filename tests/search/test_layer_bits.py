"""The bench of bits per layer, on a small network."""

import numpy as np
import pytest
import torch
from search.problems import workload

from benchmarks.search import layer_bits
from benchmarks.search.layer_bits import Bench, Kept, search
from benchmarks.search.weight_bits import BITS, WeightBits, _cached, rounded
from support.toy_networks import encoder_network


@pytest.fixture(scope="module")
def subject():
    make = _cached(lambda node, bits: rounded(np.asarray(node.operands[1].data), bits))
    return WeightBits(workload(encoder_network()), make, "loss", float)


def test_codes_are_in_groups_and_their_error_falls_with_bits():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 100)).astype(np.float32)
    errors = []
    for bits in BITS:
        found = rounded(weight, bits)
        assert found.real().shape == weight.shape and found.scale.shape == (8, 1 if bits == 8 else 2)
        assert len(np.unique(found.codes)) <= 2**bits
        errors.append(np.square(found.real() - weight).sum())
    assert errors == sorted(errors)


def test_rounding_under_the_input_s_moment_loses_less_at_the_output():
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((16, 64)).astype(np.float32)
    inputs = (rng.standard_normal((256, 8)) @ rng.standard_normal((8, 64)) + 0.1 * rng.standard_normal((256, 64)))
    inputs = inputs.astype(np.float32)
    plain, gptq = rounded(weight, 3), rounded(weight, 3, torch.from_numpy(inputs.T @ inputs))
    error = [np.square(inputs @ (w.real() - weight).T).sum() for w in (plain, gptq)]
    assert error[1] < 0.7 * error[0]


def test_what_is_searched_is_no_worse_than_any_provider_alone_and_is_kept(subject, tmp_path, monkeypatch):
    monkeypatch.setitem(layer_bits.PROVIDERS, "toy", ("weight_mse", "layer_sqnr", "loss"))
    monkeypatch.setitem(layer_bits.EVOLUTION, "toy", layer_bits.Evolution(3, 4, (1,), 2))
    monkeypatch.setitem(layer_bits.STEPS, "toy", 1)
    bench = Bench(subject, Kept(tmp_path))
    solutions, lines = search(bench, "toy", 5.0)
    assert all(bench.mean_bits(c) <= 5.0 + 1e-9 for c in solutions.values())
    losses = {name: bench.loss(c, "judged") for name, c in solutions.items()}
    assert losses["searched"] == min(losses.values()) < bench.loss(bench.uniform(4), "judged")
    assert all("gap to that bound" in line for line in lines[:-1])
    away, low, high = bench.beside(solutions["searched"], bench.uniform(2), "report")
    assert away == pytest.approx(bench.loss(bench.uniform(2), "report") - bench.loss(solutions["searched"], "report"))
    assert 0 < low < away < high and bench.beside(solutions["searched"], solutions["searched"], "report") == (0, 0, 0)
    monkeypatch.setattr(subject, "samples", None)  # the losses are in the folder: the network is not needed
    again = Bench(subject, Kept(tmp_path))
    assert search(again, "toy", 5.0)[0] == solutions


def test_calibrated_sensitivities_have_what_was_measured_of_each_cluster(subject, tmp_path):
    bench = Bench(subject, Kept(tmp_path))
    table, wide, three = bench.sensitivity("layer_sqnr"), bench.uniform(8), BITS.index(3)
    scaled = bench.calibrated(table)
    for members in subject.clusters(layer_bits.CLUSTERS):
        lowered = [three if g in members else c for g, c in enumerate(wide)]
        added = bench.loss(lowered, "judged") - bench.loss(wide, "judged")
        assert sum(scaled[g][three] for g in members) == pytest.approx(max(added, 1e-6))


def test_the_mean_of_providers_counts_each_the_same():
    rng = np.random.default_rng(0)
    table = [rng.random(len(BITS)) for _ in range(5)]
    unit = sum(row[BITS.index(3)] for row in table)
    for got, row in zip(layer_bits.mixed([table, [1000 * r for r in table]]), table, strict=True):
        np.testing.assert_allclose(got, row / unit, rtol=1e-12)  # sums of five in another order


def test_runs_that_go_on_from_an_earlier_one_lose_the_same(subject):
    make = _cached(lambda node, bits: rounded(np.asarray(node.operands[1].data), bits))
    resumed = WeightBits(workload(encoder_network()), make, "loss", float)
    start = (1,) * len(resumed.nodes)
    resumed.go_on_from(start)
    kept = resumed._earlier[-1]
    for at in (0, len(start) - 1):
        other = (*start[:at], 3, *start[at + 1 :])
        same = kept.unchanged(resumed.plan(other))
        assert same < set(kept.values[0]) or at == len(start) - 1  # fewer values are kept, the earlier the layer
        assert resumed.loss(other, "judged") == pytest.approx(subject.loss(other, "judged"), rel=1e-6)
    assert kept.unchanged(resumed.plan(start)) == set(kept.values[0])


def test_products_are_losses_of_single_changes(subject):
    start = (1,) * len(subject.nodes)
    changes = [(0, 2), (2, 0), (len(start) - 1, 3)]
    products = subject.products(start, changes)
    assert products[0, 0] == pytest.approx(subject.loss(start, "judged"), rel=1e-6)
    for i, (g, c) in enumerate(changes, 1):
        changed = subject.loss((*start[:g], c, *start[g + 1 :]), "judged")
        assert products[0, 0] + 2 * products[0, i] + products[i, i] == pytest.approx(changed, rel=1e-4)
