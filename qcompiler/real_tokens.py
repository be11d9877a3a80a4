"""Leave padding out of what is compared: its outputs mean nothing, and calibration does not see it either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Value


class RealTokens:
    """Selects the positions of real tokens where a graph takes an `attention_mask`; everything elsewhere."""

    def __init__(self, graph: Graph) -> None:
        from qcompiler.calibration.padding import find_token_mask

        self._outputs = graph.outputs
        self._mask = find_token_mask(graph, "auto")
        self._keep: np.ndarray | None = None

    def of_sample(self, arrays: Sequence[np.ndarray]) -> None:
        """Look at the mask of the next sample."""
        keep = None if self._mask is None else self._mask.keep(arrays)
        self._keep = None if keep is None else np.asarray(keep)

    @property
    def keep(self) -> np.ndarray | None:
        """bool [batch, tokens] of the sample looked at, True for real tokens; None where all are."""
        return self._keep

    def select(self, value: Value, array: np.ndarray) -> np.ndarray:
        """Rows of real tokens, [tokens, ...]; the array itself without padding or without token axes."""
        if self._mask is None or self._keep is None:
            return array
        axes = self._mask.axes(value, array.shape)
        if axes is None or tuple(array.shape[a] for a in axes) != self._keep.shape:
            return array
        return np.moveaxis(array, axes, (0, 1))[self._keep]

    def outputs(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`select` on every output of the graph."""
        return [self.select(value, array) for value, array in zip(self._outputs, arrays, strict=True)]
