"""The flat form of inputs and outputs: elements in the order of the streams, int32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from qcompiler.targets.fpga_hls.dataflow import Terminal


def flatten(terminals: Iterable[Terminal], arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The flat form of arrays in the model's own shapes."""
    parts = [a.transpose(t.order).ravel().astype(np.int32) for t, a in zip(terminals, arrays, strict=True)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def unflatten(terminals: Iterable[Terminal], flat: np.ndarray) -> list[np.ndarray]:
    """The arrays, in the model's shapes and types, of a flat form."""
    result, offset = [], 0
    for t in terminals:
        size = int(np.prod(t.shape))
        array = flat[offset : offset + size].reshape([t.shape[a] for a in t.order]).transpose(np.argsort(t.order))
        result.append(np.ascontiguousarray(array).astype(t.dtype.numpy))
        offset += size
    return result
