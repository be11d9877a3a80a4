"""The search itself: baseline, sensitivities, generations of trials, verification of the best, one answer.

    1. the recipe as it is, compiled and measured: what everything else has to beat
    2. sensitivities by group and choice: the additive problem that proposals start from
    3. generations of accuracy trials (fake quantization), proposed by a strategy; where a formula stands for a cost
       that can be measured, now and then the best one so far is measured in between, and the formula corrected
    4. losses of random configurations, to say what the sensitivities are worth
    5. the best `verified` configurations compiled whole and measured, one at a time; if none keeps the limit, the
       next best, up to twice as many. Within a limit on the drop, before that half as many of those that cost no more
       than the recipe as it is, whatever their trials say, until one keeps the limit: a trial may be a sample or two off
    6. the best measured one, or the recipe as it is where nothing beats it

A trial that the store holds is not run again, so a run that was killed goes on where it stopped by doing the same
again. With equal seeds and deterministic objectives the result depends on nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from qcompiler.errors import ConstraintError, MissingToolError, QCError, UnsupportedError
from qcompiler.search import costs
from qcompiler.search.chance import chance_of_keeping
from qcompiler.search.clock import Clock
from qcompiler.search.cost_models import FLOOR, AccuracyModel, Corpus
from qcompiler.search.estimates import Estimates, Points
from qcompiler.search.exact import ExactEvaluator
from qcompiler.search.fast import FastEvaluator
from qcompiler.search.features import Features
from qcompiler.search.goal import Goal
from qcompiler.search.guided import Aim, Guide
from qcompiler.search.ledger import EXACT, FAST, Ledger
from qcompiler.search.result import Progress, Result, Settings
from qcompiler.search.sensitivity import (
    LEAST_CONFIGURATIONS,
    Correlation,
    Sensitivity,
    correlate,
    get_provider,
)
from qcompiler.search.solvers import Certificate
from qcompiler.search.store import DONE, FAILED, Figure, Study, Trial
from qcompiler.search.strategies import STRATEGIES, Board, Stop
from qcompiler.search.workers import Outcome, Workers

if TYPE_CHECKING:
    from qcompiler.search.space import Config

logger = logging.getLogger(__name__)
KEPT_ROWS = 256
"""Trials whose features are kept for later searches on other models."""
MARGIN, NOISY_MARGIN = 0.02, 0.1
"""Share by which a measured latency has to be better than the recipe's as it is; the second where one is noisy."""
MEASURE_EVERY = 2
"""Generations between two measurements of a cost that the search has only a formula for."""
PROBES = LEAST_CONFIGURATIONS
"""Random configurations that the sensitivities are compared with."""


