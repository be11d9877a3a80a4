"""Searches in other processes: an evaluator as bytes, with everything that it has computed so far.

Graphs, tables over their values, statistics and codes are pickled together, so that what is one object here is one
object there. What cannot be pickled is rebuilt from what defines it: samples from their arrays, executors when they
are first asked for.
"""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path
from types import FunctionType, MappingProxyType
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.frontend.factory import USER_MODULE


class _Pickler(pickle.Pickler):
    def reducer_override(self, item: Any) -> Any:
        from qcompiler.calibration import Samples
        from qcompiler.targets import Target, known_targets

        if isinstance(item, MappingProxyType):
            return _view, (dict(item),)
        if isinstance(item, Samples):
            return _samples, (item.signature, list(item), item.source, item.random)
        if isinstance(item, Target) and item.name.partition(":")[0] in known_targets():
            return _target, (item.name,)
        if isinstance(item, FunctionType) and item.__module__.startswith(USER_MODULE):
            return _function, (sys.modules[item.__module__].__file__, item.__qualname__)
        return NotImplemented


def _view(table: dict[Any, Any]) -> Any:
    return MappingProxyType(table)  # the type itself has no name that pickle finds


def _function(path: str, name: str) -> Any:
    from qcompiler.frontend.factory import load_callable

    return load_callable(Path(path), name)  # of the user's file, which no other process has imported


def _samples(signature: Any, arrays: Any, source: str, random: bool) -> Any:
    from qcompiler.calibration.samples import build

    return build(signature, arrays.__getitem__, len(arrays), source=source, random=random)


def _target(name: str) -> Any:
    from qcompiler.targets import get_target

    return get_target(name)


def pack(evaluator: Any) -> bytes:
    """For another process.

    Raises:
        UsageError: the metric is a function that cannot be pickled.
    """
    out = io.BytesIO()
    try:
        _Pickler(out, pickle.HIGHEST_PROTOCOL).dump(evaluator)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"workers need a copy of the search, and this cannot be copied: {error}. A metric must be a function of a "
            "module; or run without --workers"
        ) from error
    return out.getvalue()


def unpack(packed: bytes) -> Any:
    """The inverse of `pack`. Only for bytes that this program made: pickles execute code."""
    return pickle.loads(packed)
