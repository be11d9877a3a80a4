"""Calibration or evaluation data of a compilation: re-iterable, indexed, hashed, never whole in memory."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.errors import CalibrationError

from .signature import Sample, Signature

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Calibration and held-back evaluation data.

    disjoint: False if there was too little data to hold anything back, so both are the same.
    note: one sentence for log and report.
    """

    calibration: Samples
    evaluation: Samples
    disjoint: bool
    note: str


class Samples:
    """Samples that fit a graph's inputs: tuples of arrays, one per input, in input order.

    Reading sample i gives equal arrays each time; only what is being read is in memory.

    Attributes:
        names: of the graph's inputs.
        source: where the data came from, for the report.
        random: True if the data is random numbers, which the artefact must say.
    """

    def __init__(
        self,
        signature: Signature,
        fetch: Callable[[int], Sample],
        digests: Sequence[bytes],
        shapes: Sequence[tuple[tuple[int, ...], ...]],
        *,
        source: str,
        random: bool = False,
    ) -> None:
        self.signature = signature
        self.names = signature.names
        self.source = source
        self.random = random
        self.shapes = tuple(shapes)
        self._fetch = fetch
        self._digests = tuple(digests)
        if not self._digests:
            raise CalibrationError(f"{source} holds no sample; give at least one (32 to 256 are usual)")
        if not any(np.prod(shape) for sample in self.shapes for shape in sample):
            raise CalibrationError(f"{source}: all {len(self)} samples are empty tensors")

    def __len__(self) -> int:
        return len(self._digests)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self._fetch(index % len(self))

    def __iter__(self) -> Iterator[Sample]:
        return (self._fetch(i) for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<{len(self)} samples of {self.signature.describe()} from {self.source}>"

    @property
    def content_hash(self) -> str:
        """sha256 (hex) over names, types, shapes and bytes of all samples in order."""
        total = hashlib.sha256("\0".join(self.names).encode())
        for digest in self._digests:
            total.update(digest)
        return total.hexdigest()

    def doubts(self) -> list[str]:
        """Sentences on what is rarely meant: ranges of such data would clip what the model meets in use."""
        found = []
        if len(self) > 1 and len(set(self._digests)) == 1:
            found.append(f"all {len(self)} samples of {self.source} are the same")
        for name, array in zip(self.names, self[0], strict=True):
            if array.dtype.kind == "f" and array.size > 1 and array.min() == array.max():
                found.append(f"input {name!r} is {array.flat[0]:g} everywhere in the first sample of {self.source}")
        return found

    def select(self, indices: Sequence[int], source: str | None = None) -> Samples:
        """Some of the samples, in the given order; nothing is copied."""
        chosen = list(indices)
        return Samples(
            self.signature,
            lambda i: self._fetch(chosen[i]),
            [self._digests[i] for i in chosen],
            [self.shapes[i] for i in chosen],
            source=source or f"{len(chosen)} samples of {self.source}",
            random=self.random,
        )

    def split(self, fraction: float = 0.25) -> Split:
        """Hold back the last `fraction` of the samples (at least one) for evaluation. Logged.

        The end is taken, not every n-th sample: neighbours are often crops of one photograph or pieces of one
        text, and those must not be on both sides. A single sample of several rows is cut along its batch axis
        where that is symbolic. A single row is used for both, with a warning and `disjoint=False`.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
        if len(self) == 1:
            return self._split_rows(fraction)
        held = min(len(self) - 1, max(1, round(len(self) * fraction)))
        keep = len(self) - held
        note = f"no evaluation data given: the last {held} of {len(self)} samples are held back for it"
        logger.info(note)
        return Split(
            self.select(range(keep), f"first {keep} samples of {self.source}"),
            self.select(range(keep, len(self)), f"last {held} samples of {self.source}"),
            True,
            note,
        )

    def _split_rows(self, fraction: float) -> Split:
        rows = self.shapes[0][0][0] if isinstance(self.signature.batch, str) else 1
        if rows < 2:
            note = (
                "no evaluation data given and only one calibration sample: accuracy is measured on the "
                "calibration data itself and may look better than it is"
            )
            logger.warning(note)
            return Split(self, self, False, note)
        keep = rows - min(rows - 1, max(1, round(rows * fraction)))
        note = f"no evaluation data given: the last {rows - keep} of {rows} rows are held back for it"
        logger.info(note)
        first, last = self._rows(0, keep), self._rows(keep, rows)
        return Split(first, last, True, note)

    def _rows(self, first: int, end: int) -> Samples:
        """Rows [first, end) of sample 0 as one sample."""

        def fetch(_: int) -> Sample:
            return tuple(array[first:end] for array in self._fetch(0))

        source = f"rows {first} to {end - 1} of {self.source}"
        return build(self.signature, fetch, 1, source=source, random=self.random)


def build(
    signature: Signature, fetch: Callable[[int], Sample], count: int, *, source: str, random: bool = False
) -> Samples:
    """`Samples` from a way to fetch them; reads (and so checks) every sample once."""
    digests, shapes = [], []
    for i in range(count):
        sample = fetch(i)
        digests.append(digest(sample))
        shapes.append(tuple(a.shape for a in sample))
    return Samples(signature, fetch, digests, shapes, source=source, random=random)


def digest(sample: Sample) -> bytes:
    """sha256 over type, shape and bytes of each array of a sample."""
    total = hashlib.sha256()
    for array in sample:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.digest()
