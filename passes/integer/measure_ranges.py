"""Ranges of the real values of a QUANTIZED program on the calibration data.

The program itself is run, by the reference interpreter, so a range is that of the numbers the integer program will
have to hold, with every rounding before it. Padding tokens are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from qcompiler.calibration import HistogramMSE, MinMax, Observer, Statistics, collect
from qcompiler.calibration.sweep import OnValue
from qcompiler.errors import UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, Value
from qcompiler.passes.base import Context

EXAMPLES = 2
"""Samples whose arrays are kept."""


class Ranges:
    """Measured ranges; constants have that of their data.

    A program whose islands lie between codes, as of most imported models, needs none: without data, asking is an error.

    Attributes:
        examples: arrays that some values had on a few samples, for measuring the error of nonlinear functions.
    """

    def __init__(
        self, statistics: Statistics | None, examples: Mapping[Value, Sequence[np.ndarray]] | None = None
    ) -> None:
        self._statistics = statistics
        self.examples = dict(examples or {})

    def _measured(self, value: Value) -> Statistics:
        if self._statistics is None:
            raise UsageError(
                f"an integer program needs calibration data for the values that were real numbers, here {value.name!r}; give some"
            )
        return self._statistics

    def extremes(self, value: Value) -> tuple[float, float]:
        """Least and largest number seen."""
        if value.data is not None:
            finite = value.data[np.isfinite(value.data)]
            return float(finite.min(initial=0)), float(finite.max(initial=0))
        low, high = self._measured(value).range(value, DType.int16, False, MinMax)
        return float(low), float(high)

    def fitted(self, value: Value, dtype: DType) -> tuple[float, float]:
        """The range with the least squared error for codes of a dtype."""
        if value.data is not None:
            return self.extremes(value)
        low, high = self._measured(value).range(value, dtype, False, HistogramMSE)
        return float(low), float(high)


class _Executor:
    """The reference interpreter as the calibration sweep calls executors."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, inputs: Sequence[Any], taps: Collection[Value] = (), on_value: OnValue | None = None) -> Any:
        return run_reference(self.graph, inputs, taps, on_value)


def measure_ranges(
    graph: Graph, values: Collection[Value], shown: Collection[Value], context: Context, samples: int
) -> Ranges:
    """Run the program on at most `samples` calibration samples.

    Args:
        graph: level QUANTIZED.
        values: real values whose range is needed.
        shown: of them, those whose arrays are kept for a few samples.
        context: of the compilation.
        samples: most samples.

    Raises:
        UsageError: nonlinear functions are measured and there is no calibration data.
        CalibrationError: NaN or Inf in a value.
    """
    wanted = [v for v in values if not v.is_const]
    if not wanted:
        return Ranges(Statistics({}, 0))
    if context.samples is None:
        if shown:
            raise UsageError("an integer program needs calibration data to choose the forms of its nonlinear functions; give some")
        return Ranges(None)
    chosen = context.samples.select(range(min(samples, len(context.samples))))
    requests: dict[Value, list[Observer]] = {v: [MinMax(), HistogramMSE()] for v in wanted}
    progress = lambda i, n: context.progress("integerize", i, n)  # noqa: E731
    statistics = collect(graph, chosen, requests, _Executor(graph), progress, max_batch=8)
    examples: dict[Value, list[np.ndarray]] = {v: [] for v in shown}
    if examples:
        for index in range(min(EXAMPLES, len(chosen))):
            run_reference(graph, chosen[index], taps=examples, on_value=lambda v, a: examples[v].append(a.copy()))
    return Ranges(statistics, examples)
