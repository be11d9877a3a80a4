"""Where buffers lie: constants one after the other in a file, everything else in one arena, by lifetimes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.kernels.gpu.launch import ALIGNMENT, Buffer
from qcompiler.targets.cuda.lower import Program


class Constants:
    """The file of constants; equal ones share their bytes, also those of several plans.

    Attributes:
        offsets: of the buffers.
        size: bytes.
    """

    def __init__(self) -> None:
        self.offsets: dict[Buffer, int] = {}
        self.size = 0
        self._stored: dict[tuple[str, bytes], int] = {}

    def add(self, buffer: Buffer) -> None:
        """Give a buffer its place."""
        if buffer in self.offsets:
            return
        assert buffer.data is not None
        data = buffer.data
        key = (str(data.dtype), hashlib.sha256(data.tobytes()).digest())
        if key not in self._stored:
            self._stored[key] = self.size
            self.size += _aligned(buffer.size)
        self.offsets[buffer] = self._stored[key]

    def image(self) -> np.ndarray:
        """The constants as they lie in device memory."""
        image = np.zeros(self.size, np.uint8)
        for buffer, offset in self.offsets.items():
            assert buffer.data is not None
            image[offset : offset + buffer.size] = buffer.data.reshape(-1).view(np.uint8)
        return image


@dataclass(frozen=True)
class Memory:
    """Offsets of all buffers of a program.

    Attributes:
        arena: of buffers that are given or computed.
        arena_size: bytes.
        constants: of this program and others of the artefact.
    """

    arena: dict[Buffer, int]
    arena_size: int
    constants: Constants


def plan_memory(program: Program, constants: Constants | None = None) -> Memory:
    """Lay out all buffers that launches use.

    Inputs live from the start and outputs to the end. Buffers are placed from the largest to the smallest, each at the
    lowest place that is free for as long as it lives.
    """
    constants = constants or Constants()
    last = len(program.steps)
    spans: dict[Buffer, list[int]] = {view.buffer: [-1, -1] for view in program.inputs}
    for index, step in enumerate(program.steps):
        for pointer in step.launch.pointers:
            buffer = pointer.buffer
            if buffer.data is None:
                spans.setdefault(buffer, [index, index])[1] = index
            else:
                constants.add(buffer)
    for view in program.outputs:
        spans.setdefault(view.buffer, [-1, last])[1] = last
    arena = _place({buffer: (first, final) for buffer, (first, final) in spans.items()})
    size = max((offset + _aligned(buffer.size) for buffer, offset in arena.items()), default=0)
    return Memory(arena, size, constants)


def _place(spans: dict[Buffer, tuple[int, int]]) -> dict[Buffer, int]:
    placed: dict[Buffer, int] = {}
    order: Sequence[Buffer] = sorted(spans, key=lambda b: (-b.size, spans[b], b.name))
    for buffer in order:
        first, final = spans[buffer]
        taken = sorted(
            (offset, offset + _aligned(other.size))
            for other, offset in placed.items()
            if spans[other][0] <= final and first <= spans[other][1]
        )
        at = 0
        for low, high in taken:
            if low - at >= buffer.size:
                break
            at = max(at, high)
        placed[buffer] = at
    return placed


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