class Tuner:
    """One search.

    Args:
        fast: evaluates accuracy trials; has the problem.
        goal: what is searched for.
        study: where trials are kept.
        workers: run accuracy trials.
        settings: how long.
        show: called after every trial.
        save: called with the best recipe as YAML when there is a new one.
        clock: of the run.
    """

    def __init__(
        self,
        fast: FastEvaluator,
        goal: Goal,
        study: Study,
        workers: Workers,
        settings: Settings,
        show: Callable[[Progress], None] = lambda progress: None,
        save: Callable[[str], None] = lambda recipe: None,
        clock: Clock | None = None,
    ) -> None:
        self.fast, self.goal, self.study, self.workers, self.settings = fast, goal, study, workers, settings
        self.workload, self.space = fast.workload, fast.space
        self.exact = ExactEvaluator(self.workload, self.space, figures={goal.objective, goal.limit})
        self.clock = clock or Clock()
        self.ledger = Ledger(study, self.space, goal, self.workload.recipe, settings, show, save, self.clock)
        self._asked: dict[Config, None] = {}
        self._generations = 0

    def run(self, baseline: Config) -> Result:
        """Search.

        Args:
            baseline: the configuration that stands for the recipe as it is.

        Raises:
            ConstraintError: no measured configuration keeps the limit. UnsupportedError: the recipe as it is does not
            compile. MissingToolError: something that measures the figure asked for is not installed.
        """
        first = self._exact_trial(baseline)
        if not first.ok:
            raise UnsupportedError(f"the recipe that the search starts from does not compile: {first.error}")
        others = self._others()
        self.estimates = Estimates(
            self.space, first, baseline, self.ledger.cost_name, self._points(others), self.settings.seed
        )
        with self.clock.phase("sensitivity"):
            self.sensitivity = self._estimate_sensitivity()
            self.fast.judge("judged")  # float outputs that all trials share; workers get them with the rest
        features = Features(self.fast)
        model = AccuracyModel(self._corpora(others), self.settings.seed)
        guide = Guide(self.space, features, model, self.sensitivity, self.settings.seed)
        with self.clock.phase("proposals"):
            stopped_by, certificates = self._search(guide, baseline)
            self._save_features(features)
        with self.clock.phase("probes"):
            correlation = self._correlation() if self._asked else None
        best = self._verify(first)
        return Result(
            best, first, self.ledger.configs[best.key], self.ledger.front(), self.study.trials(), self.ledger.resumed,
            stopped_by, self.sensitivity, correlation, model.held_out, certificates, self.estimates.to_dict(),
            self.clock.seconds,
        )  # fmt: skip

    # trials

    def _exact_trial(self, config: Config) -> Trial:
        known = self.ledger.known(EXACT, config)
        if known is not None:
            return known
        key, names = self.space.key(config), self.space.describe(config)
        with self.clock.phase("measured"):
            try:
                figures = self.exact.trial(config)
                trial = Trial(EXACT, key, 0, names, DONE, figures, figures["seconds"].value)
            except MissingToolError:
                raise
            except QCError as error:
                trial = Trial(EXACT, key, 0, names, FAILED, {}, 0.0, f"{type(error).__name__}: {error}")
        return self.ledger.record(trial)

    def _fast_trials(self, configs: Sequence[Config]) -> list[Trial]:
        """Results in the order of the configurations, whatever order they ended in. Raises Stop without a budget."""
        fresh = [c for c in dict.fromkeys(configs) if c not in self._asked]
        left = self.settings.trials - len(self._asked)
        if fresh and left <= 0:
            raise Stop("trials")
        if fresh and self.settings.seconds is not None and self.ledger.spent >= self.settings.seconds:
            raise Stop("budget")
        self._asked |= dict.fromkeys(fresh[:left])
        configs = [c for c in configs if c in self._asked]
        found = {c: self.ledger.known(FAST, c) for c in configs}
        missing = [c for c, trial in found.items() if trial is None]

        def done(i: int, outcome: Outcome) -> None:
            found[missing[i]] = self.ledger.record(self._fast_trial(missing[i], outcome))

        if missing:
            with self.clock.phase("trials"):
                self.workers.run(missing, done)
        return [t for t in (found[c] for c in configs) if t is not None]

    def _fast_trial(self, config: Config, outcome: Outcome) -> Trial:
        key, names = self.space.key(config), self.space.describe(config)
        if outcome.values is None:
            return Trial(FAST, key, 0, names, FAILED, {}, outcome.seconds, outcome.error)
        figures = {n: Figure(v, "simulated") for n, v in outcome.values.items() if n != "seconds"}
        for name in costs.FIGURES & self.estimates.anchor.figures.keys():
            figures[name] = Figure(self.estimates.of(config, name), "analytic")
        return Trial(FAST, key, 0, names, DONE, figures, outcome.seconds)

    # the search

    def _search(self, guide: Guide, baseline: Config) -> tuple[str, list[Certificate]]:
        """Run the strategy; why it stopped, and what it proved."""

        def measure(configs: Sequence[Config]) -> list[Trial]:
            trials = self._fast_trials(configs)
            for config, trial in zip(configs, trials, strict=False):
                guide.observe(config, trial.value("loss") if trial.ok else None)
            return trials

        board = Board(
            self.space, self.goal, self.sensitivity, guide, baseline, self.settings.generation, self.settings.trials,
            self.settings.seed, self._aim, measure, self._measure_between,
        )  # fmt: skip
        try:
            STRATEGIES[self.settings.solver](board)
            stopped_by = "solver"
        except Stop as stop:
            stopped_by = str(stop)
        best = self.ledger.best()
        if guide.certificate is not None:
            board.certificates.append(guide.certificate)
        if best is not None and self._asked:
            note = "loss of the best accuracy trial, measured; no bound"
            board.certificates.append(Certificate(self.settings.solver, best.value("loss"), -np.inf, len(self._asked), note))
        return stopped_by, board.certificates

    def _measure_between(self) -> None:
        """Measure the best one so far, where that corrects the formula that it was chosen by."""
        self._generations += 1
        if self.estimates.name == "size_bytes" or self._generations % MEASURE_EVERY:
            return
        for trial in self._ranked():
            if (EXACT, trial.key) not in self.ledger.trials:
                config = self.ledger.configs[trial.key]
                self.estimates.learn(config, self._exact_trial(config))
                return

    def _aim(self) -> Aim:
        """What is proposed for, from the goal and what is known by now."""
        name = self.ledger.cost_name
        table = self.estimates.tables(name)

        def estimate(config: Config) -> float:
            return self.estimates.of(config, name)

        if self.goal.limit != "drop":
            return Aim(name, estimate, table, self.goal.bound, self.estimates.bound(name, self.goal.bound))
        losses: dict[bool, list[float]] = {True: [], False: []}
        worth = self.estimates.most(name)
        for trial in self.ledger.done(FAST):
            meets = self.goal.meets(trial)
            losses[meets].append(float(np.log(max(trial.value("loss"), FLOOR))))
            if meets:
                worth = min(worth, (1 + MARGIN) * estimate(self.ledger.configs[trial.key]))
        return Aim(name, estimate, table, chance=chance_of_keeping(losses[True], losses[False]), worth=worth)

    # sensitivities

    def _estimate_sensitivity(self) -> Sensitivity:
        """From the store where it was estimated before, else now."""
        kept = (self.study.features or {}).get("sensitivity")
        if kept is not None and kept["provider"] == self.settings.sensitivity:
            rows = {k: tuple(np.array(r) for r in kept[k]) for k in ("table", "error")}
            return Sensitivity(kept["provider"], rows["table"], rows["error"], kept["forwards"], kept["seconds"])
        widest = self.space.canonical((0,) * len(self.space.radix))
        found = get_provider(self.settings.sensitivity).estimate(self.fast, widest)
        self._keep("sensitivity", {**asdict(found), **{k: [r.tolist() for r in getattr(found, k)] for k in ("table", "error")}})
        return found

    def _correlation(self) -> Correlation | None:
        """Of the sums with the losses of random choices, at the first option of every knob, on a few samples.

        Proposed trials would not do: they were chosen by those very sums.
        """
        kept = (self.study.features or {}).get("probes")
        if kept is None:
            kept = []
            for config in self.space.sample_groups(np.random.default_rng([self.settings.seed, 31]), PROBES):
                try:
                    kept.append([config, self.fast.accuracy(config, "probe").loss])
                except Exception as error:  # as in a trial: one configuration's failure is not the search's
                    logger.warning("a random configuration failed: %s: %s", type(error).__name__, error)
            self._keep("probes", kept)
        if len(kept) < LEAST_CONFIGURATIONS:
            return None
        return correlate(self.sensitivity, self.space, [tuple(c) for c, _ in kept], [v for _, v in kept])

    # transfer

    def _others(self) -> list[tuple[str, dict, list[Trial]]]:  # type: ignore[type-arg]
        return self.study.store.others(self.study.name)

    def _corpora(self, others: Sequence[tuple[str, dict, list[Trial]]]) -> list[Corpus]:  # type: ignore[type-arg]
        found = []
        for name, features, trials in others:
            rows = features.get("rows", {})
            known = [t for t in trials if t.stage == FAST and t.key in rows and t.value("loss") > 0]
            known.sort(key=lambda t: t.key)
            if len(known) >= self.settings.generation:
                found.append(Corpus(name, [rows[t.key] for t in known], [t.value("loss") for t in known]))
        return found

    def _points(self, others: Sequence[tuple[str, dict, list[Trial]]]) -> Points:  # type: ignore[type-arg]
        """Measured costs of other models on this target."""
        rows, analytic, measured = [], [], []
        for _, features, _ in others:
            kept = features.get("costs", {})
            if (kept.get("target"), kept.get("figure")) == (self.workload.target.name, self.ledger.cost_name):
                rows += kept["rows"]
                analytic += kept["analytic"]
                measured += kept["measured"]
        return Points(rows, analytic, measured)

    def _save_features(self, features: Features) -> None:
        """Rows of every trial and measured costs, for later searches on other models."""
        keys = sorted(key for stage, key in self.ledger.trials if stage == FAST)[:KEPT_ROWS]
        self._keep("rows", {key: features.rows(self.ledger.configs[key]) for key in keys})
        place = {"target": self.workload.target.name, "figure": self.ledger.cost_name}
        self._keep("costs", {**place, **asdict(self.estimates.points)})

    def _keep(self, name: str, value: object) -> None:
        self.study.features = {**(self.study.features or {}), name: value}

    # the end

    def _ranked(self) -> list[Trial]:
        """Accuracy trials, the best first, by what is known of their costs now."""
        name = self.estimates.name

        def now(trial: Trial) -> Trial:
            cost = Figure(self.estimates.of(self.ledger.configs[trial.key], name), "analytic")
            return replace(trial, figures={**trial.figures, name: cost})

        return sorted(map(now, self.ledger.done(FAST)), key=lambda t: (*self.goal.rank(t), t.key))

    def _verify(self, baseline: Trial) -> Trial:
        """Measure the best ones; the answer."""
        measured = {t.key: t for t in (baseline, *self.ledger.done(EXACT))}

        def measure(trial: Trial) -> None:
            config = self.ledger.configs[trial.key]
            measured[trial.key] = self._exact_trial(config)
            self.estimates.learn(config, measured[trial.key])

        met = self.goal.meets(baseline)
        for trial in self._as_cheap(baseline):
            if met:
                break
            measure(trial)
            met = self.goal.meets(measured[trial.key])
        tried = 0
        for trial in self._ranked()[: 2 * self.settings.verified]:
            if tried >= self.settings.verified and any(self.goal.meets(t) for t in measured.values()):
                break
            tried += trial.key != baseline.key
            measure(trial)
        best = self.goal.best(measured.values())
        if best is None or not self.goal.meets(best):
            raise ConstraintError(self._unreachable(best))
        return baseline if self.goal.meets(baseline) and not self._beats(best, baseline) else best

    def _as_cheap(self, baseline: Trial) -> list[Trial]:
        """Within a limit on the drop, trials of other options for the whole model, least drop first, half of `verified` at most.

        Their layers are those of the recipe as it is, and so is the cost.
        """
        if self.goal.limit != "drop":
            return []
        head = len(self.space.knobs)
        tail = self.ledger.configs[baseline.key][head:]
        same = [t for t in self.ledger.done(FAST) if self.ledger.configs[t.key][head:] == tail and t.key != baseline.key]
        return sorted(same, key=lambda t: (t.value("drop"), t.value("loss"), t.key))[: self.settings.verified // 2]

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
            f"{best.value(self.goal.limit):.6g} ({other} {best.value(other):.6g}), after {len(self.ledger.trials)} trials. "
            f"What limits it: {self._limiting(best)}. Relax the limit, or give more trials."
        )

    def _limiting(self, best: Trial) -> str:
        """The groups that the additive model says cost most at the best configuration."""
        config = self.ledger.configs[best.key]
        drop = self.goal.limit == "drop"
        rows = list(self.sensitivity.table) if drop else costs.tables(self.space, self.goal.limit)
        places = config[len(self.space.knobs) :]
        share = np.array([float(r[i]) for r, i in zip(rows, places, strict=True)])
        worst = np.argsort(-share, kind="stable")[:3]
        total = max(float(share.sum()), 1e-30)
        return ", ".join(f"{self.space.groups[i].name} ({share[i] / total:.0%})" for i in worst)

