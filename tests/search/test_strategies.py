import numpy as np
import pytest
from search.problems import cost_of, problem, tuner

from qcompiler.errors import UsageError
from qcompiler.search.estimates import Estimates, Points
from qcompiler.search.goal import Goal
from qcompiler.search.store import Figure, Store, Trial
from qcompiler.search.strategies import STRATEGIES, check_strategy


@pytest.fixture(scope="module")
def evaluator():
    return problem()


def size_of(evaluator, choice):
    return cost_of(evaluator.space, evaluator.space.uniform(choice), "size_bytes")


def search(evaluator, tmp_path, goal, solver):
    study = Store(tmp_path / f"{solver}.sqlite").study("t", {})
    found = tuner(study, evaluator, goal, solver=solver, trials=16).run(evaluator.space.uniform("static w8a8"))
    assert goal.meets(found.best)
    assert sum(t.stage == "fast" for t in found.trials) <= 16
    return found


@pytest.mark.parametrize("solver", [s for s in STRATEGIES if s != "bisection"])
def test_every_solver_keeps_a_size_beats_uniform_bits_and_proves_what_it_can(evaluator, tmp_path, solver):
    wide, narrow = size_of(evaluator, "static w8a8"), size_of(evaluator, "static w4a8")
    result = search(evaluator, tmp_path, Goal("drop", "size_bytes", (wide + narrow) / 2), solver)
    assert result.best.value("loss") < evaluator.accuracy(evaluator.space.uniform("static w4a8")).loss
    *proofs, measured = result.certificates
    # Of five groups a greedy step is a large part; the others are exact.
    assert all(p.gap <= (0.6 if p.solver == "greedy" else 1e-3) for p in proofs if np.isfinite(p.bound))
    assert any(np.isfinite(p.bound) for p in proofs), "the additive problem has a bound"
    assert measured.solver == solver and measured.evaluations <= 16 and measured.gap == np.inf
    fast = [t.value("loss") for t in result.trials if t.stage == "fast" and t.value("size_bytes") <= (wide + narrow) / 2]
    assert measured.objective == min(fast)


@pytest.mark.parametrize("solver", [s for s in STRATEGIES if s != "evolution"])
def test_every_solver_finds_something_smaller_within_a_drop(evaluator, tmp_path, solver):
    wide, narrow = (evaluator.accuracy(evaluator.space.uniform(f"static {c}")) for c in ("w8a8", "w4a8"))
    bound = -(wide.evaluation.sqnr_db + narrow.evaluation.sqnr_db) / 2  # half-way in dB
    result = search(evaluator, tmp_path, Goal("size_bytes", "drop", bound), solver)
    assert result.best.value("size_bytes") < size_of(evaluator, "static w8a8")
    assert result.certificates[-1].solver == solver


def test_solvers_that_do_not_suit_a_limit_are_refused():
    with pytest.raises(UsageError, match="evolution takes a limit on a cost"):
        check_strategy("evolution", "drop")
    with pytest.raises(UsageError, match="bisection takes a limit on the drop"):
        check_strategy("bisection", "size_bytes")
    with pytest.raises(UsageError, match=r"unknown solver 'ilq'; known: guided, ilp.*Did you mean 'ilp'"):
        check_strategy("ilq", "drop")


def measured(space, config, cost):
    return Trial("exact", space.key(config), 0, {}, "done", {"latency_ms": Figure(cost(config), "measured")}, 1.0)


def device(space, slow):
    """A cost that is exact: 4-bit weights are `slow` times as slow as the formula says, everything else is as it says."""

    def cost(config):
        share = np.mean([c.weight_bits == 4 for c in space.choices(config)])
        return cost_of(space, config, "latency_ms") * slow**share

    return cost


def test_a_device_that_follows_the_formula_is_estimated_exactly(evaluator):
    space, base = evaluator.space, evaluator.space.uniform("static w8a8")
    configs = space.sample(np.random.default_rng(1), 30)
    for factor in (1.0, 3.5):  # the unit of the formula is arbitrary: the anchor says how long it is

        def cost(config, factor=factor):
            return factor * cost_of(space, config, "latency_ms")

        found = Estimates(space, measured(space, base, cost), base, "latency_ms")
        for taught in (configs[:0], configs[:15]):  # nothing is left for the trees to learn
            for config in taught:
                found.learn(config, measured(space, config, cost))
            assert [found.of(c, "latency_ms") for c in configs] == pytest.approx([cost(c) for c in configs], rel=1e-12)
        assert found.to_dict()["rank_correlation"] == pytest.approx(1.0, abs=1e-12)


def test_measured_costs_correct_the_formula_and_serve_other_searches(evaluator):
    space, base = evaluator.space, evaluator.space.uniform("static w8a8")
    cost = device(space, slow=4.0)
    configs = space.sample(np.random.default_rng(1), 40)
    first = Estimates(space, measured(space, base, cost), base, "latency_ms")
    unseen = configs[20:]
    truth = np.array([cost(c) for c in unseen])

    def error(estimates):
        return np.abs(np.log([estimates.of(c, "latency_ms") for c in unseen] / truth)).mean()

    before = error(first)
    for config in configs[:20]:
        first.learn(config, measured(space, config, cost))
    known = [base, *configs[:20]]  # what was measured is no estimate; one product and one quotient are rounded
    assert [first.of(c, "latency_ms") for c in known] == pytest.approx([cost(c) for c in known], rel=1e-15)
    assert error(first) < 0.3 * before
    assert first.to_dict()["rank_correlation"] > 0.3 and first.to_dict()["points"] == 20
    points = Points(first.points.rows, first.points.analytic, first.points.measured)
    assert error(Estimates(space, measured(space, base, cost), base, "latency_ms", points)) < 0.4 * before
