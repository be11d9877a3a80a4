"""What a configuration will cost, before it is measured: a formula, and what measurements say it misses.

Costs are anchored at the measured recipe as it is. Bytes of weights add up, so the formula's difference is added; a
latency, instructions or RAM is the anchor times the formula's ratio times a learned factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.metrics import spearman
from qcompiler.search import costs
from qcompiler.search.cost_models import FEWEST, LatencyModel
from qcompiler.search.features import cost_row

if TYPE_CHECKING:
    from qcompiler.search.features import Row
    from qcompiler.search.space import Config, Space
    from qcompiler.search.store import Trial

LATENCIES = ("latency_ms", "latency_ratio")


@dataclass(frozen=True)
class Points:
    """Measured costs of some configurations, each relative to one configuration of the same model.

    Attributes:
        rows: what the model knows of each.
        analytic, measured: the formula's ratio, and the measured one.
    """

    rows: Sequence[Row] = ()
    analytic: Sequence[float] = ()
    measured: Sequence[float] = ()


class Estimates:
    """Costs of configurations.

    Args:
        space: of the search.
        anchor: measured trial of `config`.
        config: what the anchor measured.
        name: the cost that measurements correct.
        others: of earlier searches on the same target.
        seed: of the model.

    Attributes:
        checked: (estimate before measuring, measured) of every configuration given to `learn`.
    """

    def __init__(
        self, space: Space, anchor: Trial, config: Config, name: str, others: Points = Points(), seed: int = 0
    ) -> None:
        self.space, self.anchor, self.config, self.name, self.others = space, anchor, config, name, others
        self.model = LatencyModel(seed)
        self.checked: list[tuple[float, float]] = []
        self._own: dict[Config, float] = {config: 1.0}
        self._tables: dict[str, list[np.ndarray]] = {}
        self._known: dict[tuple[Config, str], float] = {}
        self._fit()

    def of(self, config: Config, name: str) -> float:
        """A cost in the unit of the measured figure; of a configuration that was measured, what was measured."""
        if (config, name) not in self._known:
            self._known[config, name] = self._estimate(config, name)
        return self._known[config, name]

    def tables(self, name: str) -> list[np.ndarray]:
        """The formula by group and choice; only ratios mean something, except those of bytes.

        The formula guesses what a type of number saves. The anchor's latency, measured beside float's, says it.
        """
        if name not in self._tables:
            self._tables[name] = costs.tables(self.space, name)
            if name in LATENCIES and "latency_ratio" in self.anchor.figures:
                self._tables[name] = self._beside_float(self._tables[name])
        return self._tables[name]

    def _beside_float(self, table: list[np.ndarray]) -> list[np.ndarray]:
        """Scaled so that the model all in float and the anchor are as far apart as they were measured to be."""
        real = [np.array([c.scheme == "float" for c in g.choices]) for g in self.space.groups]
        if not all(r.any() for r in real):
            return table
        chosen = self.config[len(self.space.knobs) :]
        codes = sum(float(row[i]) for row, i, r in zip(table, chosen, real, strict=True) if not r[i])
        kept = sum(float(row[i]) for row, i, r in zip(table, chosen, real, strict=True) if r[i])
        whole = sum(float(row[r].min()) for row, r in zip(table, real, strict=True))
        rest = self.anchor.value("latency_ratio") * whole - kept
        if codes <= 0 or rest <= 0:
            return table
        return [np.where(r, row * (codes / rest), row) for row, r in zip(table, real, strict=True)]

    def most(self, name: str) -> float:
        """The cost of the dearest configuration, by the formula."""
        dearest = sum(float(row.max()) for row in self.tables(name))
        there, measured = self._total(self.config, name), self.anchor.value(name)
        return measured + dearest - there if name == "size_bytes" else measured * dearest / max(there, 1e-30)

    def _total(self, config: Config, name: str) -> float:
        places = config[len(self.space.knobs) :]
        return float(sum(row[i] for row, i in zip(self.tables(name), places, strict=True)))

    def _estimate(self, config: Config, name: str) -> float:
        here, there = (self._total(c, name) for c in (config, self.config))
        measured = self.anchor.value(name)
        if name == "size_bytes":
            return measured + here - there
        ratio = here / there if there else 1.0
        if name != self.name:
            return measured * ratio
        if config in self._own:
            return measured * self._own[config]
        return measured * float(self.model.predict([cost_row(self.space, config)], [ratio])[0])

    def bound(self, name: str, figure: float) -> float:
        """A bound on a figure as one on the formula, without what was learned."""
        there, measured = self._total(self.config, name), self.anchor.value(name)
        return there + figure - measured if name == "size_bytes" else there * figure / measured

    def learn(self, config: Config, trial: Trial) -> None:
        """Take a measurement into account."""
        measured = trial.value(self.name)
        if self.name == "size_bytes" or config == self.config or not 0 < measured < float("inf"):
            return
        if config not in self._own:
            self.checked.append((self.of(config, self.name), measured))
        self._own[config] = measured / self.anchor.value(self.name)
        self._fit()

    @property
    def points(self) -> Points:
        """What was measured here, for later searches."""
        configs = sorted(self._own)
        return Points(
            [cost_row(self.space, c) for c in configs],
            [self._total(c, self.name) / self._total(self.config, self.name) for c in configs],
            [self._own[c] for c in configs],
        )

    def to_dict(self) -> dict[str, Any]:
        """For `tune.json`: how many measurements taught, and how well the estimates before each ranked them."""
        rank = spearman(*map(list, zip(*self.checked, strict=True))) if len(self.checked) >= FEWEST else None
        return {"figure": self.name, "points": len(self._own) - 1, "transferred": len(self.others.rows), "rank_correlation": rank}

    def _fit(self) -> None:
        self._known.clear()
        own = self.points
        self.model.fit(
            [*own.rows, *self.others.rows], [*own.analytic, *self.others.analytic],
            [*own.measured, *self.others.measured], own=len(own.rows),
        )  # fmt: skip
