"""All accepted forms of calibration and evaluation data, and how each becomes `Samples`.

| form | read | held |
|---|---|---|
| list or tuple of samples | by index | by the caller |
| one array or tensor, mapping name -> array | rows by index | by the caller |
| `.npy`, `.npz` | rows by index | mapped from disk (compressed: from a temporary file) |
| DataLoader, any other iterable, ONNX Runtime CalibrationDataReader | once | in a temporary file |
| `module.py:factory` | whatever it returns | |

A sample is one whole input of the model, batch axis included.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qcompiler.errors import CalibrationError
from qcompiler.ir import DType, Graph, Value

from .archive import open_npy, open_npz
from .samples import Samples, build, digest
from .signature import Sample, Signature, is_array, to_numpy
from .store import Spool

logger = logging.getLogger(__name__)

FORMS = (
    "a list or any iterable of inputs (tuple, list or dict of arrays or tensors, or one tensor), a "
    "DataLoader, a dict of arrays whose first axis is samples, an .npz path, an ONNX Runtime "
    "CalibrationDataReader, or 'module.py:factory'"
)


@dataclass(frozen=True)
class RandomData:
    """Random numbers in place of data: normal floats, integers 0 and 1. Only with `allow_random=True`.

    dims: sizes of symbolic dimensions by name; others are 1 for the batch and 16 else.
    """

    count: int = 32
    seed: int = 0
    dims: Mapping[str, int] = field(default_factory=dict)


def load_samples(
    data: Any, graph: Graph | Sequence[Value] | Signature, *, allow_random: bool = False, limit: int | None = None
) -> Samples:
    """`data` in any form of the table above, checked against the inputs of `graph` (or these values, this signature).

    limit: use at most this many samples.

    Raises:
        CalibrationError: form, names, types, shapes or values are wrong, the data is empty or random.
    """
    if limit is not None and limit < 1:
        raise CalibrationError(f"limit must be at least 1, got {limit}")
    signature = graph if isinstance(graph, Signature) else Signature(graph.inputs if isinstance(graph, Graph) else graph)
    samples = _load(data, signature, allow_random, limit)
    return samples if limit is None or len(samples) <= limit else samples.select(range(limit))


def _load(data: Any, signature: Signature, allow_random: bool, limit: int | None) -> Samples:
    if isinstance(data, RandomData):
        return _random(data, signature, allow_random)
    if isinstance(data, Samples):
        return _adopt(data, signature)
    if isinstance(data, str | Path):
        return _from_path(str(data), signature, allow_random, limit)
    if is_array(data):
        if len(signature.inputs) != 1:
            raise CalibrationError(
                f"one array was given, the model takes {len(signature.inputs)} inputs "
                f"({signature.describe()}); give a dict with one array per input, first axis samples"
            )
        return _rows({signature.names[0]: data}, signature, "an array", limit)
    if isinstance(data, Mapping):
        return _rows(data, signature, f"a {type(data).__name__}", limit)
    if isinstance(data, list | tuple):
        return _from_list(data if limit is None else data[:limit], signature)
    return _spooled(_items(data), signature, type(data).__name__, limit)


def _from_path(path: str, signature: Signature, allow_random: bool, limit: int | None) -> Samples:
    from ..frontend.factory import load_callable, split_factory  # late: the frontend imports much

    factory = split_factory(path)
    if factory is not None:
        return _load(_call(load_callable(*factory), path), signature, allow_random, limit)
    if path.endswith(".npz"):
        arrays = open_npz(path)
    elif path.endswith(".npy"):
        arrays = {signature.names[0]: open_npy(path)}
    else:
        raise CalibrationError(f"cannot read calibration data from {path!r}; it must be {FORMS}")
    return _rows(arrays, signature, path, limit)


def _call(factory: Callable[[], Any], name: str) -> Any:
    try:
        return factory()
    except Exception as error:
        raise CalibrationError(f"{name} raised {type(error).__name__}: {error}") from error


def _items(data: Any) -> Iterator[Any]:
    """The items of any source that is read once, in order."""
    if hasattr(data, "get_next"):
        return _reader_items(data)
    if isinstance(data, torch.utils.data.DataLoader):
        return (_without_labels(batch) for batch in data)
    if isinstance(data, Iterable):
        return iter(data)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return (data[i] for i in range(len(data)))
    hint = " It is a function: call it and pass what it returns." if callable(data) else ""
    raise CalibrationError(
        f"calibration data of type {type(data).__name__} is not understood.{hint} Pass {FORMS}."
    )


def _reader_items(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "rewind"):
        reader.rewind()
    while (item := reader.get_next()) is not None:
        yield item
    if hasattr(reader, "rewind"):
        reader.rewind()  # leave it as it was, the caller may use it again


def _without_labels(batch: Any) -> Any:
    """(inputs, labels), where inputs is itself a collection: the usual form of a DataLoader's batch."""
    nested = (
        isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[0], Mapping | tuple | list)
    )
    return batch[0] if nested else batch


def _spooled(items: Iterator[Any], signature: Signature, kind: str, limit: int | None) -> Samples:
    spool, digests, shapes = Spool(), [], []
    labels_told = False
    for index, item in enumerate(_guarded(items, kind)):
        if (
            kind.endswith("DataLoader")
            and isinstance(item, tuple | list)
            and len(item) == len(signature.inputs) + 1
        ):
            if not labels_told:
                logger.warning(
                    "calibration data: left out the last tensor of each batch (labels), not an input"
                )
            labels_told, item = True, item[:-1]
        for sample in _pieces(item, signature, index):
            spool.append(sample)
            digests.append(digest(sample))
            shapes.append(tuple(a.shape for a in sample))
        if limit is not None and len(spool) >= limit:
            break
    logger.info(
        "calibration data: %d samples (%.1f MB) of %s kept in a temporary file",
        len(spool),
        spool.bytes / 1e6,
        kind,
    )
    return Samples(signature, spool.__getitem__, digests, shapes, source=f"a {kind}")


