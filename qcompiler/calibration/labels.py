"""Labels that come beside evaluation data: an array `labels`, one class per row of the first output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import CalibrationError

from .archive import open_npz

LABELS = "labels"


def split_labels(data: Any, names: Sequence[str]) -> tuple[Any, np.ndarray | None]:
    """The data without `labels`, and these as int64 [rows]; None where there are none.

    Labels are found in an `.npz` file and in a mapping (also one that `module.py:factory` returns). A model with
    an input of that name keeps it.

    Raises:
        CalibrationError: labels that are no whole numbers.
    """
    if LABELS in names:
        return data, None
    found = _mapping(data)
    if not isinstance(found, Mapping) or LABELS not in found:
        return found, None
    rest = {name: array for name, array in found.items() if name != LABELS}
    labels = np.asarray(found[LABELS])
    if labels.dtype.kind not in "iub":
        raise CalibrationError(f"labels are classes, whole numbers; got {labels.dtype.name} {list(labels.shape)}")
    return rest, labels.astype(np.int64).ravel()


def _mapping(data: Any) -> Any:
    """The arrays by name of an archive, what a factory returns, and anything else as it is."""
    if not isinstance(data, str | Path):
        return data
    from ..frontend.factory import load_callable, split_factory  # late: the frontend imports much

    place = split_factory(str(data))
    if place is not None:
        try:
            return load_callable(*place)()
        except Exception as error:
            raise CalibrationError(f"{data} raised {type(error).__name__}: {error}") from error
    return open_npz(str(data)) if str(data).endswith(".npz") else data
