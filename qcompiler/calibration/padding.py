"""Padding positions, which no statistic should see: they hold values that no real token has.

In a static W8A8 MiniLM, padding in the statistics costs 1.7 dB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from qcompiler.errors import CalibrationError, did_you_mean
from qcompiler.ir import Graph, Value
from qcompiler.ir.dims import is_symbolic, same

AUTO_NAME = "attention_mask"


class TokenMask:
    """An input [batch, sequence] whose zeros mark padding."""

    def __init__(self, graph: Graph, index: int) -> None:
        self.input = graph.inputs[index]
        self._index = index
        self._axes: dict[Value, tuple[int, int] | None] = {}
        self.padded = 0
        self.tokens = 0

    def keep(self, inputs: Sequence[np.ndarray]) -> torch.Tensor | None:
        """The mask [batch, sequence], bool, True for real tokens; None if nothing is padded."""
        mask = torch.from_numpy(inputs[self._index] != 0)
        self.tokens += mask.numel()
        padded = mask.numel() - int(mask.sum())
        self.padded += padded
        return mask if padded else None

    def axes(self, value: Value, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Which axes of a value are (batch, sequence); None if it has none. `shape` is that of the tensor."""
        if value not in self._axes:
            self._axes[value] = (
                token_axes(value.shape, self.input.shape) if len(shape) == len(value.shape) else None
            )
        return self._axes[value]

    def note(self) -> str:
        """One line for the report."""
        used = sum(1 for axes in self._axes.values() if axes)
        if not self.padded:
            return f"input {self.input.name!r} marks no padding in the {self.tokens} calibration tokens"
        return (
            f"{self.padded} of {self.tokens} positions are padding by {self.input.name!r} and were left "
            f"out of the statistics of {used} values ({len(self._axes) - used} values have no token axes)"
        )


def token_axes(shape: Sequence[Any], mask: Sequence[Any]) -> tuple[int, int] | None:
    """(batch axis, sequence axis) of a value of symbolic `shape` for a mask [batch, sequence].

    The two leading axes where they equal the mask's (fixed sizes: and there are more axes, because [2, 384]
    may as well be pooled features). Otherwise, as in attention heads [batch, heads, sequence, width], axis 0
    and the first axis with the sequence's symbol; fixed sizes must leave no doubt.
    """
    if len(shape) < 2 or not same(shape[0], mask[0]):
        return None
    symbolic = is_symbolic(mask[1])
    if same(shape[1], mask[1]):
        return (0, 1) if symbolic or len(shape) > 2 else None
    found = [i for i in range(2, len(shape)) if same(shape[i], mask[1])]
    return (0, found[0]) if found and (symbolic or len(found) == 1) else None


def find_token_mask(graph: Graph, name: str | None) -> TokenMask | None:
    """The mask called `name`; "auto" looks for an integer or bool input `attention_mask` of rank 2.

    Raises:
        CalibrationError: no such input, or not an integer or bool input of rank 2.
    """
    if name is None:
        return None
    wanted = AUTO_NAME if name == "auto" else name
    names = [v.name for v in graph.inputs]
    fits = [len(v.shape) == 2 and not v.dtype.is_float for v in graph.inputs]
    if wanted in names and fits[names.index(wanted)]:
        return TokenMask(graph, names.index(wanted))
    if name == "auto":
        return None
    if name not in names:
        raise CalibrationError(
            f"no input {name!r} for token_mask.{did_you_mean(name, names)} Inputs: {', '.join(names)}."
        )
    value = graph.inputs[names.index(name)]
    raise CalibrationError(
        f"token_mask {name!r} is {value!r}; it must be integers or bool of shape [batch, sequence]"
    )
