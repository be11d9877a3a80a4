"""Where trials run: in this process, in processes of this machine, or on a Dask cluster.

Each takes a list of configurations and gives back an outcome for each, in the order given. A trial that raises,
takes too long or takes its process with it is an outcome too; it never stops the others.
"""

from __future__ import annotations

import multiprocessing
import re
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from qcompiler.errors import MissingToolError, UsageError
from qcompiler.search.space import Config, Space
from qcompiler.search.workload import Workload

Done = Callable[[int, "Outcome"], None]
LOST = "the worker process died"


@dataclass(frozen=True)
class Outcome:
    """What became of a trial: figures by name, or the error that ended it."""

    values: dict[str, float] | None
    error: str = ""
    seconds: float = 0.0


class Workers(ABC):
    """Runs accuracy trials."""

    count: int

    @abstractmethod
    def run(self, configs: Sequence[Config], done: Done) -> None:
        """Evaluate all; `done(i, outcome)` is called in this process for each as it ends, in any order."""

    @abstractmethod
    def close(self) -> None:
        """Give back processes and connections."""


class Evaluation:
    """What a worker needs for any trial of a search; made once per process.

    Args:
        make: gives `trial(config) -> {name: value}`; a function of a module, so that it can be pickled.
    """

    def __init__(self, workload: Workload, space: Space, make: Callable[[Workload, Space], Any]) -> None:
        self.workload, self.space, self.make = workload, space, make

    def evaluator(self) -> Any:
        """The evaluator in this process."""
        return self.make(self.workload, self.space)


def fast(workload: Workload, space: Space) -> Any:
    """The usual `make`: fake quantization."""
    from qcompiler.search.fast import FastEvaluator

    return FastEvaluator(workload, space)


class Serial(Workers):
    """One trial after the other in this process.

    A trial that takes longer than `timeout` seconds is interrupted by a signal, where this is the main thread;
    code that never returns to Python cannot be interrupted so, worker processes can.
    """

    count = 1

    def __init__(self, evaluation: Evaluation, timeout: float | None = None) -> None:
        self.evaluation, self.timeout = evaluation, timeout
        self._evaluator: Any = None

    def run(self, configs: Sequence[Config], done: Done) -> None:
        if self._evaluator is None:
            self._evaluator = self.evaluation.evaluator()
        for i, config in enumerate(configs):
            done(i, _attempt(self._evaluator, config, self.timeout))

    def close(self) -> None:
        self._evaluator = None


def _attempt(evaluator: Any, config: Config, timeout: float | None = None) -> Outcome:
    start = time.perf_counter()
    try:
        with _limit(timeout):
            return Outcome(evaluator.trial(config), "", time.perf_counter() - start)
    except Exception as error:  # whatever a trial raises is that trial's result
        return Outcome(None, f"{type(error).__name__}: {error}", time.perf_counter() - start)


@contextmanager
def _limit(seconds: float | None) -> Iterator[None]:
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeoutError(f"the trial took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class LocalProcesses(Workers):
    """`count` worker processes of this machine, each with its own copy of the graph.

    A trial whose process dies is tried once more; one that takes longer than `timeout` costs the whole pool, which
    is made anew for the rest.
    """

    def __init__(self, evaluation: Evaluation, count: int, timeout: float | None = None) -> None:
        self.count, self.timeout = count, timeout
        self._packed = (evaluation.workload.pack(), evaluation.space, evaluation.make)
        self._pool: ProcessPoolExecutor | None = None

    def run(self, configs: Sequence[Config], done: Done) -> None:
        waiting = list(range(len(configs)))
        losses = dict.fromkeys(waiting, 0)
        while waiting:
            # After a loss nobody knows whose it was: one at a time, so that only the guilty one is blamed twice.
            careful = any(losses[i] for i in waiting)
            batch = waiting[:1] if careful else waiting[: self.count]
            finished = self._batch([configs[i] for i in batch])
            for i, outcome in zip(batch, finished, strict=True):
                if outcome.error == LOST and losses[i] == 0:
                    losses[i] = 1
                    continue
                waiting.remove(i)
                done(i, outcome)

    def _batch(self, configs: Sequence[Config]) -> list[Outcome]:
        """At most `count` trials at once, so that a time limit is a limit on each."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.count, _processes(), _set_up, self._packed)
            self._pool.submit(_ready).result()  # making a process does not count as the first trial's time
        start = time.perf_counter()
        futures = [self._pool.submit(_in_worker, config) for config in configs]
        found = [self._outcome(f, start) for f in futures]
        if any(o.error == LOST or "took longer" in o.error for o in found):
            self.close()
        return found

    def _outcome(self, future: Future[Outcome], start: float) -> Outcome:
        left = None if self.timeout is None else max(0.0, self.timeout - (time.perf_counter() - start))
        try:
            return future.result(left)
        except TimeoutError:
            return Outcome(None, f"TimeoutError: the trial took longer than {self.timeout:g} s", self.timeout or 0.0)
        except BrokenProcessPool:
            return Outcome(None, LOST, time.perf_counter() - start)

    def close(self) -> None:
        if self._pool is None:
            return
        processes = list((self._pool._processes or {}).values())  # the only way to end one that hangs
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with suppress(ProcessLookupError, AttributeError):
                process.terminate()
        for process in processes:
            process.join(5)
        self._pool = None


def _processes() -> Any:
    """New processes by a server that has the libraries loaded already, where the system has such."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qcompiler.search.fast", "qcompiler.search.branch", "qcompiler.compilation"])
    return context


