"""Settings of a search, what it shows while it runs, and what it ends with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qcompiler.search.sensitivity import Correlation, Sensitivity
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
        seed: of proposals.
    """

    trials: int = 64
    seconds: float | None = None
    generation: int = 8
    verified: int = 5
    sensitivity: str = "layer_sqnr"
    seed: int = 0


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
        stopped_by: `trials`, `budget`, `exhausted` or `interrupted`.
        correlation: of the sensitivities with the measured losses, None with too few trials.
        held_out: rank correlation of the transferred model on left-out studies.
        sensitivity: estimates that proposals started from.
        seconds: spent in trials, and all of it.
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
    seconds: dict[str, float] = field(default_factory=dict)
