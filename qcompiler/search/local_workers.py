"""Accuracy trials in processes of this machine, one executor of one process each.

One process per executor tells whose trial a lost process was, and lets one that hangs be ended without the others. A
process gets its next trial as soon as it has finished one, before the finished one is recorded.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.context import BaseContext
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.search.backlog import Backlog, Pace
from qcompiler.search.evaluator import Evaluator
from qcompiler.search.shipping import pack, unpack
from qcompiler.search.space import Config
from qcompiler.search.workers import LOST, Done, Outcome, Workers, attempt, one_thread

LOSSES = 2
"""Processes that a trial may take with it before it counts as failed."""


class LocalProcesses(Workers):
    """`count` worker processes, each with a copy of the evaluator as it is when the first trials run.

    A trial whose process dies is tried once more, and one that takes longer than `timeout` ends its process.
    """

    def __init__(self, evaluator: Evaluator, count: int, timeout: float | None = None) -> None:
        self.count, self.timeout = count, timeout
        self._evaluator, self._packed = evaluator, b""
        self._context = _processes()
        self._seats: list[_Seat] = []
        self._made: frozenset[Hashable] = frozenset()
        self._pace = Pace()

    def run(self, configs: Sequence[Config], done: Done) -> None:
        self._open()
        waiting, losses = Backlog([self._evaluator.reuses(c) for c in configs], self._pace), [0] * len(configs)
        self._fill(waiting, configs)
        while any(s.future for s in self._seats):
            ended = []
            for seat in self._finished():
                at, outcome = seat.collect(self.timeout)
                losses[at] += outcome.error == LOST
                if outcome.error == LOST and losses[at] < LOSSES:
                    waiting.put_back(at)
                else:
                    ended.append((at, outcome))
                    self._pace.add(seat.makes, outcome.seconds)
            self._fill(waiting, configs)
            for at, outcome in ended:
                done(at, outcome)

    def _fill(self, waiting: Backlog, configs: Sequence[Config]) -> None:
        """Begin a trial in every process that is idle, where there is one for it."""
        for seat in self._seats:
            if seat.future is None and waiting:
                others = frozenset().union(*(s.made for s in self._seats if s is not seat))
                at = waiting.take(seat.made, others)
                if at is not None:
                    seat.start(at, configs[at], waiting.keys[at])

    def _finished(self) -> list[_Seat]:
        """Wait for results or for a time limit."""
        busy = {s.future: s for s in self._seats if s.future is not None}
        now = time.perf_counter()
        left = None
        if self.timeout is not None:
            left = max(0.0, min(s.since for s in busy.values()) + self.timeout - now)
        finished, _ = wait(busy, left, FIRST_COMPLETED)
        if finished:
            return [busy[f] for f in finished]
        return [min(busy.values(), key=lambda s: s.since)]

    def _open(self) -> None:
        """Start the processes; making them does not count as the first trials' time."""
        if not self._packed:
            self._made = self._evaluator.made()
            self._packed = pack(self._evaluator)
        while len(self._seats) < self.count:
            self._seats.append(_Seat(self._context, self._packed, self._made))
        try:
            for seat in [s for s in self._seats if s.is_empty]:
                seat.submit(_ready)  # all are made at the same time
            for seat in self._seats:
                seat.make_ready()
        except BrokenProcessPool as error:
            self.close()
            raise UsageError(
                "a worker process could not be set up (its own message is above); run without --workers"
            ) from error

    def close(self) -> None:
        for seat in self._seats:
            seat.end()
        self._seats = []


class _Seat:
    """One process, and the trial that it runs.

    Attributes:
        made: keys of the statistics that the process has, or makes in the trial that it runs.
        makes: the last trial was the first of its key.
    """

    def __init__(self, context: BaseContext, packed: bytes, made: frozenset[Hashable]) -> None:
        self.context, self.packed, self.shipped = context, packed, made
        self.made, self.makes = made, False
        self.future: Future[Outcome] | None = None
        self.since = 0.0
        self._at = -1
        self._pool: ProcessPoolExecutor | None = None

    @property
    def is_empty(self) -> bool:
        """True if there is no process."""
        return self._pool is None

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        """Run a function in the process, which is made if there is none."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, self.context, _set_up, (self.packed,))
        return self._pool.submit(function, *arguments)

    def make_ready(self) -> None:
        """Wait until the process is set up; one that died while it had nothing to do is replaced.

        Raises:
            BrokenProcessPool: a new one cannot be set up either.
        """
        try:
            self.submit(_ready).result()
        except BrokenProcessPool:
            self.end()
            self.submit(_ready).result()

    def start(self, at: int, config: Config, key: Hashable) -> None:
        """Begin trial number `at`."""
        self.make_ready()
        self.makes, self.made = key not in self.made, self.made | {key}
        self.future, self._at, self.since = self.submit(_in_worker, config), at, time.perf_counter()

    def collect(self, timeout: float | None) -> tuple[int, Outcome]:
        """The trial's number and what became of it; without a result yet, it has run out of time."""
        assert self.future is not None
        future, self.future, spent = self.future, None, time.perf_counter() - self.since
        if not future.done():
            self.end()
            return self._at, Outcome(None, f"TimeoutError: the trial took longer than {timeout:g} s", spent)
        try:
            return self._at, future.result()
        except BrokenProcessPool:
            self.end()
            return self._at, Outcome(None, LOST, spent)

    def end(self) -> None:
        """End the process, whatever it does."""
        if self._pool is None:
            return
        processes = list((self._pool._processes or {}).values())  # the only way to end one that hangs
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with suppress(ProcessLookupError, AttributeError):
                process.terminate()
        for process in processes:
            process.join(5)
        self._pool, self.future, self.made = None, None, self.shipped


def _processes() -> BaseContext:
    """New processes by a server that loads the libraries meanwhile, where the system has such."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing.forkserver import ensure_running

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qcompiler.search.fast", "qcompiler.search.branch", "qcompiler.compilation"])
    ensure_running()
    return context


_evaluator: Evaluator


def _set_up(packed: bytes) -> None:
    global _evaluator
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    one_thread()
    _evaluator = unpack(packed)


def _ready() -> None:
    """Returns once a process is set up."""


def _in_worker(config: Config) -> Outcome:
    return attempt(_evaluator, config)
