"""Running and timing ONNX models in ONNX Runtime on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplemented_

from qcompiler.errors import UnsupportedError, UsageError

from ..base import Measurement

# Interquartile range / median of the paired ratios beyond which a measurement is called noisy.
NOISY_SPREAD = 0.15
# Standard error of the median ratio, relative, at which more rounds would tell nothing new; and the fewest rounds
# from which it can be judged.
PRECISE = 0.005
FEWEST_ROUNDS = 16


class OnnxSession:
    """A model in ONNX Runtime's CPU provider."""

    def __init__(
        self, model: Path | bytes, threads: int = 1, optimize: bool = True, optimized_path: Path | None = None
    ) -> None:
        """Load a model.

        Args:
            model: file (needed where weights lie beside it) or serialized model.
            threads: of one op; ops run one after the other.
            optimize: graph optimizations, all or none.
            optimized_path: where to write the optimized graph.

        Raises:
            UnsupportedError: ONNX Runtime has no kernel for an op of the model.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
        if optimized_path is not None:
            options.optimized_model_filepath = str(optimized_path)
        source = str(model) if isinstance(model, Path) else model
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except NotImplemented_ as error:
            raise UnsupportedError(f"ONNX Runtime {onnxruntime.__version__} cannot run the model: {error}") from error
        self.input_names = [i.name for i in self._session.get_inputs()]
        self.output_names = [o.name for o in self._session.get_outputs()]

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs in the model's order.

        Raises:
            UsageError: wrong number of inputs.
        """
        if len(arrays) != len(self.input_names):
            raise UsageError(f"the model takes {len(self.input_names)} inputs ({', '.join(self.input_names)}), got {len(arrays)}")
        return list(self._session.run(None, dict(zip(self.input_names, arrays, strict=True))))


def measure_pair(
    subject: Callable[[], object],
    baseline: Callable[[], object],
    seconds: float = 3.0,
    threads: int = 1,
    most_rounds: int = 400,
) -> Measurement:
    """Time two callables alternately for at most about `seconds`, after warming both up.

    The order within a round alternates, so that neither always runs in the other's wake. It ends early once the
    median ratio is known to `PRECISE`; on a machine with other work it uses all its time. At least 5 rounds.
    """
    for call in (subject, baseline, subject, baseline):
        call()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 5 or (time.perf_counter() < end and rounds < most_rounds):
        for which in (0, 1) if rounds % 2 == 0 else (1, 0):
            start = time.perf_counter()
            (subject, baseline)[which]()
            times[which].append(time.perf_counter() - start)
        rounds += 1
        if rounds >= FEWEST_ROUNDS and rounds % 4 == 0 and _spread(times)[1] <= PRECISE * rounds**0.5:
            break
    mine, other = (np.asarray(t) * 1e3 for t in times)
    middle, spread = _spread(times)
    return Measurement(
        float(np.median(mine)), float(np.median(other)), middle, spread, spread > NOISY_SPREAD, rounds, threads
    )


def _spread(times: tuple[list[float], list[float]]) -> tuple[float, float]:
    """Median of the paired ratios, and their interquartile range relative to it.

    For normal errors the standard error of the median of n ratios is 0.93 times that range / sqrt(n).
    """
    low, middle, high = np.percentile(np.asarray(times[0]) / np.asarray(times[1]), [25, 50, 75])
    return float(middle), float((high - low) / middle)


class Runnable(Protocol):
    """A loaded model."""

    def run(self, arrays: Sequence[np.ndarray]) -> object:
        """One run."""
        ...


def measure_sessions(
    subject: Runnable, baseline: Runnable, arrays: Sequence[np.ndarray], seconds: float = 3.0, threads: int = 1
) -> Measurement:
    """`measure_pair` of two loaded models on the same inputs."""
    return measure_pair(lambda: subject.run(arrays), lambda: baseline.run(arrays), seconds, threads)
