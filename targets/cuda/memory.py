"""Where buffers lie: constants one after the other in a file, everything else in one arena, by lifetimes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.kernels.gpu.launch import ALIGNMENT, Buffer
from qcompiler.targets.cuda.lower import Program


@dataclass(frozen=True)
class Memory:
    """Offsets of all buffers.

    Attributes:
        arena: of buffers that are given or computed.
        weights: of constants.
        arena_size, weights_size: bytes.
    """

    arena: dict[Buffer, int]
    weights: dict[Buffer, int]
    arena_size: int
    weights_size: int

    def image(self) -> np.ndarray:
        """The constants as they lie in device memory."""
        image = np.zeros(self.weights_size, np.uint8)
        for buffer, offset in self.weights.items():
            assert buffer.data is not None
            image[offset : offset + buffer.size] = buffer.data.reshape(-1).view(np.uint8)
        return image


def plan_memory(program: Program) -> Memory:
    """Lay out all buffers that launches use.

    Inputs live from the start and outputs to the end. Buffers are placed from the largest to the smallest, each at the
    lowest place that is free for as long as it lives. Equal constants share their bytes.
    """
    last = len(program.steps)
    spans: dict[Buffer, list[int]] = {view.buffer: [-1, -1] for view in program.inputs}
    weights: dict[Buffer, int] = {}
    stored: dict[tuple[str, bytes], int] = {}
    end = 0
    for index, step in enumerate(program.steps):
        for pointer in step.launch.pointers:
            buffer = pointer.buffer
            if buffer.data is None:
                spans.setdefault(buffer, [index, index])[1] = index
            elif buffer not in weights:
                key = (str(buffer.data.dtype), buffer.data.tobytes())
                if key not in stored:
                    stored[key] = end
                    end += _aligned(buffer.size)
                weights[buffer] = stored[key]
    for view in program.outputs:
        spans.setdefault(view.buffer, [-1, last])[1] = last
    arena = _place({buffer: (first, final) for buffer, (first, final) in spans.items()})
    size = max((offset + _aligned(buffer.size) for buffer, offset in arena.items()), default=0)
    return Memory(arena, weights, size, end)


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
