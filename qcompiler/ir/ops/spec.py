"""What a row of the op table holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import GraphError, did_you_mean
from ..dims import Shape, normalize, same
from ..dtypes import DType
from ..graph import Node, Value
from ..quant import QuantParams

REQUIRED = object()

# Attribute kinds: how a value is checked, printed and parsed.
KINDS = ("int", "float", "bool", "str", "dtype", "dim", "ints", "floats", "dims", "quant")


@dataclass(frozen=True)
class AttrSpec:
    """An attribute: name, kind (one of `KINDS`) and default (`REQUIRED` if it must be given).

    `None` is a legal value only where the default is None.
    """

    name: str
    kind: str
    default: Any = REQUIRED


@dataclass(frozen=True)
class TensorType:
    """Type of one output, as an op's shape rule gives it."""

    dtype: DType
    shape: Shape
    quant: QuantParams | None = None


@dataclass(frozen=True)
class RunContext:
    """What a reference body may look at besides the operand arrays.

    Attributes:
        node: the node, for the quantization parameters of its inputs and outputs.
        attrs: its attributes with symbolic dimensions replaced by integers.
        float64: the graph is being run in float64, whatever its float types say.
    """

    node: Node
    attrs: Mapping[str, Any]
    float64: bool = False


Infer = Callable[[Sequence[Any], Mapping[str, Any]], "list[TensorType]"]
Reference = Callable[..., "np.ndarray | tuple[np.ndarray, ...]"]


@dataclass(frozen=True)
class Op:
    """One row of the op table.

    Attributes:
        name: of the op.
        operands: names in order; a trailing `?` marks an optional operand, a trailing `*` on the last one a
            variadic tail.
        attrs: attributes in order.
        infer: (operands, attributes) -> output types; raises GraphError with the reason.
        reference: NumPy body: (RunContext, *operand arrays or None) -> array or tuple of arrays.
        doc: formula, shapes.
        category: `elementwise`, `movement`, `reduce`, `linear`, `norm`, `attention`, `pool`, `create`,
            `quantized`, `integer`. Data movement keeps codes and quantization parameters.
    """

    name: str
    operands: tuple[str, ...]
    attrs: tuple[AttrSpec, ...]
    infer: Infer
    reference: Reference
    doc: str
    category: str

    def check(
        self, inputs: tuple[Value | None, ...], attrs: dict[str, Any]
    ) -> tuple[tuple[Value | None, ...], dict[str, Any]]:
        """Operands padded with None and attributes completed with defaults, in table order.

        Raises:
            GraphError: too few or many operands, unknown, missing or ill-typed attributes.
        """
        variadic = bool(self.operands) and self.operands[-1].endswith("*")
        fixed = self.operands[:-1] if variadic else self.operands
        if not variadic and len(inputs) > len(fixed):
            raise GraphError(f"takes {len(fixed)} operands ({', '.join(fixed)}), got {len(inputs)}")
        inputs = inputs + (None,) * (len(fixed) - len(inputs))
        for name, value in zip(fixed, inputs, strict=False):
            if value is None and not name.endswith("?"):
                raise GraphError(f"operand {name!r} is missing")
        known = {a.name: a for a in self.attrs}
        for name in attrs:
            if name not in known:
                raise GraphError(
                    f"no attribute {name!r}; known: {', '.join(known) or 'none'}.{did_you_mean(name, known)}"
                )
        full = {}
        for spec in self.attrs:
            value = attrs.get(spec.name, spec.default)
            if value is REQUIRED:
                raise GraphError(f"attribute {spec.name!r} is missing")
            full[spec.name] = value if value is None else _checked(spec, value)
            if value is None and spec.default is not None:
                raise GraphError(f"attribute {spec.name!r} must not be None")
        return inputs, full


def _checked(spec: AttrSpec, value: Any) -> Any:
    kind = spec.kind
    try:
        if kind == "int":
            return _int(value)
        if kind == "float":
            return float(value)
        if kind == "bool":
            return bool(value)
        if kind == "dim":
            return normalize(value)
        if kind == "ints":
            return tuple(_int(v) for v in value)
        if kind == "floats":
            return tuple(float(v) for v in value)
        if kind == "dims":
            return tuple(normalize(v) for v in value)
    except (TypeError, ValueError) as error:
        raise GraphError(f"attribute {spec.name!r} must be {kind}, got {value!r}") from error
    expected = {"str": str, "dtype": DType, "quant": QuantParams}[kind]
    if not isinstance(value, expected):
        raise GraphError(f"attribute {spec.name!r} must be {kind}, got {value!r}")
    return value


def _int(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(value)
    return int(value)


def fail(message: str) -> None:
    """Raise GraphError: for use in shape rules."""
    raise GraphError(message)


def broadcast_shapes(*shapes: Shape) -> Shape:
    """NumPy broadcasting over symbolic shapes.

    Raises:
        GraphError: if two dimensions are neither equal nor 1.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Any] = []
    for i in range(rank):
        dim: Any = 1
        for shape in shapes:
            j = i - (rank - len(shape))
            if j < 0 or (isinstance(shape[j], int) and shape[j] == 1):
                continue
            if isinstance(dim, int) and dim == 1:
                dim = shape[j]
            elif not same(dim, shape[j]):
                raise GraphError(f"shapes do not broadcast: {', '.join(map(str, shapes))}")
        result.append(dim)
    return tuple(result)


def axis_in_range(axis: int, rank: int) -> int:
    """The axis counted from the front.

    Raises:
        GraphError: outside [-rank, rank).
    """
    if not -rank <= axis < rank:
        raise GraphError(f"axis {axis} outside rank {rank}")
    return axis % rank


def per_tensor_quant(value: Value, what: str) -> QuantParams | None:
    """The value's parameters, refused if they are per channel: for movement that mixes channels.

    Raises:
        GraphError: per-channel parameters.
    """
    if value.quant is not None and not value.quant.per_tensor:
        raise GraphError(f"{what} of a per-channel quantized value is not defined")
    return value.quant


def centred(array: np.ndarray, quant: QuantParams | None) -> np.ndarray:
    """Codes minus zero point as int64; plain integers where there are no parameters."""
    wide = array.astype(np.int64)
    return wide if quant is None else wide - quant.broadcast(quant.zero_point, array.shape)
