"""The search itself: baseline, sensitivities, generations of trials, verification of the best, one answer.

    1. the recipe as it is, compiled and measured: what everything else has to beat
    2. sensitivities by group and choice: the additive problem that proposals start from
    3. generations of accuracy trials (fake quantization), proposed by solver and cost model
    4. the best `verified` configurations compiled whole and measured, one at a time; if none keeps the limit, the
       next best, up to twice as many
    5. the best measured one, or the recipe as it is where nothing beats it

A trial that the store holds is not run again, so a run that was killed goes on where it stopped by doing the same
again. With equal seeds and deterministic objectives the result depends on nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.errors import ConstraintError, QCError, UnsupportedError
from qcompiler.search import costs
from qcompiler.search.cost_models import AccuracyModel, Corpus
from qcompiler.search.exact import ExactEvaluator
from qcompiler.search.fast import FastEvaluator
from qcompiler.search.features import Features
from qcompiler.search.goal import Goal, pareto_front
from qcompiler.search.guided import Aim, Guide
from qcompiler.search.recipes import to_recipe
from qcompiler.search.result import Progress, Result, Settings
from qcompiler.search.sensitivity import (
    LEAST_CONFIGURATIONS,
    Correlation,
    Sensitivity,
    correlate,
    get_provider,
)
from qcompiler.search.store import DONE, FAILED, Figure, Study, Trial
from qcompiler.search.workers import Outcome, Workers

if TYPE_CHECKING:
    from qcompiler.search.space import Config, Space
    from qcompiler.search.workload import Workload

logger = logging.getLogger(__name__)
FAST, EXACT = "fast", "exact"
KEPT_ROWS = 256
"""Trials whose features are kept for later searches on other models."""
MARGIN, NOISY_MARGIN = 0.02, 0.1
"""Share by which a measured latency has to be better than the recipe's as it is; the second where one is noisy."""


