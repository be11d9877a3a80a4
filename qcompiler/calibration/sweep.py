"""One pass of the calibration data through the graph, whatever the number of statistics.

Taps are consumed as they are computed: the executor calls back per value, the observers of that value reduce
the tensor, and it can be freed. Peak memory is that of one run of the executor plus the observers' state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch

from qcompiler.errors import InternalError
from qcompiler.executors.freed_memory import FreedMemory
from qcompiler.ir import DType, Graph, Value

from .batching import batch_symbol
from .observation import Observation
from .observers import Observer, RangeObserver
from .padding import TokenMask, find_token_mask

if TYPE_CHECKING:
    from .observers import Bound
    from .samples import Samples

logger = logging.getLogger(__name__)

OnValue = Callable[[Value, Any], None]
Progress = Callable[[int, int], None]
Kind = TypeVar("Kind", bound=Observer)

TAP_ELEMENTS = 1 << 21
"""Samples are batched while the largest tapped tensor stays below this (8 MB, to stay in the last cache)."""


class TapExecutor(Protocol):
    """What the sweep needs of an executor."""

    def run(
        self, inputs: Sequence[Any], taps: Collection[Value] = (), on_value: OnValue | None = None
    ) -> Any:
        """Run the graph; call on_value(value, tensor) for each tapped value as soon as it is computed."""


@dataclass(frozen=True)
class Statistics:
    """Result of a sweep: the observers of each value, filled.

    samples: number of samples seen. notes: what was done with padding and batching, for the report.
    """

    observers: Mapping[Value, tuple[Observer, ...]]
    samples: int
    notes: tuple[str, ...] = ()

    def get(self, value: Value, kind: type[Kind]) -> Kind:
        """The first observer of a kind.

        Raises:
            KeyError: the value was not observed so.
        """
        for observer in self.observers.get(value, ()):
            if isinstance(observer, kind):
                return observer
        raise KeyError(f"{value!r} has no {kind.__name__}")

    def range(
        self, value: Value, dtype: DType, symmetric: bool, kind: type[RangeObserver] = RangeObserver
    ) -> tuple[Bound, Bound]:
        """(lo, hi) of the first range observer (of a kind) of a value."""
        return self.get(value, kind).range(dtype, symmetric)

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of both sweeps, for the same requests; new observers, neither operand is changed."""
        if list(self.observers) != list(other.observers):
            raise ValueError("cannot merge statistics of different values")
        merged = {value: tuple(o.copy() for o in found) for value, found in self.observers.items()}
        for value, found in merged.items():
            for a, b in zip(found, other.observers[value], strict=True):
                a.merge(b)
        notes = (*self.notes, *(n for n in other.notes if n not in self.notes))
        return Statistics(merged, self.samples + other.samples, notes)


def collect(
    graph: Graph,
    samples: Samples,
    requests: Mapping[Value, Sequence[Observer]],
    executor: TapExecutor,
    progress: Progress | None = None,
    *,
    token_mask: str | None = "auto",
    max_batch: int = 32,
) -> Statistics:
    """Run every sample once and feed the tapped values to their observers (which are filled in place).

    progress: called as progress(samples done, samples in all) after each run.
    token_mask: name of the input whose zeros mark padding, which is then left out of the statistics of every
        value that has its batch and sequence axes; "auto" takes an integer input `attention_mask` of rank 2.
    max_batch: run up to this many samples of equal shapes at once where the graph keeps them apart.
        Counts, minima, maxima and histograms are the same as one by one (as far as the executor's own
        rounding is independent of the batch).

    Raises:
        CalibrationError: NaN or Inf in a tapped value, naming it and the sample; unknown `token_mask`.
    """
    notes: list[str] = []
    mask = find_token_mask(graph, token_mask)
    symbol = batch_symbol(graph)
    sweep = _Sweep(graph, samples, requests, executor, mask)
    memory = FreedMemory()
    with torch.no_grad():
        sweep.observe_constants()
        done = 0
        for group in sweep.groups(max_batch if symbol is not None else 1):
            sweep.run(group)
            memory.give_back()
            done += len(group)
            if progress is not None:
                progress(done, len(samples))
    sweep.check_complete()
    if mask is not None:
        notes.append(mask.note())
        logger.info(notes[-1])
    return Statistics({v: tuple(o) for v, o in requests.items()}, len(samples), tuple(notes))


class _Sweep:
    def __init__(
        self,
        graph: Graph,
        samples: Samples,
        requests: Mapping[Value, Sequence[Observer]],
        executor: TapExecutor,
        mask: TokenMask | None,
    ) -> None:
        known = set(graph.values())
        for value in requests:
            if value not in known:
                raise InternalError(f"cannot observe {value!r}: it is not a value of {graph!r}")
        self.graph, self.samples, self.requests, self.executor, self.mask = (
            graph,
            samples,
            requests,
            executor,
            mask,
        )
        self.taps = [v for v in requests if not v.is_const]
        self.largest = 0  # elements of the largest tap per input element, measured
        self._seen: set[Value] = set()

    def observe_constants(self) -> None:
        for value, observers in self.requests.items():
            if value.data is not None:
                self._feed(observers, Observation(value.data, name=self._where(value)))

    def groups(self, max_batch: int) -> Iterator[list[int]]:
        """Sample indices to run at once: equal shapes, in order of first appearance."""
        buckets: dict[Any, list[int]] = {}
        for index, shapes in enumerate(self.samples.shapes):
            buckets.setdefault(shapes, []).append(index)
        for shapes, bucket in buckets.items():
            elements = sum(int(np.prod(s)) for s in shapes)
            at = 0
            while at < len(bucket):
                # The first run has one sample; it shows how large the taps are.
                size = int(TAP_ELEMENTS / max(1, self.largest * elements)) if self.largest else 1
                size = max(1, min(size, max_batch))
                yield bucket[at : at + size]
                at += size

    def run(self, group: list[int]) -> None:
        read = [self.samples[i] for i in group]
        inputs = (
            read[0] if len(read) == 1 else tuple(np.concatenate(arrays) for arrays in zip(*read, strict=True))
        )
        elements = sum(a.size for a in inputs)
        keep = None if self.mask is None else self.mask.keep(inputs)

        def on_value(value: Value, tensor: Any) -> None:
            observers = self.requests.get(value)
            if observers is None:
                return
            self._seen.add(value)
            axes = None if keep is None or self.mask is None else self.mask.axes(value, tuple(tensor.shape))
            if elements:
                self.largest = max(self.largest, np.prod(tensor.shape) / elements)
            observation = Observation(
                tensor,
                name=self._where(value),
                sample_ids=group,
                mask=keep if axes else None,
                mask_axes=axes or (0, 1),
            )
            self._feed(observers, observation)

        self.executor.run(inputs, self.taps, on_value)

    def check_complete(self) -> None:
        missed = [v for v in self.taps if v not in self._seen]
        if missed:
            raise InternalError(
                f"the executor never produced {self._where(missed[0])} ({len(missed)} values in all)"
            )

    def _feed(self, observers: Sequence[Observer], observation: Observation) -> None:
        for observer in observers:
            observer.observe(observation)

    def _where(self, value: Value) -> str:
        node = self.graph.producer(value)
        kind = "constant" if value.is_const else "input"
        return f"output {value.name!r} of {node.where()}" if node is not None else f"{kind} {value.name!r}"
