import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import ConstraintError
from qcompiler.search.solvers import (
    OBJECTIVE,
    Evolution,
    Fusion,
    Problem,
    Row,
    Transition,
    best_solutions,
    pareto_front,
    solve_bisection,
    solve_evolution,
    solve_greedy,
    solve_ilp,
    solve_pareto,
    solve_quadratic,
)
from qcompiler.search.solvers.quadratic import Form


def random_problem(seed, groups=5, choices=3, rows=1, extras=False):
    rng = np.random.default_rng(seed)
    loss = [np.sort(rng.random(choices)) for _ in range(groups)]
    budgets = []
    for k in range(rows):
        table = [np.sort(rng.integers(1, 40, choices).astype(float))[::-1].copy() for _ in range(groups)]
        low, high = sum(t.min() for t in table), sum(t.max() for t in table)
        budgets.append(Row(f"cost{k}", table, low + (high - low) * rng.uniform(0.3, 0.9)))
    fusions, transitions = (), ()
    if extras:
        fusions = (Fusion({0: frozenset({0}), 1: frozenset({0, 1})}, {"cost0": 8.0, OBJECTIVE: 0.05}),)
        formats = tuple(tuple("ab"[c % 2] for c in range(choices)) for _ in range(2))
        transitions = tuple(Transition(g, g + 1, formats, {OBJECTIVE: 0.1, "cost0": 3.0}) for g in range(groups - 1))
    return Problem(loss, tuple(budgets), fusions, transitions)


def exhaustive(problem):
    every = itertools.product(*(range(len(t)) for t in problem.objective))
    return sorted((problem.value(c), c) for c in every if problem.is_feasible(c))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_integer_program_is_exact_with_fusions_transitions_and_two_budgets(seed, extras):
    problem = random_problem(seed, rows=2, extras=extras)
    every = exhaustive(problem)
    if not every:
        with pytest.raises(ConstraintError, match="no configuration keeps the limits"):
            solve_ilp(problem)
        return
    found = solve_ilp(problem)
    assert problem.is_feasible(found.choices)
    assert found.certificate.objective == pytest.approx(every[0][0], rel=1e-4)  # HiGHS's own gap
    assert found.certificate.bound <= every[0][0] + 1e-9 and found.certificate.gap <= 2e-4


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_pareto_and_greedy_agree_with_the_integer_program(seed):
    problem = random_problem(seed)
    best = exhaustive(problem)[0][0]
    pareto, greedy = solve_pareto(problem), solve_greedy(problem)
    assert pareto.certificate.objective == pytest.approx(best) == problem.value(pareto.choices)
    assert pareto.certificate.gap == 0.0
    assert problem.is_feasible(greedy.choices)
    assert greedy.certificate.bound <= best + 1e-9 <= greedy.certificate.objective + 2e-9
    assert problem.value(greedy.choices) == pytest.approx(greedy.certificate.objective)


def test_front_holds_every_solution_that_nothing_beats():
    problem = random_problem(3, groups=4)
    (row,) = problem.rows
    points = {}
    for c in itertools.product(range(3), repeat=4):
        points.setdefault((problem.value(c, "cost0"), problem.value(c)), c)
    wanted = [p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)]
    front = pareto_front(problem.objective, row.table)
    np.testing.assert_allclose(sorted(zip(front.cost, front.objective, strict=True)), sorted(wanted))


def test_a_thinned_front_keeps_the_budget_and_says_so():
    problem = random_problem(11, groups=12)
    found = solve_pareto(problem, width=20)
    assert problem.is_feasible(found.choices)
    assert "thinned" in found.certificate.note and found.certificate.gap == math.inf
    exact = solve_pareto(problem)
    assert exact.certificate.objective <= found.certificate.objective <= 1.25 * exact.certificate.objective


def test_next_best_solutions_come_in_order():
    problem = random_problem(5)
    every = exhaustive(problem)
    found = best_solutions(problem, 4)
    assert len({s.choices for s in found}) == 4
    np.testing.assert_allclose([s.certificate.objective for s in found], [v for v, _ in every[:4]], rtol=2e-4)
    tiny = Problem([np.array([1.0, 2.0])])
    assert len(best_solutions(tiny, 5)) == 2


def test_unreachable_budgets_name_the_least_reachable():
    problem = Problem([np.array([0.0, 1.0])] * 2, (Row("size_bytes", [np.array([8.0, 4.0])] * 2, 7.0),))
    for solve in (solve_ilp, solve_pareto, solve_greedy):
        with pytest.raises(ConstraintError, match=r"size_bytes 8 \(limit 7\)"):
            solve(problem)


@pytest.mark.parametrize("solve", [solve_pareto, solve_greedy])
def test_problems_of_another_form_are_refused(solve):
    with pytest.raises(ValueError, match="the integer program takes others"):
        solve(random_problem(0, rows=2))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 24))