class Tuner:
    """One search.

    Args:
        workload, space, goal: the problem.
        study: where trials are kept.
        workers: run accuracy trials.
        settings: how long.
        show: called after every trial.
        save: called with (recipe as YAML, state) after every trial.
    """

    def __init__(
        self,
        workload: Workload,
        space: Space,
        goal: Goal,
        study: Study,
        workers: Workers,
        settings: Settings,
        show: Callable[[Progress], None] = lambda progress: None,
        save: Callable[[str], None] = lambda recipe: None,
    ) -> None:
        self.workload, self.space, self.goal, self.study = workload, space, goal, study
        self.workers, self.settings, self.show, self.save = workers, settings, show, save
        self.fast = FastEvaluator(workload, space)
        self.exact = ExactEvaluator(workload, space)
        self.baseline_config: Config = space.canonical((0,) * len(space.radix))
        self.trials: dict[tuple[str, str], Trial] = {}
        self.configs: dict[str, Config] = {}
        self.resumed = 0
        self.spent = 0.0

    def run(self, baseline: Config) -> Result:
        """Search.

        Args:
            baseline: the configuration that stands for the recipe as it is.

        Raises:
            ConstraintError: no measured configuration keeps the limit.
        """
        self.baseline_config = baseline
        first = self._exact_trial(baseline)
        if not first.ok:
            raise UnsupportedError(f"the recipe that the search starts from does not compile: {first.error}")
        self._baseline = first
        sensitivity = self._sensitivity()
        features = Features(self.fast)
        model = AccuracyModel(self._corpora(), self.settings.seed)
        guide = Guide(self.space, features, model, sensitivity, self.settings.seed)
        stopped_by = self._generations(guide)
        self._save_features(features)
        best = self._verify(first)
        return Result(
            best, first, self.configs[best.key], self.front(), self.study.trials(), self.resumed, stopped_by,
            sensitivity, self._correlation(sensitivity), model.held_out, {"trials": self.spent},
        )  # fmt: skip

    # trials

    def _exact_trial(self, config: Config) -> Trial:
        key = self.space.key(config)
        self.configs[key] = config
        known = self.study.find(EXACT, key)
        if known is not None:
            return self._adopt(known)
        try:
            figures = self.exact.trial(config)
            trial = Trial(EXACT, key, 0, self.space.describe(config), DONE, figures, figures["seconds"].value)
        except QCError as error:
            trial = Trial(EXACT, key, 0, self.space.describe(config), FAILED, {}, 0.0, f"{type(error).__name__}: {error}")
        return self._record(trial)

    def _fast_trials(self, configs: Sequence[Config]) -> list[Trial]:
        """Results in the order of the configurations, whatever order they ended in."""
        keys = [self.space.key(c) for c in configs]
        self.configs.update(zip(keys, configs, strict=True))
        found = {key: self.study.find(FAST, key) for key in keys}
        found = {key: self._adopt(t) for key, t in found.items() if t is not None}
        missing = [c for c, key in zip(configs, keys, strict=True) if key not in found]

        def done(i: int, outcome: Outcome) -> None:
            config = missing[i]
            key = self.space.key(config)
            found[key] = self._record(self._fast_trial(config, key, outcome))

        if missing:
            self.workers.run(missing, done)
        return [found[key] for key in keys]

    def _fast_trial(self, config: Config, key: str, outcome: Outcome) -> Trial:
        names = self.space.describe(config)
        if outcome.values is None:
            return Trial(FAST, key, 0, names, FAILED, {}, outcome.seconds, outcome.error)
        figures = {n: Figure(v, "simulated") for n, v in outcome.values.items() if n != "seconds"}
        for name in ("size_bytes", "latency_ms", "latency_ratio"):
            figures[name] = Figure(self.cost(config, name), "analytic")
        return Trial(FAST, key, 0, names, DONE, figures, outcome.seconds)

    def _adopt(self, trial: Trial) -> Trial:
        if (trial.stage, trial.key) not in self.trials:
            self.resumed += 1
            self.spent += trial.seconds
            self.trials[trial.stage, trial.key] = trial
        self._tell(trial)
        return trial

    def _record(self, trial: Trial) -> Trial:
        self.trials[trial.stage, trial.key] = trial
        recorded = self.study.record(trial, self._state())
        self.trials[trial.stage, trial.key] = recorded
        self.spent += trial.seconds
        if trial.ok:
            self.save(self._best_recipe())
        else:
            logger.warning("trial %d failed: %s", recorded.number, trial.error)
        self._tell(recorded)
        return recorded

    def _tell(self, trial: Trial) -> None:
        done = sum(stage == trial.stage for stage, _ in self.trials)
        total = self.settings.trials if trial.stage == FAST else self.settings.verified + 1
        best = self.best_so_far()
        words = "none yet" if best is None else f"{self.goal.objective} {best.value(self.goal.objective):.4g}"
        if best is not None and not self.goal.meets(best):
            words = f"limit not met yet, {self.goal.limit} {best.value(self.goal.limit):.4g}"
        self.show(Progress(trial.stage, done, max(total, done), words, trial.seconds))

    def best_so_far(self) -> Trial | None:
        """The best trial of all; measured ones win over simulated ones that are as good."""
        stage = EXACT if not any(s == FAST for s, _ in self.trials) else FAST
        return self.goal.best(t for (s, _), t in self.trials.items() if s == stage)

    def front(self) -> list[Trial]:
        """Pareto front of loss and cost: of measured trials, then of simulated ones."""
        found: list[Trial] = []
        for stage in (EXACT, FAST):
            found += pareto_front([t for (s, _), t in self.trials.items() if s == stage], (self.cost_name, "loss"))
        return found

    @property
    def cost_name(self) -> str:
        """The cost beside the loss: what is limited or minimised, and size where that is the drop."""
        names = [n for n in (self.goal.objective, self.goal.limit) if n in costs.COSTS or n == "latency_ratio"]
        return names[0] if names else "size_bytes"

    def _state(self) -> dict[str, Any]:
        best = self.best_so_far()
        return {
            "goal": self.goal.to_dict(),
            "best": None if best is None else best.to_dict(),
            "front": [t.to_dict() for t in self.front()],
            "recipe": None if best is None else self._best_recipe(),
        }

    def _best_recipe(self) -> str:
        best = self.best_so_far()
        config = self.baseline_config if best is None else self.configs[best.key]
        return to_recipe(self.space, config, self.workload.recipe).to_yaml()

    # costs

    def cost(self, config: Config, name: str) -> float:
        """Analytic cost in the unit of the measured one: the baseline's figure, and the difference or ratio to it."""
        table = "latency_ms" if name == "latency_ratio" else name
        here, there = (costs.total(self.space, c, table) for c in (config, self.baseline_config))
        measured = self._baseline.value(name)
        if name == "size_bytes":
            return measured + here - there
        return measured * here / there if there else measured

    def _analytic(self, name: str, figure: float) -> float:
        """The inverse of `cost`: a bound on a figure as one on the analytic cost."""
        table = "latency_ms" if name == "latency_ratio" else name
        there = costs.total(self.space, self.baseline_config, table)
        measured = self._baseline.value(name)
        return there + figure - measured if name == "size_bytes" else there * figure / measured

    # generations

    def _generations(self, guide: Guide) -> str:
        done = generation = 0
        while done < self.settings.trials:
            if self.settings.seconds is not None and self.spent >= self.settings.seconds:
                return "budget"
            size = min(self.settings.generation, self.settings.trials - done)
            aim = self._aim()
            if generation == 0:
                wanted = [self.baseline_config, *guide.solutions(aim, size)]
                batch = list(dict.fromkeys(wanted))[:size]
            else:
                guide.learn()
                batch = guide.propose(aim, size, generation)
            if not batch:
                return "exhausted"
            for config, trial in zip(batch, self._fast_trials(batch), strict=True):
                guide.observe(config, trial.value("loss") if trial.ok else None)
            done += len(batch)
            generation += 1
        return "trials"

    def _aim(self) -> Aim:
        """What is proposed for, from the goal and what is known by now."""
        name = "latency_ms" if self.cost_name == "latency_ratio" else self.cost_name
        if self.goal.limit != "drop":
            return Aim(name, self._analytic(self.goal.limit, self.goal.bound))
        done = [t for (s, _), t in self.trials.items() if s == FAST and t.ok]
        kept = [t.value("loss") for t in done if self.goal.meets(t)]
        lost = [t.value("loss") for t in done if not self.goal.meets(t)]
        limit = max(kept) if kept else min(lost) / 2 if lost else np.inf
        return Aim(name, None, float(np.log(max(limit, 1e-12))))

    def _sensitivity(self) -> Sensitivity:
        """From the store where it was estimated before, else now."""
        kept = (self.study.features or {}).get("sensitivity")
        if kept is not None and kept["provider"] == self.settings.sensitivity:
            rows = {k: tuple(np.array(r) for r in kept[k]) for k in ("table", "error")}
            return Sensitivity(kept["provider"], rows["table"], rows["error"], kept["forwards"], kept["seconds"])
        found = get_provider(self.settings.sensitivity).estimate(self.fast, self._reference())
        plain = {**asdict(found), **{k: [r.tolist() for r in getattr(found, k)] for k in ("table", "error")}}
        self.study.features = {**(self.study.features or {}), "sensitivity": plain}
        return found

    def _reference(self) -> Config:
        """Every group at its first choice, which is the widest."""
        return self.space.canonical((0,) * len(self.space.radix))

    def _correlation(self, sensitivity: Sensitivity) -> Correlation | None:
        done = [t for (s, _), t in self.trials.items() if s == FAST and t.ok]
        if len(done) < LEAST_CONFIGURATIONS:
            return None
        return correlate(sensitivity, self.space, [self.configs[t.key] for t in done], [t.value("loss") for t in done])

    # transfer

    def _corpora(self) -> list[Corpus]:
        found = []
        for name, features, trials in self.study.store.others(self.study.name):
            rows = features.get("rows", {})
            known = [t for t in trials if t.stage == FAST and t.key in rows and t.value("loss") > 0]
            if len(known) >= self.settings.generation:
                found.append(Corpus(name, [rows[t.key] for t in known], [t.value("loss") for t in known]))
        return found

    def _save_features(self, features: Features) -> None:
        """Rows of every trial, for later searches on other models."""
        keys = [key for stage, key in self.trials if stage == FAST][:KEPT_ROWS]
        rows = {key: features.rows(self.configs[key]) for key in keys}
        self.study.features = {**(self.study.features or {}), "rows": rows}

    # the end

    def _verify(self, baseline: Trial) -> Trial:
        """Measure the best ones; the answer."""
        done = [t for (s, _), t in self.trials.items() if s == FAST and t.ok]
        ranked = sorted(done, key=lambda t: (*self.goal.rank(t), t.number))
        measured = {baseline.key: baseline}
        for trial in ranked[: 2 * self.settings.verified]:
            enough = len(measured) > self.settings.verified
            if enough and any(self.goal.meets(t) for t in measured.values()):
                break
            measured.setdefault(trial.key, self._exact_trial(self.configs[trial.key]))
        best = self.goal.best(measured.values())
        if best is None or not self.goal.meets(best):
            raise ConstraintError(self._unreachable(best))
        return baseline if self.goal.meets(baseline) and not self._beats(best, baseline) else best

    def _beats(self, best: Trial, baseline: Trial) -> bool:
        """Better than the recipe as it is, by more than a measurement of time can be off."""
        name = self.goal.objective
        margin = 0.0
        if name.startswith("latency"):
            noisy = best.figures[name].noisy or baseline.figures[name].noisy
            margin = NOISY_MARGIN if noisy else MARGIN
        if best.value(name) < baseline.value(name) * (1 - margin):
            return True
        return margin == 0 and self.goal.rank(best) < self.goal.rank(baseline)

    def _unreachable(self, best: Trial | None) -> str:
        if best is None:
            return "no configuration could be compiled and measured; the store has the error of each"
        other = self.goal.objective
        return (
            f"no configuration keeps {self.goal.limit} at most {self.goal.bound:.6g}: the best that was measured has "
            f"{best.value(self.goal.limit):.6g} ({other} {best.value(other):.6g}), after {len(self.trials)} trials. "
            f"What limits it: {self._limiting(best)}. Relax the limit, or give more trials."
        )

    def _limiting(self, best: Trial) -> str:
        """The groups that the additive model says cost most at the best configuration."""
        config = self.configs[best.key]
        rows = costs.tables(self.space, "size_bytes" if self.goal.limit == "size_bytes" else "latency_ms")
        if self.goal.limit == "drop":
            rows = list(self._sensitivity().table)
        places = config[len(self.space.knobs) :]
        share = np.array([float(r[i]) for r, i in zip(rows, places, strict=True)])
        worst = np.argsort(-share, kind="stable")[:3]
        total = max(float(share.sum()), 1e-30)
        return ", ".join(f"{self.space.groups[i].name} ({share[i] / total:.0%})" for i in worst)

