"""Search methods that replay an exhausted table: each gives the order in which it evaluates configurations."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmarks.search.tables import table_path
from qcompiler.search.boost import MONOTONE
from qcompiler.search.cost_models import AccuracyModel, Corpus
from qcompiler.search.features import Row

EXPLORE = 0.1
START = 4
CORPUS_ROWS = 128
"""Configurations of another network that transfer learns from, drawn at random."""


@dataclass(frozen=True)
class Table:
    """One exhausted space of one network."""

    network: str
    kind: str
    configs: tuple[tuple[int, ...], ...]
    radix: tuple[int, ...]
    search: np.ndarray
    report: np.ndarray
    error: np.ndarray
    rows: tuple[Row, ...]
    group_rows: tuple[tuple[Row, ...], ...]
    data: dict

    @staticmethod
    def load(network: str, kind: str) -> Table:
        """From its file."""
        data = json.loads(table_path(network, kind).read_text(encoding="utf-8"))
        count = len(data["configs"])
        columns = {n: c if isinstance(c, list) else [c] * count for n, c in data["rows"].items()}
        rows = tuple({n: c[i] for n, c in columns.items() if c[i] is not None} for i in range(count))
        return Table(
            network, kind, tuple(tuple(c) for c in data["configs"]), tuple(data["radix"]),
            np.array(data["search"]), np.array(data["report"]), np.array(data["report_error"]), rows,
            tuple(tuple(g) for g in data.get("group_rows", ())), data,
        )  # fmt: skip

    @cached_property
    def acceptable(self) -> np.ndarray:
        """True where the report loss is within epsilon of the best: max(0.1 dB, one paired standard error)."""
        best = self.report.min()
        tenth = best * 10**0.01
        return self.report <= np.maximum(tenth, best + self.error)

    def pack(self, i: int) -> list[Row]:
        """Rows of configuration i."""
        return [self.rows[i], *(self.group_rows[g][c] for g, c in enumerate(self.configs[i]) if self.group_rows)]

    @property
    def names(self) -> list[str]:
        """Canonical names of the configurations, for the lookup table."""
        return ["-".join(map(str, c)) for c in self.configs]


Method = Callable[[Table, Sequence[Table], int], Sequence[int]]


def random_order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
    """A permutation."""
    return np.random.default_rng([seed, 1]).permutation(len(table.configs))


def grid_order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
    """Lexicographic, with the knobs in random order of significance."""
    axes = np.random.default_rng([seed, 2]).permutation(len(table.radix))
    keys = np.array(table.configs)[:, axes]
    return np.lexsort(keys.T[::-1])


def genetic_order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
    """Population 8, tournaments of 2, uniform crossover, mutation 0.2; the worst is replaced."""
    rng = np.random.default_rng([seed, 3])
    index = {c: i for i, c in enumerate(table.configs)}
    order = [int(i) for i in rng.permutation(len(table.configs))[:8]]
    seen, population, idle = set(order), list(order), 0
    if table.acceptable[order].any():
        return order
    while len(order) < len(table.configs):
        parents = [min(rng.choice(population, 2), key=lambda i: table.search[i]) for _ in range(2)]
        pair = np.array([table.configs[i] for i in parents])
        child = pair[rng.integers(0, 2, len(table.radix)), np.arange(len(table.radix))]
        changed = rng.random(len(table.radix)) < 0.2
        child = np.where(changed, [rng.integers(n) for n in table.radix], child)
        at = index.get(tuple(int(x) for x in child))
        if at is None or at in seen:
            idle += 1
            if idle < 200:
                continue
            at = int(rng.choice([i for i in range(len(table.configs)) if i not in seen]))  # the population has converged
        idle = 0
        seen.add(at)
        order.append(at)
        if table.acceptable[at]:
            return [*order, *(i for i in range(len(table.configs)) if i not in seen)]  # the rest changes nothing
        worst = max(range(8), key=lambda k: table.search[population[k]])
        if table.search[at] < table.search[population[worst]]:
            population[worst] = at
    return order


def tpe_order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
    """Optuna's TPE; only unseen configurations count. After 5 n proposals the rest is random."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    index = {c: i for i, c in enumerate(table.configs)}
    order: list[int] = []
    seen: set[int] = set()
    for _ in range(5 * min(len(table.configs), 60)):
        trial = study.ask()
        config = tuple(int(trial.suggest_categorical(str(k), list(range(n)))) for k, n in enumerate(table.radix))
        at = index.get(config)
        if at is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        study.tell(trial, float(np.log(table.search[at])))
        if at not in seen:
            seen.add(at)
            order.append(at)
        if table.acceptable[at]:
            break  # what comes after does not change the result
    rest = [i for i in np.random.default_rng([seed, 4]).permutation(len(table.configs)) if i not in seen]
    return [*order, *rest]


