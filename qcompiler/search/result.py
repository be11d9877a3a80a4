"""Settings of a search, what it shows while it runs, and what it ends with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qcompiler.search.sensitivity import Correlation, Sensitivity
from qcompiler.search.solvers import Certificate
from qcompiler.search.store import Trial

if TYPE_CHECKING:
    from qcompiler.search.space import Config


@dataclass(frozen=True)
class Settings:
    """How long and how.

    Attributes:
        trials: accuracy trials.
        seconds: spent in trials of both kinds before the search stops proposing; None for no limit.
        generation: trials proposed together.
        verified: configurations that are compiled and measured at the end.
        sensitivity: name of the provider.
        solver: name of the strategy, see `strategies`.
        seed: of proposals.
    """

    trials: int = 64
    seconds: float | None = None
    generation: int = 8
    verified: int = 5
    sensitivity: str = "layer_sqnr"
    seed: int = 0
    solver: str = "guided"


@dataclass
class Progress:
    """What is shown while it runs: stage, trials done and wanted, the best so far in words, seconds per trial."""

    stage: str
    done: int
    total: int
    best: str
    seconds: float


@dataclass
class Result:
    """The end of a search.

    Attributes:
        best: measured trial that was chosen.
        baseline: the recipe as it is.
        config: of the best.
        front: measured trials, and accuracy trials, that none other beats in loss and cost.
        trials: all.
        resumed: trials that were taken from the store.
        stopped_by: `trials`, `budget`, `exhausted` (the space), or `solver`, which had no more to propose.
        correlation: of the sensitivities with the losses of random configurations, None with too few of them.
        held_out: rank correlation of the transferred model on left-out studies.
        sensitivity: estimates that proposals started from.
        certificates: what solvers proved about what they proposed.
        estimates: how well costs were known before they were measured.
        seconds: wall time by phase (see `clock`).
    """

    best: Trial
    baseline: Trial
    config: Config
    front: list[Trial]
    trials: list[Trial]
    resumed: int
    stopped_by: str
    sensitivity: Sensitivity
    correlation: Correlation | None
    held_out: dict[str, float]
    certificates: list[Certificate] = field(default_factory=list)
    estimates: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