def test_bisection_finds_the_last_step_of_a_monotone_loss_in_few_measurements(seed, groups):
    rng = np.random.default_rng(seed)
    objective = [np.array([0.0, a, a + b]) for a, b in rng.random((groups, 2))]
    limit = rng.uniform(0, sum(t[-1] for t in objective))
    seen = []

    def keeps(choices):
        seen.append(choices)
        return sum(t[c] for t, c in zip(objective, choices, strict=True)) <= limit

    found = solve_bisection(objective, [(0, 1, 2)] * groups, keeps)
    assert found.certificate.evaluations == len(seen) <= 2 * (math.ceil(math.log2(groups)) + 1 if groups > 1 else 1)
    assert sum(t[c] for t, c in zip(objective, found.choices, strict=True)) <= limit
    first = sorted(t[1] for t in objective)
    count = next((n for n in range(groups, -1, -1) if sum(first[:n]) <= limit), 0)
    assert sum(c >= 1 for c in found.choices) == count


def test_evolution_finds_the_optimum_of_a_loss_that_does_not_add_up():
    rng = np.random.default_rng(0)
    pair = rng.random((8, 8))
    problem = Problem([np.zeros(2)] * 8, (Row("size_bytes", [np.array([2.0, 1.0])] * 8, 12.0),))

    def loss(c):
        low = [g for g in range(8) if c[g] == 1]
        return float(sum(pair[a, b] for a in low for b in low))

    stages = []

    def measure(batch, stage):
        stages.append((stage, len(batch)))
        return [loss(c) for c in batch]

    best = min(loss(c) for c in itertools.product((0, 1), repeat=8) if problem.is_feasible(c))
    start = (1, 1, 1, 1, 0, 0, 0, 0)
    found = solve_evolution(problem, start, measure, Evolution(generations=25, offspring=16), seed=1)
    assert found.certificate.objective == pytest.approx(best) and problem.is_feasible(found.choices)
    assert found.certificate.evaluations == sum(n for _, n in stages)
    assert all(n <= 4 for stage, n in stages if stage == 1)
    again = solve_evolution(problem, start, measure, Evolution(generations=25, offspring=16), seed=1)
    assert again == found


def quadratic_problem(seed, groups=6):
    """Errors that add up: (problem, error of a solution)."""
    rng = np.random.default_rng(seed)
    errors = rng.standard_normal((groups, 3, 4)) * np.array([0.1, 0.5, 1.0])[None, :, None]
    problem = Problem([np.zeros(3)] * groups, (Row("bits", [np.array([8.0, 4.0, 3.0])] * groups, 4.5 * groups),))
    return problem, lambda c: errors[np.arange(groups), list(c)].sum(0)


def products_around(error):
    def around(solution, changes):
        here = error(solution)
        every = [here, *(error((*solution[:g], c, *solution[g + 1 :])) - here for g, c in changes)]
        return np.array(every) @ np.array(every).T

    return around


@pytest.mark.parametrize("seed", range(8))
def test_quadratic_programs_find_what_an_additive_problem_cannot_see(seed):
    problem, error = quadratic_problem(seed)
    seen = []

    def loss(c):
        return float(np.square(error(c)).sum())

    def measure(batch):
        seen.extend(batch)
        return [loss(c) for c in batch]

    alone = [np.array([loss((*[0] * g, c, *[0] * (5 - g))) for c in range(3)]) for g in range(6)]
    start = solve_ilp(Problem(alone, problem.rows)).choices
    found = solve_quadratic(problem, start, products_around(error), measure, steps=6)
    every = sorted(loss(c) for c in itertools.product(range(3), repeat=6) if problem.is_feasible(c))
    assert problem.is_feasible(found.choices) and found.certificate.objective == loss(found.choices)
    assert found.certificate.objective <= loss(start)
    assert found.certificate.objective <= every[len(every) // 100]
    assert found.certificate.evaluations >= len(seen)
    assert solve_quadratic(problem, start, products_around(error), measure, steps=0).choices == start


def test_exchanges_keep_the_budget_and_lower_the_form_each_time():
    parent, lengths, deeper = (1,) * 8, [], []
    changes = [(g, c) for g in range(8) for c in (0, 2)]
    for seed in range(6):
        problem, error = quadratic_problem(seed, groups=8)
        form = Form(problem, parent, changes, products_around(error)(parent, changes))
        states = form.descended(np.zeros(len(changes)))
        path = [form.solution(state) for state in states]
        np.testing.assert_allclose([form.value(t) for t in states], [float(np.square(error(c)).sum()) for c in path])
        best = form.kicked(60, 0)
        assert problem.is_feasible(form.solution(best)) and form.value(best) <= form.value(states[-1])
        deeper.append(form.value(best) < 0.999 * form.value(states[-1]))
        losses = [float(np.square(error(c)).sum()) for c in (parent, *path)]
        assert all(after < before for before, after in itertools.pairwise(losses))
        assert all(problem.is_feasible(c) for c in path)
        assert all(1 <= sum(a != b for a, b in zip(*two, strict=True)) <= 2 for two in itertools.pairwise((parent, *path)))
        lengths.append(len(path))
    assert max(lengths) > 2 and any(deeper)


def test_exchanges_stay_where_nothing_fits():
    problem, error = quadratic_problem(0)
    least = (2,) * 6
    tight = Problem(problem.objective, (Row("bits", problem.rows[0].table, problem.value(least, "bits")),))
    changes = [(g, 1) for g in range(6)]
    form = Form(tight, least, changes, products_around(error)(least, changes))
    assert form.descended(np.zeros(6)) == [] and not form.kicked(20, 0).any()
