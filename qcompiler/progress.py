"""Stages of a compile: shown on stderr while they run, timed for the report."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@dataclass(frozen=True)
class StageTime:
    """One finished stage: seconds, and the peak resident memory of the process by its end in bytes."""

    name: str
    seconds: float
    peak_bytes: int


class Stages:
    """Runs named stages in order; shows them with rich (stage, bar, estimated time left) when `show` is set.

    `show=None` shows them when stderr is a terminal. Use as a context manager.
    """

    def __init__(self, names: Sequence[str], *, show: bool | None = None) -> None:
        self._names = list(names)
        self._show = sys.stderr.isatty() if show is None else show
        self._progress: Progress | None = None
        self._overall: TaskID | None = None
        self._inner: TaskID | None = None
        self.times: list[StageTime] = []

    def __enter__(self) -> Self:
        if self._show:
            self._progress = _rich_progress()
            self._progress.start()
            self._overall = self._progress.add_task("compile", total=len(self._names))
            self._inner = self._progress.add_task("", total=None, visible=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One stage. It is recorded only if it ends without an error."""
        if self._progress is not None and self._overall is not None and self._inner is not None:
            self._progress.update(self._overall, description=name)
            self._progress.reset(self._inner, visible=False)
        start = time.perf_counter()
        yield
        self.times.append(StageTime(name, time.perf_counter() - start, peak_memory()))
        if self._progress is not None and self._overall is not None:
            self._progress.advance(self._overall)

    def update(self, what: str, done: int, total: int) -> None:
        """Progress inside the current stage; the signature that passes and the calibration sweep call."""
        if self._progress is not None and self._inner is not None:
            self._progress.update(
                self._inner, description=f"  {what}", completed=done, total=total, visible=True
            )


def peak_memory() -> int:
    """Peak resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _rich_progress() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
