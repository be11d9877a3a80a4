"""Per-layer error: a float run and a quantized run compared value by value, streaming over samples.

For every tapped value, with x the float model's array and y the quantized one's (dequantized):

    SQNR = 10 log10(sum x^2 / sum (x - y)^2)     max |x - y|     mean shift = mean(y - x)     RMS = sqrt(mean x^2)

Sums run over all samples, so that a layer of ragged samples is weighted by elements. Nothing but five numbers
per value is kept. The *cumulative* error compares two whole runs; the *local* error compares a layer that
was fed the float model's inputs, so it is what this layer adds by itself.

Elements that are the same infinity or both NaN (masked scores) are left out. A NaN or infinity on one side
only is an infinite error: SQNR is -inf.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.errors import InternalError
from qcompiler.ir import Graph, Value
from qcompiler.metrics import energy_ratio_db
from qcompiler.report.data import LayerErrorRow

Arrays = Mapping[Any, np.ndarray]


@dataclass(frozen=True)
class Tap:
    """A compared value: the key it is known by in both runs, and what made it."""

    key: Hashable
    module: str
    op: str


@dataclass
class _Sums:
    """Running sums over the elements of one value."""

    count: int = 0
    signal: float = 0.0
    noise: float = 0.0
    shift: float = 0.0
    worst: float = 0.0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        x, y = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
        usual = np.isfinite(x) & np.isfinite(y)
        if not usual.all():
            rest_x, rest_y = x[~usual], y[~usual]
            if not np.array_equal(rest_x, rest_y, equal_nan=True):
                self.noise = self.worst = math.inf
            x, y = x[usual], y[usual]
        if not x.size:
            return
        error = y - x
        self.count += x.size
        self.signal += float(np.vdot(x, x))
        self.noise += float(np.vdot(error, error))
        self.shift += float(error.sum())
        self.worst = max(self.worst, float(np.abs(error).max()))

    @property
    def sqnr_db(self) -> float:
        return energy_ratio_db(self.signal, self.noise)


class LayerErrors:
    """Collects the errors of many taps; `rows()` gives the table in the order of the taps.

    Use `add` and `add_local` from executor callbacks, one array pair at a time and in any order; nothing
    passed in is kept.
    """

    def __init__(self, taps: Iterable[Tap]) -> None:
        self._taps = tuple(taps)
        self._whole: dict[Hashable, _Sums] = {tap.key: _Sums() for tap in self._taps}
        self._local: dict[Hashable, _Sums] = {}
        self._seen: set[Hashable] = set()

    @property
    def keys(self) -> tuple[Any, ...]:
        """The keys of the taps, in order."""
        return tuple(tap.key for tap in self._taps)

    def add(self, key: Hashable, float_value: np.ndarray, quantized_value: np.ndarray) -> None:
        """One sample of a value in the float run and in the whole quantized run.

        Raises:
            InternalError: a key that is no tap, or shapes that differ.
        """
        self._check(key, float_value, quantized_value)
        self._seen.add(key)
        self._whole[key].add(float_value, quantized_value)

    def add_local(self, key: Hashable, float_value: np.ndarray, quantized_value: np.ndarray) -> None:
        """One sample of a value in the float run and of its quantized layer fed with float inputs."""
        self._check(key, float_value, quantized_value)
        self._local.setdefault(key, _Sums()).add(float_value, quantized_value)

    def rows(self) -> tuple[LayerErrorRow, ...]:
        """One row per tap that was seen."""
        return tuple(self._row(tap) for tap in self._taps if tap.key in self._seen)

    def _row(self, tap: Tap) -> LayerErrorRow:
        whole, local = self._whole[tap.key], self._local.get(tap.key)
        return LayerErrorRow(
            module=tap.module,
            op=tap.op,
            sqnr_local_db=None if local is None else local.sqnr_db,
            sqnr_cumulative_db=whole.sqnr_db,
            max_abs_error=whole.worst,
            mean_shift=whole.shift / whole.count if whole.count else 0.0,
            rms=math.sqrt(whole.signal / whole.count) if whole.count else 0.0,
        )

    def _check(self, key: Hashable, x: np.ndarray, y: np.ndarray) -> None:
        if key not in self._whole:
            raise InternalError(f"{key!r} is not a tap of this layer-error table")
        if x.shape != y.shape:
            raise InternalError(f"{key!r}: the float run has shape {x.shape}, the quantized run {y.shape}")


def node_taps(graph: Graph, values: Iterable[Value] | None = None) -> tuple[Tap, ...]:
    """A tap for each float output of the graph's nodes, in program order; only those in `values` if given."""
    wanted = None if values is None else set(values)
    return tuple(
        Tap(value, node.origin.module, node.op)
        for node in graph.nodes
        for value in node.outputs
        if value.dtype.is_float and (wanted is None or value in wanted)
    )


def layer_errors(
    graph: Graph,
    samples: Iterable[tuple[Arrays, Arrays] | tuple[Arrays, Arrays, Arrays]],
    values: Iterable[Value] | None = None,
) -> tuple[LayerErrorRow, ...]:
    """The per-layer rows of a float graph, its layers named by module path.

    Args:
        graph: at level FLOAT; its values are the keys of the mappings.
        samples: per sample (float run, quantized run dequantized) or (float, quantized, local), each a
            mapping of value to array. Consumed once; one sample is alive at a time. The local mapping may
            lack values.
        values: which values to compare; default every float output of a node.

    Raises:
        InternalError: a run lacks a value, or the shapes of a value differ.
    """
    errors = LayerErrors(node_taps(graph, values))
    for number, (float_run, quantized_run, *rest) in enumerate(samples):
        for key in errors.keys:
            for name, run in (("float", float_run), ("quantized", quantized_run)):
                if key not in run:
                    raise InternalError(f"sample {number}: the {name} run has no value {key!r}")
            errors.add(key, float_run[key], quantized_run[key])
            if rest and key in rest[0]:
                errors.add_local(key, float_run[key], rest[0][key])
    return errors.rows()
