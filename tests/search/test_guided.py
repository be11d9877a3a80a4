"""What is proposed, before anything is run."""

import numpy as np
import pytest
from search.problems import bits_target, workload

from qcompiler.search import costs
from qcompiler.search.chance import chance_of_keeping
from qcompiler.search.cost_models import AccuracyModel
from qcompiler.search.estimates import Estimates
from qcompiler.search.fast import FastEvaluator
from qcompiler.search.features import Features
from qcompiler.search.groups import find_groups
from qcompiler.search.guided import Aim, Guide
from qcompiler.search.recipes import usual_knobs
from qcompiler.search.sensitivity import get_provider
from qcompiler.search.space import Space
from qcompiler.search.store import DONE, Figure, Trial


@pytest.fixture(scope="module")
def fast():
    work = workload(target=bits_target(8, 4))
    return FastEvaluator(work, Space(usual_knobs(len(work.calibration), work.recipe, work.target), find_groups(work.graph, work.recipe, work.target)))


@pytest.fixture(scope="module")
def sensitivity(fast):
    return get_provider("weight_mse").estimate(fast, (0,) * len(fast.space.radix))


def guide(fast, sensitivity):
    return Guide(fast.space, Features(fast), AccuracyModel(), sensitivity, seed=0)


def anchor(ratio):
    figures = {"latency_ratio": Figure(ratio, "measured"), "latency_ms": Figure(10 * ratio, "measured")}
    return Trial("exact", "key", 0, {}, DONE, figures, 1.0)


def test_nothing_known_is_no_reason_against_anything():
    assert (chance_of_keeping((), ())([-9.0, 0.0, 9.0]) == 1).all()


def test_the_chance_falls_with_the_loss_and_more_trials_make_it_sharper():
    losses = np.linspace(-8, -2, 25)
    few = chance_of_keeping([-6.0], [-4.0])(losses)
    many = chance_of_keeping([-6.0, -5.5, -5.2], [-4.8, -4.5, -4.0])(losses)
    for chance in (few, many):
        assert (np.diff(chance) <= 1e-12).all() and 0 < chance[-1] < 0.5 < chance[0] < 1
    assert many[0] > few[0] and many[-1] < few[-1]
    assert many[12] == pytest.approx(0.5, abs=1e-6)  # -5 is the middle of what is symmetric


def test_where_equal_losses_did_both_the_chance_is_in_between():
    mixed = chance_of_keeping([-5.0, -4.9, -5.2], [-5.1, -5.0, -4.8])
    assert 0.35 < mixed([-5.0])[0] < 0.65


def test_a_first_generation_for_a_drop_tries_the_global_options_beside_the_front(fast, sensitivity):
    baseline = fast.space.uniform("static w8a8")
    aim = Aim("size_bytes", lambda c: 1.0, costs.tables(fast.space, "size_bytes"))
    batch = guide(fast, sensitivity).first(aim, baseline, 12)
    assert batch[0] == baseline and len(set(batch)) == 12
    head = len(fast.space.knobs)
    beside = [c for c in batch[1:] if c[head:] == baseline[head:]]
    assert len(beside) >= len(fast.space.knobs)
    assert {i for c in beside for i in range(head) if c[i] != baseline[i]} == set(range(head))
    runs = [[g.scheme == "float" for g in fast.space.choices(c)] for c in batch if c[:head] == baseline[:head]]
    assert any(r[0] and not r[-1] and sum(a != b for a, b in zip(r, r[1:], strict=False)) == 1 for r in runs)
    assert any(r[-1] and not r[0] and sum(a != b for a, b in zip(r, r[1:], strict=False)) == 1 for r in runs)


def test_runs_of_exact_layers_are_short_ones_first(fast, sensitivity):
    space = fast.space
    guide = Guide(space, None, None, sensitivity, 0)
    start = space.uniform("static w8a8")
    head, exact = len(space.knobs), [int(np.argmin(row)) for row in sensitivity.table]
    changed = [[g for g, (a, b) in enumerate(zip(c[head:], start[head:], strict=True)) if a != b] for c in guide._spans(start, 2)]
    differing = {g for g, e in enumerate(exact) if e != start[head + g]}
    groups = len(space.groups)
    lengths = sorted({round(groups ** (1 / 3)), round(groups ** (2 / 3))})
    wanted = [set(part) & differing for n in lengths for part in (range(n), range(groups - n, groups))]
    assert [set(c) for c in changed] == [w for i, w in enumerate(wanted) if w not in wanted[:i] and w]


def test_proposals_for_a_drop_weigh_what_is_gained_with_the_chance_of_it(fast, sensitivity):
    subject, space = guide(fast, sensitivity), fast.space
    table = costs.tables(space, "size_bytes")
    head = len(space.knobs)

    def cost(config):
        return float(sum(row[i] for row, i in zip(table, config[head:], strict=True)))

    dear, cheap = space.uniform("float"), space.uniform("static w4a8")
    dear = (*dear[:-1], cheap[-1])
    for config, loss in ((dear, 1e-4), (cheap, 1e-1)):
        subject.observe(config, loss)
    subject.learn()
    sure = Aim("size_bytes", cost, table, chance=lambda losses: np.ones(len(losses)), worth=cost(dear))
    least = min(cost(c) for c in subject.propose(sure, 4, 1))
    assert least < cost(dear)
    assert subject._key(-5.0, cost(cheap), sure) < subject._key(-5.0, cost(dear), sure)
    halved = Aim("size_bytes", cost, table, chance=lambda losses: np.array([0.9 if v < -5 else 0.1 for v in losses]), worth=cost(dear))
    middle = (cost(cheap) + cost(dear)) / 2
    assert subject._key(-6.0, middle, halved) < subject._key(-4.0, cost(cheap), halved)


@pytest.mark.parametrize("ratio", [0.65, 1.2])
def test_the_formula_of_latency_goes_through_float_and_the_recipe_as_it_is(fast, ratio):
    space = fast.space
    baseline, real = space.uniform("static w8a8"), space.uniform("float")
    found = Estimates(space, anchor(ratio), baseline, "latency_ratio")
    assert found.of(baseline, "latency_ratio") == pytest.approx(ratio)
    assert found.of(real, "latency_ratio") == pytest.approx(1.0)
    assert found.most("latency_ratio") >= 1.0 - 1e-9
