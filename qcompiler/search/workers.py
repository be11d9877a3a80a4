"""Where trials run: in this process, in processes of this machine, or on a Dask cluster.

Each takes a list of configurations and gives back an outcome for each, in the order given. A trial that raises,
takes too long or takes its process with it is an outcome too; it never stops the others.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from qcompiler.errors import MissingToolError, UsageError
from qcompiler.search.evaluator import Evaluator
from qcompiler.search.shipping import pack, unpack
from qcompiler.search.space import Config

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


class Serial(Workers):
    """One trial after the other in this process.

    A trial that takes longer than `timeout` seconds is interrupted by a signal, where this is the main thread;
    code that never returns to Python cannot be interrupted so, worker processes can.
    """

    count = 1

    def __init__(self, evaluator: Evaluator, timeout: float | None = None) -> None:
        self.evaluator, self.timeout = evaluator, timeout

    def run(self, configs: Sequence[Config], done: Done) -> None:
        for i, config in enumerate(configs):
            done(i, attempt(self.evaluator, config, self.timeout))

    def close(self) -> None:
        """There is nothing to give back."""


def attempt(evaluator: Evaluator, config: Config, timeout: float | None = None) -> Outcome:
    """One trial as an outcome, whatever it raises."""
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


REJOIN = 120
"""Seconds for which a cluster that lost its last worker is waited for: a new one imports torch first."""


class DaskWorkers(Workers):
    """A Dask cluster: `dask://host:port` of its scheduler. A lost worker's trials are run again on another."""

    def __init__(self, evaluator: Evaluator, address: str, timeout: float | None = None) -> None:
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
        self._evaluator, self._packed = evaluator, b""

    def run(self, configs: Sequence[Config], done: Done) -> None:
        self._packed = self._packed or pack(self._evaluator)  # with all that it has computed before the first trial
        lost = self._round(configs, range(len(configs)), done, last=False)
        for i in lost:  # with the worker, or with everything that it held: once more, alone and from fresh data
            self._round(configs, [i], done, last=True)

    def _round(self, configs: Sequence[Config], which: Sequence[int], done: Done, last: bool) -> list[int]:
        """Run some of the trials; what was lost is given back, or in the last round reported."""
        from distributed import as_completed

        try:
            shared = self._client.scatter(self._packed, broadcast=True, hash=False, timeout=REJOIN)
        except TimeoutError as error:
            raise UsageError(f"the Dask cluster has had no worker for {REJOIN} seconds; start one, the search goes on where it was") from error
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


def _on_cluster(shared: bytes, config: Config, timeout: float | None) -> Outcome:
    return attempt(_unpacked(shared), config, timeout)


@lru_cache(maxsize=2)
def _unpacked(shared: bytes) -> Any:
    one_thread()
    return unpack(shared)


def one_thread() -> None:
    """Workers share the machine's cores by their number, not by threads inside each."""
    from qcompiler.executors.torch_executor import limit_threads

    limit_threads(1)


def check_workers(text: str | None) -> None:
    """Whether the command line's form is one.

    Raises:
        UsageError: with what is allowed.
    """
    if text is not None and not re.fullmatch(r"local:[1-9]\d*|dask://.+", text):
        raise UsageError(f"--workers {text!r}: give local:N (processes of this machine) or dask://HOST:PORT")


def make_workers(text: str | None, evaluator: Evaluator, timeout: float | None) -> Workers:
    """From the command line's form: nothing, `local:N` or `dask://HOST:PORT`.

    Args:
        text: the form.
        evaluator: runs trials; other processes get a copy when the first trials run.
        timeout: seconds of one trial.

    Raises:
        UsageError: another form, or no scheduler answers. MissingToolError: Dask is not installed.
    """
    check_workers(text)
    if text is None:
        return Serial(evaluator, timeout)
    if text.startswith("local:"):
        from qcompiler.search.local_workers import LocalProcesses

        return LocalProcesses(evaluator, int(text.removeprefix("local:")), timeout)
    return DaskWorkers(evaluator, "tcp://" + text.removeprefix("dask://"), timeout)

