import json

import numpy as np
import pytest
from search.problems import Dying, Hanging, Sick, bits_target, cost_of, problem, space_for, tuner, workload

from qcompiler.errors import ConstraintError
from qcompiler.recipe import load_recipe
from qcompiler.search.fast import FastEvaluator
from qcompiler.search.goal import Goal
from qcompiler.search.local_workers import LocalProcesses
from qcompiler.search.store import Figure, Store
from qcompiler.search.workers import Serial
from support.toy_networks import mobile_network


@pytest.fixture(scope="module")
def evaluator():
    return problem()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "t.sqlite")


def baseline(evaluator):
    return evaluator.space.uniform("static w8a8")


def size_goal(evaluator, share):
    wide = cost_of(evaluator.space, baseline(evaluator), "size_bytes")
    narrow = cost_of(evaluator.space, evaluator.space.uniform("static w4a8"), "size_bytes")
    return Goal("drop", "size_bytes", narrow + share * (wide - narrow))


def outline(result):
    """Everything that two runs of one search have to share; times differ."""
    trials = {(t.stage, t.key): (t.status, t.value("loss"), t.value("size_bytes")) for t in result.trials}
    return result.best.key, result.config, trials, [(t.stage, t.key) for t in result.front]


@pytest.fixture(scope="module")
def whole(evaluator, tmp_path_factory):
    """A search that nothing disturbed."""
    study = Store(tmp_path_factory.mktemp("whole") / "whole").study("t", {})
    return tuner(study, evaluator, size_goal(evaluator, 0.4)).run(baseline(evaluator))


def test_the_answer_keeps_the_limit_and_beats_uniform_bits(evaluator, whole):
    goal, result = size_goal(evaluator, 0.4), whole
    assert result.best.stage == "exact" and goal.meets(result.best)
    narrow = evaluator.accuracy(evaluator.space.uniform("static w4a8"))
    assert result.best.value("loss") < narrow.loss
    assert result.best.value("drop") == -result.best.value("sqnr_db")
    assert sum(t.stage == "exact" for t in result.trials) >= 6  # the recipe as it was, and five more
    assert result.correlation is not None and result.correlation.configurations == 30
    assert result.stopped_by == "trials" and result.resumed == 0
    assert {f.kind for t in result.trials if t.stage == "fast" for f in t.figures.values()} == {"simulated", "analytic"}


@pytest.mark.parametrize("killed_after", [1, 7, 18])
def test_a_search_that_was_killed_ends_as_if_it_had_not_been(evaluator, whole, tmp_path, killed_after):
    goal = size_goal(evaluator, 0.4)
    store = Store(tmp_path / "killed")
    seen = []

    def kill(progress):
        seen.append(progress)
        if len(seen) == killed_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuner(store.study("t", {}), evaluator, goal, show=kill).run(baseline(evaluator))
    store.close()
    study = Store(tmp_path / "killed").study("t", {})
    assert len(study.trials()) == killed_after
    state = study.state  # best, front and recipe were saved with the last trial
    assert {"best", "front", "recipe", "goal"} == state.keys() and load_recipe(_yaml(tmp_path, state["recipe"]))
    search = tuner(study, evaluator, goal)
    result = search.run(baseline(evaluator))
    assert outline(result) == outline(whole)
    assert result.resumed == killed_after
    again = tuner(study, evaluator, goal)
    assert outline(again.run(baseline(evaluator))) == outline(whole) and again.exact.calls == 0


def _yaml(folder, text):
    path = folder / "saved.yaml"
    path.write_text(text)
    return path


def test_the_result_does_not_depend_on_workers(evaluator, whole, tmp_path):
    goal, here = size_goal(evaluator, 0.4), whole
    pool = LocalProcesses(evaluator, 2)
    try:
        there = tuner(Store(tmp_path / "b").study("t", {}), evaluator, goal, workers=pool).run(baseline(evaluator))
    finally:
        pool.close()
    assert outline(there) == outline(here)
    assert there.correlation == here.correlation and there.certificates == here.certificates


@pytest.mark.parametrize(
    ("make", "timeout", "error"), [(Sick, None, "ValueError: sick"), (Hanging, 4.0, "longer than 4 s")], ids=["crash", "hang"]
)
def test_trials_that_fail_are_recorded_and_the_search_goes_on(evaluator, store, make, timeout, error):
    goal = size_goal(evaluator, 0.5)
    sick = Serial(make(evaluator.workload, evaluator.space), timeout)
    result = tuner(store.study("t", {}), evaluator, goal, workers=sick, trials=8).run(baseline(evaluator))
    failed = [t for t in result.trials if not t.ok]
    assert failed and all(error in t.error for t in failed)
    assert goal.meets(result.best) and sum(t.stage == "fast" for t in result.trials) == 8
    assert json.dumps([t.to_dict() for t in result.trials])


