"""Solvers: a problem and a budget in, a solution with a certificate out."""

from qcompiler.search.solvers.base import OBJECTIVE, Certificate, Fusion, Problem, Row, Solution, Transition
from qcompiler.search.solvers.bisection import solve_bisection
from qcompiler.search.solvers.evolution import Evolution, solve_evolution
from qcompiler.search.solvers.greedy import solve_greedy
from qcompiler.search.solvers.ilp import best_solutions, solve_ilp
from qcompiler.search.solvers.pareto import pareto_front, solve_pareto
from qcompiler.search.solvers.quadratic import solve_quadratic

__all__ = [
    "OBJECTIVE", "Certificate", "Evolution", "Fusion", "Problem", "Row", "Solution", "Transition",
    "best_solutions", "pareto_front", "solve_bisection", "solve_evolution", "solve_greedy",
    "solve_ilp", "solve_pareto", "solve_quadratic",
]  # fmt: skip
