"""What runs trials: the interface between an evaluator and the processes that share its work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcompiler.search.space import Config


class Evaluator(ABC):
    """Figures of configurations. Other processes get a copy as it is before the first trial.

    An evaluator whose trials share something that is dear to make says so by `reuses` and `made`, and each process is
    given the trials that it is prepared for. As they stand here, all trials share one thing that is there already.
    """

    @abstractmethod
    def trial(self, config: Config) -> dict[str, float]:
        """Figures of a configuration by name."""

    def reuses(self, config: Config) -> Hashable:
        """What a trial has in common with others of equal value, made once by each process."""
        return None

    def made(self) -> frozenset[Hashable]:
        """Values of `reuses` that are made already."""
        return frozenset({None})
