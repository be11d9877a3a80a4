import numpy as np
import pytest
from search.problems import problem

from qcompiler.metrics import spearman
from qcompiler.search.boost import PackSum, Trees
from qcompiler.search.cost_models import USEFUL, AccuracyModel, Corpus, LatencyModel
from qcompiler.search.features import Features


def packs_of(rng, count, groups):
    """Configurations whose loss is the sum of what their rows say, on a scale of the model's own."""
    packs, losses = [], []
    for _ in range(count):
        rows = [{"group_bits": float(rng.choice([2, 4, 8])), "group_noise": float(rng.normal())} for _ in range(groups)]
        packs.append(rows)
        losses.append(sum(10 ** r["group_noise"] * 2.0 ** -r["group_bits"] for r in rows))
    return packs, np.array(losses)


def test_sums_over_rows_are_learned_whatever_their_number():
    rng = np.random.default_rng(0)
    packs, labels = [], []
    for groups in (3, 12):
        found = [[{"x": float(v)} for v in rng.random(groups)] for _ in range(150)]
        packs += found
        labels += [sum(3 * r["x"] for r in p) for p in found]
    model = PackSum(Trees(rounds=150), seed=0, monotone={})
    model.fit(packs, labels)
    error = np.sqrt(np.mean((model.predict(packs) - labels) ** 2))
    assert error < 0.15 * np.std(labels)


def test_predictions_are_monotone_where_they_have_to_be_and_repeat():
    rng = np.random.default_rng(1)
    packs, losses = packs_of(rng, 200, 4)
    first, second = (AccuracyModel(seed=3) for _ in range(2))
    for model in (first, second):
        model.fit(packs, losses)
    np.testing.assert_array_equal(first.predict(packs), second.predict(packs))
    grid = [[{"group_bits": 4.0, "group_noise": float(v)}] for v in np.linspace(-3, 3, 50)]
    assert (np.diff(first.predict(grid)) >= 0).all()
    bits = [[{"group_bits": float(b), "group_noise": 0.0}] for b in (2, 4, 8)]
    assert (np.diff(first.predict(bits)) <= 0).all()


def corpora(count, seed=0, shuffled=False):
    found = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        packs, losses = packs_of(rng, 80, 3 + i)
        losses *= 10.0 ** rng.integers(-3, 3)  # every model on its own scale
        found.append(Corpus(f"model{i}", packs, rng.permutation(losses) if shuffled else losses))
    return found


def test_other_models_rank_a_new_one_without_own_trials():
    model = AccuracyModel(corpora(4))
    assert model.transfers and min(model.held_out.values()) > 0.6
    packs, losses = packs_of(np.random.default_rng(99), 100, 6)
    assert spearman(model.predict(packs), losses) > 0.6


def test_models_that_say_nothing_are_not_used():
    model = AccuracyModel(corpora(4, shuffled=True))
    assert np.mean(list(model.held_out.values())) < USEFUL and not model.transfers
    packs, losses = packs_of(np.random.default_rng(5), 60, 6)
    model.fit(packs, losses)
    assert spearman(model.predict(packs), losses) > 0.8  # own trials still count


def test_own_trials_give_the_scale():
    packs, losses = packs_of(np.random.default_rng(7), 60, 5)
    model = AccuracyModel(corpora(3), check=False)
    model.fit(packs, losses * 1e6)
    assert abs(float(np.mean(model.predict(packs) - np.log(losses * 1e6)))) < 0.05


def test_latencies_are_a_learned_factor_on_the_formula():
    rng = np.random.default_rng(2)
    rows = [{"layers static w8a8": float(v)} for v in rng.random(40)]
    analytic = rng.uniform(1, 5, 40)
    measured = analytic * np.array([0.5 if r["layers static w8a8"] > 0.5 else 2.0 for r in rows]) * 3
    model = LatencyModel()
    model.fit(rows[:2], analytic[:2], measured[:2])
    np.testing.assert_allclose(model.predict(rows[:2], analytic[:2]).prod(), measured[:2].prod())  # mean of logarithms
    model.fit(rows, analytic, measured)
    np.testing.assert_allclose(model.predict(rows, analytic), measured, rtol=0.1)
    with pytest.raises(ValueError, match="above 0"):
        model.fit(rows[:1], [1.0], [0.0])


def test_features_of_configurations_follow_their_choices():
    evaluator = problem()
    space, features = evaluator.space, Features(evaluator)
    wide, narrow = (space.uniform(n) for n in ("static w8a8", "static w4a8"))
    assert features.config_row(wide)["noise_sum"] < features.config_row(narrow)["noise_sum"]
    rows = features.group_rows(narrow)
    assert [r["group_bits"] for r in rows] == [4.0] * len(space.groups)
    assert sum(r["group_depthwise"] for r in rows) == 1.0
    spent = features.seconds
    features.rows((*wide[:-1], narrow[-1]))
    assert features.seconds == spent  # both choices were known
