"""From the end of a search to the section of the report about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompiler.report.data import SearchGroup, SearchPoint, SearchSection

if TYPE_CHECKING:
    from qcompiler.search.goal import Goal
    from qcompiler.search.result import Result
    from qcompiler.search.solvers import Certificate
    from qcompiler.search.space import Space


def proof(certificate: Certificate) -> str:
    """A certificate in one line."""
    bounded = certificate.bound > float("-inf")
    bound = f"bound {certificate.bound:.6g}, gap {certificate.gap:.2%}" if bounded else "no bound"
    return f"{certificate.solver}: {certificate.objective:.6g}, {bound} ({certificate.note})"


def search_section(space: Space, result: Result, goal: Goal) -> SearchSection:
    """Goal, points of the Pareto plot, and what became of every group of layers."""
    names = (goal.objective, goal.limit)
    cost = next((n for n in names if n != "drop"), "size_bytes")
    on_front = {(t.stage, t.key) for t in result.front}
    points = [
        SearchPoint(
            cost=t.value(cost),
            loss=t.value("loss"),
            drop=t.value("drop"),
            kind=t.figures[cost].kind,
            front=(t.stage, t.key) in on_front,
            chosen=(t.stage, t.key) == (result.best.stage, result.best.key),
        )
        for t in result.trials
        if t.ok and cost in t.figures
    ]
    groups = [
        SearchGroup(
            name=group.name,
            layers=len(group.members),
            weights=group.weights,
            choice=choice.name,
            weight_bits=choice.weight_bits,
            activation_bits=choice.activation_bits,
            sensitivity=float(result.sensitivity.table[at][group.choices.index(choice)]),
        )
        for at, (group, choice) in enumerate(zip(space.groups, space.choices(result.config), strict=True))
    ]
    correlation = result.correlation
    return SearchSection(
        goal=f"least {goal.objective} with {goal.limit} at most {goal.bound:.6g}",
        cost=cost,
        space=f"{space.size:,}" if space.size < 10**9 else f"about 10^{len(str(space.size)) - 1}",
        knobs=dict(space.describe(result.config)["global"]),
        trials=len(result.trials),
        failed=sum(not t.ok for t in result.trials),
        provider=result.sensitivity.provider,
        rank_correlation=None if correlation is None else correlation.spearman,
        proofs=tuple(proof(c) for c in result.certificates[-2:]),
        baseline_chosen=result.best.key == result.baseline.key,
        points=tuple(points),
        groups=tuple(groups),
    )
