"""One calibration sample made to fit the inputs of a graph: names, types, shapes, finite values."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from qcompiler.errors import CalibrationError, did_you_mean
from qcompiler.ir import DType, Value
from qcompiler.ir.dims import bind, evaluate, is_symbolic, symbols_of

from .arguments import by_path, in_order

logger = logging.getLogger(__name__)

Sample: TypeAlias = tuple[np.ndarray, ...]


class Signature:
    """What a graph takes: makes a tuple of arrays of any form of one sample, or says what is wrong."""

    def __init__(self, inputs: Sequence[Value], ranges: Mapping[str, tuple[int, int | None]] | None = None) -> None:
        """`ranges`: least and largest size of symbolic dimensions that have limits."""
        self.inputs = tuple(inputs)
        self.ranges = dict(ranges or {})
        self.names = tuple(v.name for v in self.inputs)
        self._told: set[tuple[str, ...]] = set()
        if not self.inputs:
            raise CalibrationError("the model has no inputs, so there is nothing to calibrate")

    @property
    def batch(self) -> int | str | None:
        """Axis 0 of all inputs: its fixed size, the name of its symbol, or None if inputs differ in it."""
        first = {str(v.shape[0]) if v.shape else None for v in self.inputs}
        if len(first) != 1 or None in first:
            return None
        dim = self.inputs[0].shape[0]
        if not is_symbolic(dim):
            return int(dim)
        return str(dim) if dim.is_Symbol else None

    def describe(self) -> str:
        """`name: dtype[shape]` of every input, for messages."""
        return ", ".join(f"{v.name}: {_type(v)}" for v in self.inputs)

    def sample(self, item: Any, index: int) -> Sample:
        """The sample as C-contiguous writable arrays in the order, and of the types, of the inputs.

        item: one tensor or array (one input), a tuple or list in input order, a mapping by input name, or nested
            arguments as the model's forward takes them.
        index: of the sample, for messages.

        Raises:
            CalibrationError: names, number, type, rank, shape or values do not fit.
        """
        entries = self.entries(item, index)
        arrays = [
            self._cast(to_numpy(e, f"sample {index}, input {v.name!r}"), v, index)
            for e, v in zip(entries, self.inputs, strict=True)
        ]
        self._check_shapes(arrays, index)
        for array, value in zip(arrays, self.inputs, strict=True):
            _check_finite(array, value.name, index)
        return tuple(arrays)

    def entries(self, item: Any, index: int) -> list[Any]:
        """The parts of an item in input order, types untouched."""
        if isinstance(item, Mapping):
            nested = None
            if not set(self.names) <= set(item):
                nested = by_path(item, self.names)
                if nested is None and (alone := in_order([item], self.names)) is not None:
                    return alone
            return self._named(item if nested is None else nested, index)
        parts = list(item) if isinstance(item, tuple | list) else [item]
        if len(parts) != len(self.inputs) or any(isinstance(p, tuple | list | Mapping) or p is None for p in parts):
            nested_parts = in_order(parts, self.names)
            parts = _flatten(item) if nested_parts is None else nested_parts
        if len(parts) != len(self.inputs):
            raise CalibrationError(
                f"sample {index} has {len(parts)} tensor(s), the model takes {len(self.inputs)} "
                f"({self.describe()}). Give a tuple with one tensor per input, or a dict by input name, or what the"
                " model's forward takes. Numbers and flags among its arguments are part of the program: leave them out."
            )
        return parts

    def _named(self, item: Mapping[str, Any], index: int) -> list[Any]:
        positional = [f"arr_{i}" for i in range(len(self.inputs))]
        keys = self.names
        if not set(keys) <= set(item) and set(positional) == set(item):
            keys = tuple(positional)
        missing = [k for k in keys if k not in item]
        extra = tuple(str(k) for k in item if k not in keys)
        if missing:
            hints = "".join(did_you_mean(name, extra) for name in missing[:1])
            raise CalibrationError(
                f"sample {index} lacks input(s) {', '.join(missing)}.{hints} "
                f"The model takes: {self.describe()}; it has: {', '.join(map(str, item)) or 'nothing'}."
            )
        if extra and extra not in self._told:
            self._told.add(extra)
            logger.warning("calibration data: left out %s, which the model does not take", ", ".join(extra))
        return [item[k] for k in keys]

    def _cast(self, array: np.ndarray, value: Value, index: int) -> np.ndarray:
        wanted = value.dtype.numpy
        if array.dtype != wanted:
            _check_cast(array, value, f"sample {index}, input {value.name!r}")
        return np.require(array, wanted, ["C_CONTIGUOUS", "WRITEABLE", "ALIGNED"])

    def _check_shapes(self, arrays: Sequence[np.ndarray], index: int) -> None:
        bindings: dict[str, int] = {}
        for array, value in zip(arrays, self.inputs, strict=True):
            before = dict(bindings)
            if bind(value.shape, array.shape, bindings):
                continue
            text = (
                f"sample {index}, input {value.name!r}: shape {array.shape}, the model takes {_type(value)}"
            )
            known = {k: v for k, v in before.items() if k in symbols_of(value.shape)}
            if known:
                text += f" where earlier inputs gave {', '.join(f'{k}={v}' for k, v in known.items())}"
            if array.ndim == len(value.shape) - 1:
                text += ". One axis is missing: a sample is a whole input, so add the batch axis (`x[None]`)"
            elif array.ndim == len(value.shape) + 1:
                text += ". There is one axis too many: yield the samples one by one"
            raise CalibrationError(text + ".")
        for name, (low, high) in self.ranges.items():
            size = bindings.get(name, low)
            if size < low or (high is not None and size > high):
                limits = f"at least {low}" if high is None else f"{low} to {high}"
                raise CalibrationError(
                    f"sample {index}: dimension {name!r} is {size}, the program was compiled for {limits} ({self.describe()}). "
                    "Give other inputs, or compile with wider dynamic_shapes."
                )

    def default_shapes(self, sizes: Mapping[str, int], other: int) -> list[tuple[int, ...]]:
        """A concrete shape per input: symbols as in `sizes`, else 1 for the batch and `other` else."""
        names = {s for v in self.inputs for s in symbols_of(v.shape)}
        unknown = sorted(set(sizes) - names)
        if unknown:
            raise CalibrationError(
                f"no dimension {unknown[0]!r}.{did_you_mean(unknown[0], names)} "
                f"The model has: {', '.join(sorted(names)) or 'only fixed ones'}."
            )
        bindings = {n: sizes.get(n, self._within(n, 1 if n == self.batch else other)) for n in names}
        return [tuple(evaluate(d, bindings) for d in v.shape) for v in self.inputs]

    def _within(self, name: str, size: int) -> int:
        """The size, or the nearest that the dimension may have."""
        low, high = self.ranges.get(name, (size, size))
        return max(low, size if high is None else min(size, high))


def to_numpy(data: Any, where: str) -> np.ndarray:
    """A tensor, array, number or nested list as an array. bfloat16 tensors become float32 (exact)."""
    if isinstance(data, torch.Tensor):
        tensor = data.detach().cpu()
        if tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        return (
            (tensor.float() if tensor.dtype is torch.bfloat16 else tensor)
            .resolve_neg()
            .resolve_conj()
            .numpy()
        )
    try:
        array = np.asarray(data)
    except (ValueError, TypeError) as error:
        raise CalibrationError(f"{where}: {type(data).__name__} is not an array ({error})") from None
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise CalibrationError(
            f"{where}: expected a tensor or array of numbers, got {type(data).__name__}"
            + (f" of {array.dtype}" if isinstance(data, np.ndarray) else "")
        )
    return array


def is_array(data: Any) -> bool:
    """True for one tensor or array (anything that says it is one)."""
    return isinstance(data, torch.Tensor | np.ndarray | np.generic) or (
        hasattr(data, "__array__") and hasattr(data, "shape")
    )


def _flatten(item: Any) -> list[Any]:
    if isinstance(item, tuple | list) and any(is_array(x) or isinstance(x, tuple | list) for x in item):
        return [leaf for part in item for leaf in _flatten(part)]
    return [item]


def _check_cast(array: np.ndarray, value: Value, where: str) -> None:
    """Allow only what loses nothing that matters: ints that fit, and rounding float64 to float32."""
    wanted = value.dtype
    got = "b" if array.dtype == bool else ("f" if array.dtype.kind in "fV" else "i")
    if wanted.is_float and got == "f":
        if wanted is DType.float32 or _survives(array, wanted.numpy):
            return
        remedy = f"cast it yourself if the loss is meant: `x.astype({wanted.name!r})`"
    elif wanted.is_float:
        remedy = "scale and cast it as the model was trained (`x.astype('float32') / 255` or similar)"
    elif got == "f":
        remedy = "the model takes integers here; are the inputs in another order?"
    else:
        low, high = (0, 1) if wanted is DType.bool else (wanted.min, wanted.max)
        if not array.size or (low <= int(array.min()) and int(array.max()) <= high):
            return
        remedy = f"values from {int(array.min())} to {int(array.max())} do not fit"
    raise CalibrationError(f"{where}: dtype {array.dtype}, the model takes {wanted.name}; {remedy}.")


def _survives(array: np.ndarray, dtype: np.dtype) -> bool:
    with np.errstate(over="ignore"):
        return bool((array.astype(dtype).astype(array.dtype) == array).all())


def _check_finite(array: np.ndarray, name: str, index: int) -> None:
    if array.dtype.kind in "iub" or not array.size:
        return
    # min and max propagate NaN, so two cheap reductions decide; arrays are only built for the message.
    if np.isfinite(array.min()) and np.isfinite(array.max()):
        return
    nans, infs = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    raise CalibrationError(
        f"input {name!r}: {nans} NaN and {infs} Inf values in sample {index} of the calibration data. "
        "Remove or repair the sample; a float mask should hold a large finite number instead of -inf."
    )


def _type(value: Value) -> str:
    return f"{value.dtype.name}[{', '.join(str(d) for d in value.shape)}]"