def lookup_order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
    """By mean regret of the configuration of that name over the other networks; unknown names last."""
    total: dict[str, list[float]] = {}
    for other in others:
        logs = np.log(other.search)
        for name, regret in zip(other.names, logs - logs.min(), strict=True):
            total.setdefault(name, []).append(float(regret))
    return sorted(range(len(table.configs)), key=lambda i: (np.mean(total.get(table.names[i], [np.inf])), i))


def boosted_order(table: Table, others: Sequence[Table], seed: int, shuffled: bool = False) -> Sequence[int]:
    """Predict, evaluate the best predicted one (or with 10 % a random one), learn, again."""
    rng = np.random.default_rng([seed, 5])
    packs = [table.pack(i) for i in range(len(table.configs))]
    signs = {} if shuffled else MONOTONE  # the signs know something by themselves, whatever the labels say
    model = AccuracyModel(_corpora(others, rng, shuffled), seed, check=False, monotone=signs)
    prior = model.prior(packs)
    order: list[int] = []
    left = list(range(len(packs)))
    while left:
        if (not others and len(order) < START) or rng.random() < EXPLORE:
            at = int(rng.choice(left))
        else:
            if order:
                losses = table.search[order]
                model.fit([packs[i] for i in order], rng.permutation(losses) if shuffled else losses, prior[order])
            scores = model.predict([packs[i] for i in left], prior[left])
            at = left[int(rng.choice(np.flatnonzero(scores == scores.min())))]
        order.append(at)
        left.remove(at)
        if table.acceptable[at]:
            return [*order, *left]  # what comes after does not change the result
    return order


def noise_order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
    """By the sum of the layers' own noise, the strongest single feature: nothing is learned."""
    return np.argsort([row["noise_sum"] for row in table.rows], kind="stable")


def scratch_order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
    """XGBoost without other networks."""
    return boosted_order(table, (), seed)


def shuffled_order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
    """XGBoost with transfer, every label given to another configuration: it can know nothing, but see `direction_order`."""
    return boosted_order(table, others, seed, shuffled=True)


def permuted(table: Table, seed: int) -> Table:
    """The table with its losses given to other configurations: what is acceptable has nothing to do with features.

    Any method that does not see the answer needs (N + 1) / (k + 1) trials there, whatever it learned elsewhere.
    """
    order = np.random.default_rng([seed, 6]).permutation(len(table.configs))
    return replace(table, search=table.search[order], report=table.report[order], error=table.error[order])


def direction_order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
    """Least along a direction in the space of features that is drawn anew for every trial: no labels, no learning.

    It goes from corner to corner of that space. Where the best configurations lie in corners (those with least noise
    do), it finds them sooner than random does, and so does every model that takes the least prediction.
    """
    rng = np.random.default_rng([seed, 7])
    names = sorted({n for row in table.rows for n in row})
    x = np.array([[row.get(n, 0.0) for n in names] for row in table.rows])
    x = x[:, x.std(0) > 1e-9]
    x = (x - x.mean(0)) / x.std(0)
    left, order = list(range(len(x))), []
    while left:
        order.append(left.pop(int(np.argmin(x[left] @ rng.normal(size=x.shape[1])))))
    return order


def _corpora(others: Sequence[Table], rng: np.random.Generator, shuffled: bool) -> list[Corpus]:
    found = []
    for other in others:
        chosen = rng.permutation(len(other.configs))[:CORPUS_ROWS]
        losses = other.search[chosen]
        found.append(
            Corpus(other.network, [other.pack(i) for i in chosen], rng.permutation(losses) if shuffled else losses)
        )
    return found


def oracle_order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
    """By report loss."""
    return np.argsort(table.report, kind="stable")


def sensitivity_order(provider: str) -> Method:
    """Configurations within the limit by summed sensitivity: the integer program's solutions, best first."""

    def order(table: Table, others: Sequence[Table], seed: int) -> Sequence[int]:
        rows = table.data["sensitivities"][provider]["table"]
        sums = [sum(row[c] for row, c in zip(rows, config, strict=True)) for config in table.configs]
        return np.argsort(sums, kind="stable")

    return order


METHODS: dict[str, Method] = {
    "random": random_order,
    "grid": grid_order,
    "genetic": genetic_order,
    "tpe": tpe_order,
    "lookup table": lookup_order,
    "local noise": noise_order,
    "xgboost": scratch_order,
    "xgboost, transfer": boosted_order,
}
DETERMINISTIC = {"lookup table", "local noise"}


def trials(table: Table, order: Sequence[int]) -> int:
    """Evaluations until the first acceptable configuration, counting from 1."""
    return 1 + int(np.argmax(table.acceptable[np.asarray(order)]))
