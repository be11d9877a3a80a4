"""What a search knows so far: trials, the best of them, the front; every trial is in the store before the next one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qcompiler.search import costs
from qcompiler.search.clock import Clock
from qcompiler.search.goal import Goal, pareto_front
from qcompiler.search.recipes import to_recipe
from qcompiler.search.result import Progress, Settings
from qcompiler.search.store import Study, Trial

if TYPE_CHECKING:
    from qcompiler.recipe import Recipe
    from qcompiler.search.space import Config, Space

logger = logging.getLogger(__name__)
FAST, EXACT = "fast", "exact"


class Ledger:
    """Trials of one search.

    Args:
        study: where they are kept.
        space, goal, recipe: what is searched.
        settings: how many trials are wanted, for progress.
        show: called after every trial.
        save: called with a recipe as YAML when there is a new best one.
        clock: time spent here is the phase `records`.

    Attributes:
        trials: by (stage, key).
        configs: by key.
        resumed: trials that the store had.
        spent: seconds in trials, those of earlier runs included.
    """

    def __init__(
        self,
        study: Study,
        space: Space,
        goal: Goal,
        recipe: Recipe,
        settings: Settings,
        show: Callable[[Progress], None],
        save: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.study, self.space, self.goal, self.recipe = study, space, goal, recipe
        self.settings, self.show, self.save, self.clock = settings, show, save, clock
        self.trials: dict[tuple[str, str], Trial] = {}
        self.configs: dict[str, Config] = {}
        self.resumed = 0
        self.spent = 0.0
        self._saved: tuple[str, str] = ("", "")

    def known(self, stage: str, config: Config) -> Trial | None:
        """The trial of a configuration from the store, None if it has to be run."""
        with self.clock.phase("records"):
            key = self.space.key(config)
            self.configs[key] = config
            trial = self.study.find(stage, key)
            if trial is None:
                return None
            if (stage, key) not in self.trials:
                self.resumed += 1
                self.spent += trial.seconds
                self.trials[stage, key] = trial
            self._tell(trial)
            return trial

    def record(self, trial: Trial) -> Trial:
        """Commit a new trial, with best and front; the trial with its number."""
        with self.clock.phase("records"):
            self.trials[trial.stage, trial.key] = trial
            best = self.best()
            recorded = self.study.record(trial, self._state(best))
            self.trials[trial.stage, trial.key] = recorded
            self.spent += trial.seconds
            if best is not None and self._saved[0] != best.key:
                self._saved = best.key, self._recipe(best)
                self.save(self._saved[1])
            if not trial.ok:
                logger.warning("trial %d failed: %s", recorded.number, trial.error)
            self._tell(recorded)
            return recorded

    def done(self, stage: str) -> list[Trial]:
        """Trials of a stage that went well, by key: an order that does not depend on which worker was first."""
        return sorted((t for (s, _), t in self.trials.items() if s == stage and t.ok), key=lambda t: t.key)

    def best(self) -> Trial | None:
        """The best accuracy trial; before there is one, the best measured one."""
        return self.goal.best(self.done(FAST) or self.done(EXACT))

    def front(self) -> list[Trial]:
        """Pareto front of loss and cost: of measured trials, then of simulated ones."""
        found: list[Trial] = []
        for stage in (EXACT, FAST):
            found += pareto_front(self.done(stage), (self.cost_name, "loss"))
        return found

    @property
    def cost_name(self) -> str:
        """The cost beside the loss: what is limited or minimised."""
        return next((n for n in (self.goal.objective, self.goal.limit) if n in costs.FIGURES), "size_bytes")

    def _state(self, best: Trial | None) -> dict[str, Any]:
        front = [
            {"stage": t.stage, "key": t.key, "cost": t.value(self.cost_name), "loss": t.value("loss")}
            for t in self.front()
        ]
        recipe = None
        if best is not None:
            recipe = self._saved[1] if self._saved[0] == best.key else self._recipe(best)
        whole = None if best is None else best.to_dict()
        return {"goal": self.goal.to_dict(), "best": whole, "front": front, "recipe": recipe}

    def _recipe(self, trial: Trial) -> str:
        return to_recipe(self.space, self.configs[trial.key], self.recipe).to_yaml()

    def _tell(self, trial: Trial) -> None:
        done = sum(stage == trial.stage for stage, _ in self.trials)
        total = self.settings.trials if trial.stage == FAST else self.settings.verified + 1
        best = self.best()
        words = "none yet" if best is None else f"{self.goal.objective} {best.value(self.goal.objective):.4g}"
        if best is not None and not self.goal.meets(best):
            words = f"limit not met yet, {self.goal.limit} {best.value(self.goal.limit):.4g}"
        self.show(Progress(trial.stage, done, max(total, done), words, trial.seconds))
