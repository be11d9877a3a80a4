"""Text generation with a compiled decoder (`qcompiler.frontend.decoder`) in plain NumPy: the cache and the loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.errors import UsageError

Run = Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]
"""(input_ids [1, new], past [seen, ...]) -> logits [1, 1, V], present [new, ...]."""
LINE = 64
"""Bytes to which the cache is aligned, so that no kernel needs a copy."""


class Cache:
    """Keys and values of up to `capacity` tokens in one block of memory; what was seen is its front, never copied."""

    def __init__(self, state_shape: Sequence[int], capacity: int) -> None:
        shape = (capacity, *state_shape)
        block = np.zeros(math.prod(shape) + LINE // 4, np.float32)
        first = -block.ctypes.data % LINE // 4
        self._memory = block[first : first + math.prod(shape)].reshape(shape)
        self.length = 0

    @property
    def past(self) -> np.ndarray:
        """What was seen so far, [seen, 2 layers, heads, size]."""
        return self._memory[: self.length]

    def append(self, present: np.ndarray) -> None:
        """Keep the state of new tokens.

        Raises:
            UsageError: it is full.
        """
        end = self.length + len(present)
        if end > len(self._memory):
            raise UsageError(f"the cache holds {len(self._memory)} tokens, {end} are needed: give a larger capacity")
        self._memory[self.length : end] = present
        self.length = end


@dataclass(frozen=True)
class Token:
    """A generated token and the seconds that it took; the first one's are those of the prompt."""

    id: int
    seconds: float


def generate(run: Run, prompt: Sequence[int], state_shape: Sequence[int], count: int, stop: int | None = None) -> Iterator[Token]:
    """Greedy decoding: at most `count` tokens, up to and without `stop`.

    Raises:
        UsageError: an empty prompt.
    """
    if not len(prompt):
        raise UsageError("the prompt has no token")
    cache = Cache(state_shape, len(prompt) + count)
    ids = np.asarray(prompt, np.int64)[None]
    for _ in range(count):
        start = time.perf_counter()
        logits, present = run(ids, cache.past)
        cache.append(present)
        token = int(np.argmax(logits[0, -1]))
        if token == stop:
            return
        yield Token(token, time.perf_counter() - start)
        ids = np.asarray([[token]], np.int64)