_evaluator: Any = None


def _set_up(workload: bytes, space: Space, make: Callable[[Workload, Space], Any]) -> None:
    global _evaluator
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    _one_thread()
    _evaluator = make(Workload.unpack(workload), space)


def _ready() -> None:
    """Returns once a process is set up."""


def _in_worker(config: Config) -> Outcome:
    return _attempt(_evaluator, config)


def _one_thread() -> None:
    """Workers share the machine's cores by their number, not by threads inside each."""
    from qcompiler.executors.torch_executor import limit_threads

    limit_threads(1)


class DaskWorkers(Workers):
    """A Dask cluster: `dask://host:port` of its scheduler. A lost worker's trials are run again on another."""

    def __init__(self, evaluation: Evaluation, address: str, timeout: float | None = None) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise MissingToolError(
                "--workers dask://... needs the package distributed: pip install 'qcompiler[distributed]'"
            ) from None
        try:
            self._client = Client(address, timeout=10)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(f"no Dask scheduler answers at {address}: {error}") from error
        self.count = max(1, len(self._client.scheduler_info()["workers"]))
        self.timeout = timeout
        self._packed = (evaluation.workload.pack(), evaluation.space, evaluation.make)

    def run(self, configs: Sequence[Config], done: Done) -> None:
        lost = self._round(configs, range(len(configs)), done, last=False)
        for i in lost:  # with the worker, or with everything that it held: once more, alone and from fresh data
            self._round(configs, [i], done, last=True)

    def _round(self, configs: Sequence[Config], which: Sequence[int], done: Done, last: bool) -> list[int]:
        """Run some of the trials; what was lost is given back, or in the last round reported."""
        from distributed import as_completed

        shared = self._client.scatter(self._packed, broadcast=True, hash=False)
        futures = {
            self._client.submit(_on_cluster, shared, configs[i], self.timeout, pure=False): i for i in which
        }
        lost = []
        for future in as_completed(list(futures)):
            i = futures[future]
            try:
                done(i, future.result())
            except Exception as error:  # a killed worker, lost data, or a worker that could not load the problem
                if last:
                    done(i, Outcome(None, f"{LOST}: {type(error).__name__}: {error}"))
                else:
                    lost.append(i)
        return sorted(lost)

    def close(self) -> None:
        self._client.close()


def _on_cluster(shared: Any, config: Config, timeout: float | None) -> Outcome:
    return _attempt(_evaluator_of(*shared), config, timeout)


@lru_cache(maxsize=2)
def _evaluator_of(workload: bytes, space: Space, make: Callable[[Workload, Space], Any]) -> Any:
    return make(Workload.unpack(workload), space)


def make_workers(text: str | None, evaluation: Evaluation, timeout: float | None) -> Workers:
    """From the command line's form: nothing, `local:N` or `dask://HOST:PORT`.

    Raises:
        UsageError: another form, or no scheduler answers. MissingToolError: Dask is not installed.
    """
    if text is None:
        return Serial(evaluation, timeout)
    if match := re.fullmatch(r"local:([1-9]\d*)", text):
        return LocalProcesses(evaluation, int(match[1]), timeout)
    if text.startswith("dask://"):
        return DaskWorkers(evaluation, "tcp://" + text.removeprefix("dask://"), timeout)
    raise UsageError(f"--workers {text!r}: give local:N (processes of this machine) or dask://HOST:PORT")

