"""What a search is after: one limit, one objective, and the order they put on trials."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.search.store import Trial

_BYTES = {"": 1.0, "B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}
UNITS = {
    "size_bytes": _BYTES,
    "ram_bytes": _BYTES,
    "latency_ms": {"ms": 1.0, "us": 1e-3, "s": 1e3},
    "instructions": {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9},
}


@dataclass(frozen=True)
class Limit:
    """Upper bound on a figure: absolute, or `relative` to the float model's."""

    figure: str
    bound: float
    relative: bool = False

    def resolved(self, float_value: float | None) -> float:
        """The bound in the figure's own unit.

        Raises:
            UsageError: it is relative and the float model has no such figure.
        """
        if not self.relative:
            return self.bound
        if float_value is None:
            raise UsageError(f"a limit relative to float needs the float model's {self.figure}, which is not known here")
        return self.bound * float_value

    @staticmethod
    def parse(figure: str, text: str) -> Limit:
        """`5ms`, `4MB` or `0.4x` (of float).

        Raises:
            UsageError: another form, or not above 0.
        """
        match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*([A-Za-z]*)\s*", text)
        units = UNITS[figure]
        try:
            number = float(match[1]) if match else float("nan")
        except ValueError:
            number = float("nan")
        if match is None or not number > 0 or (match[2] != "x" and match[2] not in units):
            known = ", ".join(repr(u) for u in units if u)
            raise UsageError(f"{text!r} is no limit: give a number above 0 with one of the units {known}, or 'x' of float")
        return Limit(figure, number, True) if match[2] == "x" else Limit(figure, number * units[match[2]])


@dataclass(frozen=True)
class Goal:
    """Least `objective` among the trials whose `limit.figure` is at most `bound`.

    Attributes:
        objective: name of the figure to minimise.
        limit: what may not be exceeded.
        bound: the limit in the figure's unit.
    """

    objective: str
    limit: str
    bound: float

    def meets(self, trial: Trial) -> bool:
        """True if the trial keeps the limit."""
        return trial.ok and trial.value(self.limit) <= self.bound

    def rank(self, trial: Trial) -> tuple[float, ...]:
        """Sort key: trials within the limit by objective, then the others by how far they are off; ties by loss."""
        if self.meets(trial):
            return 0.0, trial.value(self.objective), trial.value("loss")
        return 1.0, trial.value(self.limit), trial.value("loss")

    def best(self, trials: Iterable[Trial]) -> Trial | None:
        """The best trial that went well, None without any."""
        done = [t for t in trials if t.ok]
        return min(done, key=lambda t: (*self.rank(t), t.key)) if done else None

    def to_dict(self) -> dict[str, Any]:
        """For `tune.json`."""
        return {"objective": self.objective, "limit": {"figure": self.limit, "bound": self.bound}}


def pareto_front(trials: Sequence[Trial], figures: tuple[str, str]) -> list[Trial]:
    """Trials that no other beats in both figures, by the first one ascending; of equals that with the least key."""
    front: list[Trial] = []
    for trial in sorted((t for t in trials if t.ok), key=lambda t: (t.value(figures[0]), t.value(figures[1]), t.key)):
        if not front or trial.value(figures[1]) < front[-1].value(figures[1]):
            front.append(trial)
    return front
