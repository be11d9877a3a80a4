"""The state of one ONNX emission: names, initializers, nodes, symbolic dimensions.

Rules (one per op of the op table) are functions `rule(emitter, node) -> names of the node's outputs`. They only
call the methods of `Emitter`; the ONNX model is put together in `emit.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from qcompiler.errors import UnsupportedError
from qcompiler.ir import DType, Graph, Node, Shape, Value

from ..base import KernelChoice
from .emit_dims import DimEmitter

MS_DOMAIN = "com.microsoft"

ELEM_TYPES: dict[DType, int] = {
    DType.float32: TensorProto.FLOAT,
    DType.float16: TensorProto.FLOAT16,
    DType.bfloat16: TensorProto.BFLOAT16,
    DType.float64: TensorProto.DOUBLE,
    DType.int16: TensorProto.INT16,
    DType.int32: TensorProto.INT32,
    DType.int64: TensorProto.INT64,
    DType.uint16: TensorProto.UINT16,
    DType.uint32: TensorProto.UINT32,
    DType.bool: TensorProto.BOOL,
    # Integers of 2 to 8 bits are stored one per byte, as in the graph.
    **{d: TensorProto.INT8 for d in DType if d.is_integer and d.is_signed and d.bits <= 8},
    **{d: TensorProto.UINT8 for d in DType if d.is_integer and not d.is_signed and d.bits <= 8},
}


@dataclass(frozen=True)
class Style:
    """Which forms the rules choose.

    Attributes:
        runtime_kernels: use ONNX Runtime's own kernels (com.microsoft, QLinear*) instead of standard-domain Q/DQ.
        plain: the form any exporter writes, nothing spelled for speed: the float baseline.
        simulated: real numbers rounded by QONNX's Quant ops, no codes.
        int16_pair_products: u8 x s8 products saturate in pairs on this ISA (see `qcompiler.targets.saturation`).
    """

    runtime_kernels: bool = False
    plain: bool = False
    int16_pair_products: bool = False
    simulated: bool = False


class Emitter:
    """Appends ONNX nodes for one graph.

    Attributes:
        graph: being emitted.
        style: of the target.
        nodes: ONNX nodes in program order.
        rows: kernel choices, filled by the rules.
    """

    def __init__(self, graph: Graph, style: Style) -> None:
        self.graph = graph
        self.style = style
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.rows: list[KernelChoice] = []
        self.cache: dict[Any, str] = {}  # what rules share: transposed weights, dequantized values, ...
        self.mask_cache: dict[Any, tuple[str | None, str | None]] = {}
        self.padded: dict[Value, Value] = {}  # weights with more input channels
        self.names: dict[Value, str] = {v: v.name for v in graph.inputs}
        self.current: Node | None = None
        self.sources: dict[str, Node] = {}  # ONNX node name -> node of the graph it came from
        self._taken = {*self.names.values(), *graph.output_names}
        self._next_node: dict[str, int] = {}
        self.dims = DimEmitter(self)

    # -- names and values

    def unique(self, hint: str) -> str:
        """A tensor name nobody uses yet."""
        name, number = hint, 1
        while name in self._taken:
            name, number = f"{hint}_{number}", number + 1
        self._taken.add(name)
        return name

    def scope(self) -> str:
        """Module path of the node being emitted, as a prefix."""
        module = self.current.origin.module if self.current is not None else ""
        return f"{module}/" if module else ""

    def name(self, value: Value) -> str:
        """Tensor name of a value; a constant becomes an initializer on its first use."""
        if value not in self.names:
            if value.data is None:
                raise UnsupportedError(f"{value!r} is read before it is computed")
            hint = value.name or "constant"
            self.names[value] = self.unique(hint)
            self.initializers[self.names[value]] = value.data
        return self.names[value]

    def const(self, array: Any, dtype: Any = None, hint: str = "constant") -> str:
        """Tensor name of a small constant made by a rule; equal constants share one initializer."""
        data = np.asarray(array, dtype)
        key = ("const", data.dtype.str, data.dtype.name, data.shape, data.tobytes())
        if key not in self.cache:
            self.cache[key] = self.unique(hint)
            self.initializers[self.cache[key]] = data
        return self.cache[key]

    def weight(self, value: Value, transform: str, array: np.ndarray) -> str:
        """Initializer for a transformed weight (`w` transposed, offset); one per weight and transform."""
        key = (value, transform)
        if key not in self.cache:
            self.cache[key] = self.unique(f"{value.name or 'weight'}.{transform}")
            self.initializers[self.cache[key]] = np.ascontiguousarray(array)
        return self.cache[key]

    # -- nodes

    def op(
        self, op_type: str, *inputs: str | Value | None, count: int = 1, domain: str = "", **attrs: Any
    ) -> Any:
        """Append an ONNX node; returns its output name, or a tuple of names where count > 1."""
        operands = [self.name(i) if isinstance(i, Value) else (i or "") for i in inputs]
        while operands and not operands[-1]:
            operands.pop()
        hint = self.scope() + op_type
        number = self._next_node.get(hint, 0)
        self._next_node[hint] = number + 1
        node_name = f"{hint}_{number}"
        outputs = [self.unique(node_name if count == 1 else f"{node_name}:{i}") for i in range(count)]
        if self.current is not None:
            self.sources[node_name] = self.current
        present = {k: v for k, v in attrs.items() if v is not None}
        self.nodes.append(helper.make_node(op_type, operands, outputs, name=node_name, domain=domain, **present))
        return outputs[0] if count == 1 else tuple(outputs)

    def ms(self, op_type: str, *inputs: str | Value | None, count: int = 1, **attrs: Any) -> Any:
        """`op` in the com.microsoft domain."""
        return self.op(op_type, *inputs, count=count, domain=MS_DOMAIN, **attrs)

    def row(self, node: Node, kernel: str, dtype: str = "", why: str = "") -> None:
        """Note the kernel of a graph node for the coverage table."""
        kind = dtype or (node.outputs[0].dtype.name if node.outputs else "")
        self.rows.append(KernelChoice(node.origin.module, node.op, kind, kernel, why))

    # -- conveniences

    def cast(self, name: str | Value, dtype: DType) -> str:
        """`Cast` to a graph dtype."""
        return self.op("Cast", name, to=ELEM_TYPES[dtype])

    def scalar(self, value: float, dtype: DType = DType.float32) -> str:
        """A scalar constant of a dtype."""
        return self.const(np.asarray(value).astype(dtype.numpy))

    def ints(self, values: Sequence[int]) -> str:
        """An int64 vector constant."""
        return self.const(np.asarray(list(values), np.int64))

    def shape(self, shape: Shape) -> str:
        """An int64 vector tensor with the sizes of a (possibly symbolic) shape."""
        return self.dims.vector(shape)


def tensor_type(dtype: DType) -> int:
    """ONNX element type of a graph dtype."""
    return ELEM_TYPES[dtype]
