"""What a converter of one ONNX op works with."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

from ...errors import GraphError
from ...ir import DType, GraphBuilder, Origin, QuantParams, Value
from ...ir.dims import Dim, Shape, is_symbolic, normalize, same
from ..context import Context, Refusal
from .contents import contents_of, follow
from .dtypes import dtype_of, to_array

_MISSING = object()


class OnnxContext(Context):
    """Builder of the graph, seen from the ONNX node that is being converted.

    Attributes:
        attrs: attributes of the node as Python values.
        op_type: of the node.
        version: of the node's operator set.
        outputs: how many results somebody may want.
        arguments: the values the node reads, None for absent ones.
        contents: what small tensors hold, where that does not depend on the inputs.
        coded: constants that were given quantization parameters.
        dynamic: what is known of values on the way of a dynamically quantized product (see ops/dynamic.py).
    """

    def __init__(self, builder: GraphBuilder) -> None:
        super().__init__(builder, None)  # type: ignore[arg-type]  # torch's symbols; there are none here
        self.attrs: dict[str, Any] = {}
        self.op_type = ""
        self.version = 0
        self.outputs = 1
        self.arguments: Sequence[Value | None] = ()
        self.contents: dict[Value, np.ndarray] = {}
        self.coded: dict[tuple[Value, QuantParams], Value] = {}
        self.dynamic: dict[Value, Any] = {}

    def begin(
        self, node: onnx.NodeProto, attrs: dict[str, Any], version: int, arguments: Sequence[Value | None], origin: Origin
    ) -> None:
        """Make `node` the current one."""
        name = next((o for o in node.output if o), node.op_type)
        self.node = SimpleNamespace(name=name)
        self.builder.origin = origin
        self.attrs, self.version, self.arguments, self.op_type = attrs, version, arguments, node.op_type
        self.outputs = max((i + 1 for i, o in enumerate(node.output) if o), default=0)

    @property
    def dtype(self) -> DType:
        """Element type of the first operand: what most results have."""
        first = next((v for v in self.arguments if v is not None), None)
        if first is None:
            raise Refusal("needs an operand")
        return first.dtype

    @property
    def shape(self) -> Shape:
        """Not known in advance here: the op table infers shapes."""
        raise Refusal("the shape of the result has to be known before it is computed")

    def _aligned(self, inputs: Sequence[Value | None]) -> list[Value | None]:
        """Operands whose dynamic sizes meet in one axis: they have to be equal, and the plainest expression stands.

        A mask of size `b * t / batch` added to scores of size `seq` is such a case; only the exporter knew that the
        two are one size. At run time the reshape fails where they are not.
        """
        present = [v for v in inputs if v is not None]
        rank = max(len(v.shape) for v in present)
        target: list[Dim] = []
        for axis in range(-rank, 0):
            sizes = [v.shape[axis] for v in present if len(v.shape) >= -axis and not same(v.shape[axis], 1)]
            target.append(min(sizes, key=lambda d: (is_symbolic(d), len(str(d)), str(d)), default=1))
        return [v if v is None else self._with_sizes(v, target) for v in inputs]

    def _with_sizes(self, value: Value, target: Sequence[Dim]) -> Value:
        tail = target[len(target) - len(value.shape) :]
        pairs = zip(value.shape, tail, strict=True)
        return self.reshape(value, [b if is_symbolic(a) and not same(a, 1) else a for a, b in pairs])

    def ops(self, op: str, *inputs: Value | None, **attrs: Any) -> tuple[Value, ...]:
        """Append a node; small integer results that are known become constants, sizes become `dim`."""
        outputs = super().ops(op, *inputs, **attrs)
        node = self.producers[outputs[0]]
        found = follow(node, self.contents)
        if found is None:
            return outputs
        results = []
        for value, array in zip(outputs, found, strict=True):
            if array.dtype != object and not value.dtype.is_float:
                value = self.builder.const(array, value.dtype, name=value.name)
            elif array.dtype == object and op != "dim" and not array.shape:
                value = self.op("dim", value=array.item(), dtype=value.dtype)  # one size, however it was computed
            else:
                self.contents[value] = array
            results.append(value)
        return tuple(results)

    # -- attributes ---------------------------------------------------------------------------------------------

    def attr(self, name: str, default: Any = _MISSING) -> Any:
        """An attribute of the ONNX node.

        Raises:
            Refusal: it is missing and has no default.
        """
        value = self.attrs.get(name, default)
        if value is _MISSING:
            raise Refusal(f"attribute {name!r} is missing")
        return value

    def number(self, name: str, default: Any = None) -> Any:
        """An attribute that is a number."""
        value = self.attr(name, default)
        if value is not None and not isinstance(value, (int, float)):
            raise Refusal(f"attribute {name!r} must be a number, got {value!r}")
        return value

    def integers(self, name: str, default: Any = None) -> Any:
        """An attribute that is a list of integers, as a tuple."""
        value = self.attr(name, default)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, int) for v in value):
            raise Refusal(f"attribute {name!r} must be integers, got {value!r}")
        return tuple(value)

    def text(self, name: str, default: Any = _MISSING) -> str:
        """An attribute that is a text."""
        value = self.attr(name, default)
        if not isinstance(value, str):
            raise Refusal(f"attribute {name!r} must be a text, got {value!r}")
        return value

    # -- contents of operands -----------------------------------------------------------------------------------

    def known(self, value: Value, what: str) -> np.ndarray:
        """Elements of an operand that works like an attribute.

        Raises:
            Refusal: they depend on the model's inputs.
        """
        found = contents_of(value, self.contents)
        if found is None and value.data is not None:
            return value.data
        if found is None:
            raise Refusal(f"{what} must be known when compiling, it is computed from data ({value.name})")
        return found

    def dims_of(self, value: Value, what: str) -> tuple[Dim, ...]:
        """Elements of a vector (or scalar) of sizes, symbolic ones included."""
        return tuple(normalize(d) if hasattr(d, "free_symbols") else int(d) for d in self.known(value, what).ravel().tolist())

    def ints_of(self, value: Value, what: str) -> tuple[int, ...]:
        """Elements that have to be plain integers."""
        dims = self.dims_of(value, what)
        if any(is_symbolic(d) for d in dims):
            raise Refusal(f"{what} must be known numbers, they are {list(dims)}")
        return dims

    def array_of(self, value: Value, what: str) -> np.ndarray:
        """Elements that have to be plain numbers."""
        array = self.known(value, what)
        if array.dtype == object:
            raise Refusal(f"{what} must be known numbers, they are {array.tolist()}")
        return array

    def ints_or_attr(self, operand: Value | None, name: str, default: Any = None) -> Any:
        """What newer operator sets give as an operand and older ones as an attribute."""
        return self.ints_of(operand, name) if operand is not None else self.integers(name, default)

    def tensor_attr(self, name: str) -> tuple[np.ndarray, DType]:
        """An attribute that is a tensor."""
        value = self.attr(name)
        if not isinstance(value, onnx.TensorProto):
            raise Refusal(f"attribute {name!r} must be a tensor")
        return to_array(value)

    def dtype_attr(self, name: str, default: Any = _MISSING) -> DType:
        """An attribute that names an element type."""
        value = self.attr(name, default)
        if isinstance(value, DType):
            return value
        if not isinstance(value, int):
            raise Refusal(f"attribute {name!r} must name a type, got {value!r}")
        return dtype_of(value)

    # -- building -----------------------------------------------------------------------------------------------

    def axis(self, value: Value, axis: Any) -> int:
        """An axis counted from the front.

        Raises:
            Refusal: outside the rank.
        """
        rank = len(value.shape)
        if not isinstance(axis, int) or not -rank <= axis < rank:
            raise Refusal(f"axis {axis} outside rank {rank}")
        return axis % rank

    def scalar(self, number: Any, dtype: DType) -> Value:
        """A constant without axes."""
        return self.const(np.asarray(number).astype(dtype.numpy), dtype)

    def vector(self, dims: Sequence[Dim]) -> Value:
        """Sizes as an int64 vector."""
        if all(not is_symbolic(d) for d in dims):
            return self.const(np.array([int(d) for d in dims], np.int64).reshape(len(dims)))
        parts = [self.reshape(self.op("dim", value=d) if is_symbolic(d) else self.const(np.int64(d)), (1,)) for d in dims]
        return parts[0] if len(parts) == 1 else self.op("concat", *parts, axis=0)


__all__ = ["GraphError", "OnnxContext", "Refusal"]
