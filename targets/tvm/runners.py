"""Where trials are timed: a worker process of this machine, or the machines of an RPC tracker."""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from qcompiler.errors import InternalError, MissingToolError, UsageError

logger = logging.getLogger(__name__)

NUMBER, REPEAT = 5, 3
START_SECONDS = 900.0
"""In which a worker must have loaded TVM."""
Arguments = Sequence[tuple[tuple[int, ...], str]]


class Runner(Protocol):
    """Times a library whose one function is `kernel`."""

    def seconds(self, library: Path, arguments: Arguments) -> float | None:
        """Least time of a call; None where the trial failed."""
        ...

    def close(self) -> None:
        """End every process and connection."""
        ...


class LocalRunner:
    """One worker process, started again after a trial that ended it or took too long.

    Attributes:
        restarts: how often that happened.
    """

    def __init__(self, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self.restarts = 0
        self._process: subprocess.Popen[str] | None = None

    def seconds(self, library: Path, arguments: Arguments) -> float | None:
        process = self._worker()
        assert process.stdin is not None
        request = {"library": str(library), "arguments": [[list(s), k] for s, k in arguments], "number": NUMBER, "repeat": REPEAT}
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = _line(process, self.timeout)
        except (BrokenPipeError, OSError):
            line = ""
        if not line:
            self.restarts += 1
            self.close()
            return None
        answer = json.loads(line)
        if "error" in answer:
            logger.warning("a trial failed: %s", answer["error"][:300])
        return answer.get("seconds")

    def _worker(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "qcompiler.targets.tvm.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "TVM_NUM_THREADS": "1"},
            )  # fmt: skip
            if not _line(self._process, START_SECONDS):
                self.close()
                raise InternalError(f"the process that times kernels did not start: {sys.executable} -m qcompiler.targets.tvm.worker")
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


def _line(process: subprocess.Popen[str], timeout: float) -> str:
    """The next line of a process, "" where it ended or says nothing for so many seconds."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout)
    return process.stdout.readline() if ready else ""


class RpcRunner:
    """Machines that an RPC tracker gives out under a key; one that is lost is replaced by another."""

    def __init__(self, host: str, port: int, key: str, timeout: float = 30.0) -> None:
        """Connect.

        Raises:
            UsageError: nobody answers at that address, or no machine has the key.
            MissingToolError: a package of the tracker is missing.
        """
        try:
            socket.create_connection((host, port), timeout).close()
        except OSError as error:
            raise UsageError(f"no RPC tracker at {host}:{port} ({error}): start one with `python -m tvm.exec.rpc_tracker`") from None
        try:
            from tvm import rpc

            self._tracker: Any = rpc.connect_tracker(host, port)
        except ImportError as error:
            raise MissingToolError(f"the RPC tracker needs {error.name}: pip install 'qcompiler[tvm]'") from None
        self._key, self._timeout = key, timeout
        self._remote: Any = None
        self.lost = 0
        if key not in self._tracker.text_summary():
            raise UsageError(f"the tracker at {host}:{port} knows no machine of key {key!r}")

    def seconds(self, library: Path, arguments: Arguments) -> float | None:
        for _ in range(3):
            try:
                return self._measure(library, arguments)
            except Exception:  # whatever a broken connection raises: ask for another machine
                self._remote = None
                self.lost += 1
        return None

    def _measure(self, library: Path, arguments: Arguments) -> float:
        import numpy as np
        import tvm

        if self._remote is None:
            self._remote = self._tracker.request(self._key, priority=1, session_timeout=int(self._timeout), max_retry=3)
        self._remote.upload(str(library))
        module, device = self._remote.load_module(library.name), self._remote.cpu(0)
        rng = np.random.default_rng(0)
        tensors = []
        for shape, kind in arguments:
            array = rng.integers(0, 2, shape) if not kind.startswith("float") else rng.normal(size=shape)
            tensors.append(tvm.runtime.tensor(np.require(array.astype(kind), requirements="C"), device))
        return float(module.time_evaluator("kernel", device, number=NUMBER, repeat=REPEAT)(*tensors).min)

    def close(self) -> None:
        self._remote = None