def test_a_worker_that_is_lost_costs_its_trial_only(evaluator, tmp_path):
    goal = size_goal(evaluator, 0.5)
    pool = LocalProcesses(Dying(evaluator.workload, evaluator.space), 2)
    try:
        found = tuner(Store(tmp_path / "a").study("t", {}), evaluator, goal, workers=pool).run(baseline(evaluator))
    finally:
        pool.close()
    failed = [t for t in found.trials if not t.ok]
    assert failed and all("died" in t.error for t in failed)
    assert goal.meets(found.best) and sum(t.stage == "fast" for t in found.trials) == 16


def test_a_limit_that_nothing_keeps_names_the_best_and_what_limits_it(evaluator, store):
    goal = Goal("size_bytes", "drop", -200.0)  # 200 dB
    with pytest.raises(ConstraintError, match=r"keeps drop at most -200: the best .* has -\d+.*What limits it: \w+"):
        tuner(store.study("t", {}), evaluator, goal, trials=8).run(baseline(evaluator))
    assert store.study("t", {}).trials()


@pytest.mark.parametrize("kept_by", [1, 2])
def test_within_a_drop_other_options_of_the_whole_model_are_measured_first(kept_by, tmp_path):
    work = workload(mobile_network(), bits_target(8, 4, capabilities=("accumulator_to_float",)))
    evaluator = FastEvaluator(work, space_for(work, knobs=True))
    start, head = evaluator.space.uniform("static w8a8"), len(evaluator.space.knobs)
    reached = evaluator.accuracy(start).drop("sqnr")
    search = tuner(Store(tmp_path / "t").study("t", {}), evaluator, Goal("size_bytes", "drop", reached - 20), trials=8, verified=4)
    measured, simulated = [], search.exact

    class Luckier:
        """The artefact of the second or third such model that is measured keeps a limit that no trial kept."""

        def trial(self, config):
            figures = simulated.trial(config)
            if config[head:] == start[head:]:
                measured.append(config)
                if len(measured) == 1 + kept_by:
                    figures["drop"] = Figure(reached - 21, "measured")
            return figures

    search.exact = Luckier()
    result = search.run(start)
    exact = [t.key for t in result.trials if t.stage == "exact"]
    assert [search.ledger.configs[k] for k in exact[: 1 + kept_by]] == measured == list(dict.fromkeys(measured))
    assert measured[0] == start and len(measured) == 1 + kept_by and result.config == measured[-1]
    drops = [evaluator.accuracy(c).drop("sqnr") for c in measured[1:]]
    assert drops == sorted(drops)


def test_nothing_beats_the_recipe_as_it_is_where_everything_loses(evaluator, store):
    loss = evaluator.accuracy(baseline(evaluator))
    goal = Goal("size_bytes", "drop", -loss.evaluation.sqnr_db)
    result = tuner(store.study("t", {}), evaluator, goal).run(baseline(evaluator))
    assert goal.meets(result.best)
    assert result.best.value("size_bytes") <= result.baseline.value("size_bytes")


@pytest.mark.parametrize(("options", "stopped_by"), [({"trials": 0}, "trials"), ({"seconds": 0.0}, "budget")])
def test_without_a_budget_the_recipe_as_it_is_is_the_answer(evaluator, store, options, stopped_by):
    goal = Goal("size_bytes", "drop", 0.0)
    result = tuner(store.study("t", {}), evaluator, goal, **options).run(baseline(evaluator))
    assert result.stopped_by == stopped_by and result.best == result.baseline and len(result.trials) == 1


def test_a_small_space_is_exhausted_and_says_so(evaluator, store):
    goal = size_goal(evaluator, 0.5)
    result = tuner(store.study("t", {}), evaluator, goal, trials=10_000, generation=64).run(baseline(evaluator))
    assert result.stopped_by == "exhausted"
    assert sum(t.stage == "fast" for t in result.trials) == evaluator.space.size
    every = [t for t in result.trials if t.stage == "fast" and goal.meets(t)]
    assert result.best.value("loss") == min(t.value("loss") for t in every)  # proven, there is nothing else


def test_other_searches_in_the_store_are_learned_from(evaluator, store):
    goal = size_goal(evaluator, 0.5)
    other = problem(graph=_wider())
    for name, one in (("first", other), ("second", problem(seed=5))):
        tuner(store.study(name, {}), one, size_goal(one, 0.5)).run(baseline(one))
    result = tuner(store.study("third", {}), evaluator, goal).run(baseline(evaluator))
    assert set(result.held_out) == {"first", "second"}
    assert all(np.isfinite(v) for v in result.held_out.values())


def _wider():
    from support.toy_networks import mobile_network

    return mobile_network(seed=9, size=12)
