"""Which of the waiting trials a worker process takes next.

Trials that share statistics are cheap for a process that has them, and the first one that needs new ones takes as long
as many others. So what nobody has made comes first (a long trial at the end of a generation leaves the other processes
idle), then what this process can reuse; what only another process has made is left to it unless there is so much of it
that making it twice is faster.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from statistics import median

MAKING = 6.0
"""Trials that making statistics takes as long as, until it was measured."""


class Pace:
    """Seconds of trials that made statistics and of those that reused them."""

    def __init__(self) -> None:
        self._seconds: dict[bool, list[float]] = {True: [], False: []}

    def add(self, made: bool, seconds: float) -> None:
        """A trial that ended."""
        self._seconds[made].append(seconds)

    @property
    def making(self) -> float:
        """How many trials making statistics takes as long as."""
        if not all(self._seconds.values()):
            return MAKING
        made, reused = (median(self._seconds[m]) for m in (True, False))
        return max(0.0, made / max(reused, 1e-9) - 1)


class Backlog:
    """Trials by number that wait for a process.

    Args:
        keys: of each trial; those of equal key share statistics.
        pace: of the search so far.
    """

    def __init__(self, keys: Sequence[Hashable], pace: Pace) -> None:
        self.keys, self.pace = keys, pace
        self._waiting = dict.fromkeys(range(len(keys)))

    def __len__(self) -> int:
        return len(self._waiting)

    def put_back(self, at: int) -> None:
        """A trial that has to be run again: the next one that fits."""
        self._waiting = {at: None, **self._waiting}

    def take(self, own: Collection[Hashable], others: Collection[Hashable]) -> int | None:
        """The next trial for a process; None if it had better wait.

        Args:
            own: keys whose statistics the process has.
            others: keys that other processes have.
        """
        for fits in (lambda k: k not in own and k not in others, lambda k: k in own, self._is_worth_making_twice):
            for at in self._waiting:
                if fits(self.keys[at]):
                    del self._waiting[at]
                    return at
        return None

    def _is_worth_making_twice(self, key: Hashable) -> bool:
        return sum(self.keys[at] == key for at in self._waiting) > self.pace.making