def _guarded(items: Iterator[Any], kind: str) -> Iterator[Any]:
    index = 0
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except CalibrationError:
            raise
        except Exception as error:
            raise CalibrationError(
                f"reading sample {index} of the {kind} raised {type(error).__name__}: {error}"
            ) from error
        yield item
        index += 1


def _from_list(data: Sequence[Any], signature: Signature) -> Samples:
    places: list[tuple[int, int]] = []
    for index, item in enumerate(data):
        if is_array(item) and len(signature.inputs) > 1 and len(data) == len(signature.inputs):
            raise CalibrationError(
                f"calibration item {index} is one array, the model takes {len(signature.inputs)} "
                f"inputs ({signature.describe()}). If these are one sample, pass `[sample]`."
            )
        places += [(index, part) for part in range(_piece_count(item, signature, index))]

    def fetch(i: int) -> Sample:
        index, part = places[i]
        return signature.sample(_cut(data[index], signature, index, part), index)

    return build(signature, fetch, len(places), source=f"a {type(data).__name__}")


def _pieces(item: Any, signature: Signature, index: int) -> Iterator[Sample]:
    for part in range(_piece_count(item, signature, index)):
        yield signature.sample(_cut(item, signature, index, part), index)


def _piece_count(item: Any, signature: Signature, index: int) -> int:
    """How many inputs of the model's fixed batch size an item holds: 1 unless it is a larger batch."""
    batch = signature.batch
    if not isinstance(batch, int) or batch < 1:
        return 1
    rows = {np.shape(e)[0] if np.ndim(e) else None for e in map(_shaped, signature.entries(item, index))}
    size = rows.pop() if len(rows) == 1 else None
    return size // batch if size and size > batch and size % batch == 0 else 1


def _cut(item: Any, signature: Signature, index: int, part: int) -> Any:
    if _piece_count(item, signature, index) == 1:
        return item
    batch = int(signature.batch or 1)
    return [_shaped(e)[part * batch : (part + 1) * batch] for e in signature.entries(item, index)]


def _shaped(entry: Any) -> Any:
    return entry if hasattr(entry, "shape") else np.asarray(entry)


def _rows(arrays: Mapping[str, Any], signature: Signature, source: str, limit: int | None) -> Samples:
    """Samples along the first axis of one array per input."""
    entries = signature.entries(arrays, 0)
    takes: list[Callable[[int], Any]] = []
    counts: dict[str, int] = {}
    for value, entry in zip(signature.inputs, entries, strict=True):
        array = entry if is_array(entry) else to_numpy(entry, f"input {value.name!r}")
        rank, size = len(array.shape), array.shape[0] if array.shape else 0
        if rank == len(value.shape) + 1:
            takes.append(partial(_at, array))
            counts[value.name] = size
        elif rank == len(value.shape) and rank:
            batch = value.shape[0] if isinstance(value.shape[0], int) else 1
            takes.append(partial(_batch, array, batch))
            counts[value.name] = size // batch if batch else 0
            if batch and size % batch:
                logger.warning(
                    "calibration data: the last %d of %d rows of %r do not fill a batch of %d: left out",
                    size % batch,
                    size,
                    value.name,
                    batch,
                )
        else:
            raise CalibrationError(
                f"{source}, input {value.name!r}: shape {tuple(array.shape)}, but the model takes "
                f"[{', '.join(map(str, value.shape))}]; the first axis must be samples, the rest one input"
            )
    if len(set(counts.values())) > 1:
        raise CalibrationError(f"{source}: the inputs have different numbers of samples: {counts}")

    def fetch(i: int) -> Sample:
        return signature.sample([take(i) for take in takes], i)

    count = next(iter(counts.values()))
    return build(signature, fetch, count if limit is None else min(count, limit), source=source)


def _at(array: Any, index: int) -> Any:
    return array[index]


def _batch(array: Any, size: int, index: int) -> Any:
    return array[index * size : (index + 1) * size]


def _adopt(samples: Samples, signature: Signature) -> Samples:
    """Samples made for another graph with the same inputs."""
    if samples.signature is signature or samples.names == signature.names:
        return build(
            signature,
            lambda i: signature.sample(samples[i], i),
            len(samples),
            source=samples.source,
            random=samples.random,
        )
    raise CalibrationError(f"the samples are for inputs {samples.names}, the model takes {signature.names}")


def _random(data: RandomData, signature: Signature, allowed: bool) -> Samples:
    if not allowed:
        raise CalibrationError(
            "random calibration data gives ranges that have nothing to do with real inputs. Pass "
            "real samples, or `--allow-random-calibration` (allow_random=True) to test the tool chain."
        )
    shapes = signature.default_shapes(data.dims, 16)

    def fetch(i: int) -> Sample:
        generator = np.random.default_rng([data.seed, i])
        return tuple(
            np.asarray(generator.normal(size=s), np.float64).astype(v.dtype.numpy)
            if v.dtype.is_float
            else generator.integers(0, 2, s).astype(bool if v.dtype is DType.bool else v.dtype.numpy)
            for v, s in zip(signature.inputs, shapes, strict=True)
        )

    return build(signature, fetch, data.count, source=f"random numbers, seed {data.seed}", random=True)
