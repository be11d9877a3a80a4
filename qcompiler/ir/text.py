"""Text form of a graph: printer and parser, an exact round trip.

One line per input, constant and node:

    qcompiler 1 float "name"
    input %x: float32[batch, 3]
    const %w: float32[4, 3] @w
    %y: float32[batch, 4] = linear(%x, %w, _) {} !{"module": "fc"}
    output "y" %y

Attributes, quantization parameters and origins are JSON. Arrays of more than `INLINE` elements are kept beside
the text in a table (`@key`), which goes to a safetensors file. Nothing in a text is ever evaluated as code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import GraphError
from . import dims
from .dtypes import DType
from .graph import Graph, Node, Origin, Value
from .levels import Level
from .ops import get_op
from .ops.spec import AttrSpec
from .quant import QuantParams

INLINE = 8
Arrays = dict[str, np.ndarray]

_HEADER = re.compile(r'qcompiler 1 (\w+) (".*")')
_VALUE = re.compile(r"%([\w.]+): (\w+)\[([^\]]*)\]")
_CALL = re.compile(r" = (\w+)\(([^)]*)\) ")


class _Printer:
    def __init__(self) -> None:
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.arrays: Arrays = {}
        self.keys: dict[Any, str] = {}

    def name(self, value: Value) -> str:
        if value not in self.names:
            self.names[value] = self.unique(value.name or "v")
        return "%" + self.names[value]

    def unique(self, hint: str) -> str:
        base = re.sub(r"[^\w.]", "_", hint)
        name, count = base, 0
        while name in self.taken:
            count += 1
            name = f"{base}.{count}"
        self.taken.add(name)
        return name

    def array(self, array: np.ndarray, hint: str) -> Any:
        """JSON form: a number, a list, or `@key` for large arrays; the same memory is stored once."""
        if array.size <= INLINE and array.dtype.kind in "fiub" and array.dtype.itemsize <= 8:
            return array.tolist()
        memory = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.name)
        if memory not in self.keys:
            key = hint
            while key in self.arrays:
                key += "_"
            self.keys[memory] = key
            self.arrays[key] = array
        return "@" + self.keys[memory]

    def typed(self, value: Value) -> str:
        name = self.name(value)
        text = f"{name}: {value.dtype.name}[{', '.join(str(d) for d in value.shape)}]"
        return text

    def quant(self, quant: QuantParams, hint: str) -> dict[str, Any]:
        form: dict[str, Any] = {"dtype": quant.dtype.name, "scale": self.array(quant.scale, hint + ".scale")}
        form["zero_point"] = self.array(quant.zero_point, hint + ".zero_point")
        if quant.axis is not None:
            form["axis"] = quant.axis
        if quant.group_size is not None:
            form["group_size"] = quant.group_size
        if quant.digits is not None:
            form["digits"] = quant.digits
        return form

    def attr(self, spec: AttrSpec, value: Any, hint: str) -> Any:
        if value is None or spec.kind in ("int", "float", "bool", "str"):
            return value
        if spec.kind == "dtype":
            return value.name
        if spec.kind == "dim":
            return value if isinstance(value, int) else str(value)
        if spec.kind == "dims":
            return [v if isinstance(v, int) else str(v) for v in value]
        if spec.kind == "quant":
            return self.quant(value, hint)
        return list(value)


def print_graph(graph: Graph) -> tuple[str, Arrays]:
    """The text and the table of arrays it refers to."""
    p = _Printer()
    lines = [f"qcompiler 1 {graph.level.value} {json.dumps(graph.name)}"]
    for value in graph.inputs:
        p.taken.add(value.name)
        p.names[value] = value.name
    for value in graph.inputs:
        if not re.fullmatch(r"[\w.]+", value.name):
            raise GraphError(f"input name {value.name!r} has characters outside letters, digits, _ and .")
        lines.append(f"input {p.typed(value)}" + _quant_suffix(p, value))
    for value in graph.constants():
        text = p.typed(value)
        data = value.data if value.data is not None else np.zeros(())
        form = p.array(data, p.names[value])
        lines.append(f"const {text} {json.dumps(form)}" + _quant_suffix(p, value))
    for node in graph.nodes:
        lines.append(_print_node(p, node))
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        lines.append(f"output {json.dumps(name)} {p.name(value)}")
    return "\n".join(lines) + "\n", p.arrays


def _quant_suffix(p: _Printer, value: Value) -> str:
    return "" if value.quant is None else " " + json.dumps(p.quant(value.quant, p.names[value]))


def _print_node(p: _Printer, node: Node) -> str:
    operands = ", ".join("_" if v is None else p.name(v) for v in node.inputs)
    results = ", ".join(p.typed(v) for v in node.outputs)
    hint = p.names[node.outputs[0]]
    attrs = {s.name: p.attr(s, node.attrs[s.name], hint) for s in get_op(node.op).attrs}
    origin = {k: v for k, v in (("module", node.origin.module), ("source", node.origin.source)) if v}
    form: dict[str, Any] = dict(origin)
    if node.origin.passes:
        form["passes"] = list(node.origin.passes)
    return f"{results} = {node.op}({operands}) {json.dumps(attrs)}" + (
        f" !{json.dumps(form)}" if form else ""
    )


def parse_graph(text: str, arrays: Mapping[str, np.ndarray] | None = None) -> Graph:
    """Read back `print_graph`'s text.

    Raises:
        GraphError: naming the line that does not parse.
    """
    parser = _Parser(dict(arrays or {}))
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            parser.line(line)
        except (
            LookupError,
            ValueError,
            ArithmeticError,
            AttributeError,
            TypeError,
            RecursionError,
            GraphError,
        ) as error:
            raise GraphError(f"line {number}: {error}: {line[:120]}") from error
    return parser.graph()


class _Parser:
    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.values: dict[str, Value] = {}
        self.header: tuple[Level, str] | None = None
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.outputs: list[tuple[str, Value]] = []
        self.json = json.JSONDecoder()

    def graph(self) -> Graph:
        if self.header is None:
            raise GraphError("no `qcompiler 1` header line")
        names, outputs = [n for n, _ in self.outputs], [v for _, v in self.outputs]
        return Graph(self.header[1], self.inputs, self.nodes, outputs, names, self.header[0])

    def line(self, line: str) -> None:
        if self.header is None:
            match = _HEADER.fullmatch(line)
            if match is None:
                raise ValueError("expected a `qcompiler 1` header")
            self.header = (Level(match[1]), json.loads(match[2]))
        elif line.startswith("input "):
            name, dtype, shape, end = self.typed(line, 6)
            quant = self.quant(json.loads(line[end:])) if line[end:].strip() else None
            self.inputs.append(self.define(name, Value(dtype, shape, quant, name)))
        elif line.startswith("const "):
            self.const(line)
        elif line.startswith("output "):
            name, end = self.json.raw_decode(line, 7)
            self.outputs.append((name, self.values[line[end:].strip().removeprefix("%")]))
        else:
            self.node(line)

    def define(self, name: str, value: Value) -> Value:
        if name in self.values:
            raise ValueError(f"%{name} is defined twice")
        self.values[name] = value
        return value

    def typed(self, line: str, start: int) -> tuple[str, DType, dims.Shape, int]:
        match = _VALUE.match(line, start)
        if match is None:
            raise ValueError("expected `%name: dtype[shape]`")
        shape = tuple(dims.parse(d) for d in _split_dims(match[3]))
        return match[1], DType[match[2]], shape, match.end()

    def const(self, line: str) -> None:
        name, dtype, shape, end = self.typed(line, 6)
        form, end = self.json.raw_decode(line, end + 1)
        quant = self.quant(json.loads(line[end:])) if line[end:].strip() else None
        data = self.array(form, dtype.numpy).reshape(shape)
        data.setflags(write=False)
        self.define(name, Value(dtype, shape, quant, name, data))

    def array(self, form: Any, dtype: np.dtype) -> np.ndarray:
        if isinstance(form, str):
            array = self.arrays[form.removeprefix("@")]
            if array.dtype != dtype:
                raise ValueError(f"array {form} has type {array.dtype}, expected {dtype}")
            return array.view()
        return np.array(form, dtype)

    def quant(self, form: dict[str, Any]) -> QuantParams:
        scale = self.array(form["scale"], np.dtype(np.float32))
        zero_point = self.array(form["zero_point"], np.dtype(np.int32))
        return QuantParams(DType[form["dtype"]], scale, zero_point, form.get("axis"), form.get("group_size"), form.get("digits"))

    def attr(self, spec: AttrSpec, form: Any) -> Any:
        if form is None:
            return None
        if spec.kind == "dtype":
            return DType[form]
        if spec.kind == "dim":
            return dims.parse(form) if isinstance(form, str) else form
        if spec.kind == "dims":
            return tuple(dims.parse(d) if isinstance(d, str) else d for d in form)
        if spec.kind == "quant":
            return self.quant(form)
        return tuple(form) if isinstance(form, list) else form

    def node(self, line: str) -> None:
        results, position = [], 0
        while True:
            name, dtype, shape, position = self.typed(line, position)
            results.append((name, dtype, shape))
            if not line.startswith(", ", position):
                break
            position += 2
        call = _CALL.match(line, position)
        if call is None:
            raise ValueError("expected ` = op(operands) {attributes}`")
        spec = get_op(call[1])
        names = [n for n in call[2].split(", ") if n]
        inputs = tuple(None if n == "_" else self.values[n.removeprefix("%")] for n in names)
        forms, position = self.json.raw_decode(line, call.end())
        attrs = {s.name: self.attr(s, forms[s.name]) for s in spec.attrs}
        origin = Origin()
        if line[position:].startswith(" !"):
            extra = json.loads(line[position + 2 :])
            origin = Origin(extra.get("module", ""), extra.get("source", ""), tuple(extra.get("passes", ())))
        self.append(call[1], inputs, attrs, results, origin)

    def append(self, op: str, inputs: Any, attrs: Any, results: list[Any], origin: Origin) -> None:
        from types import MappingProxyType

        spec = get_op(op)
        inputs, full = spec.check(inputs, attrs)
        types = spec.infer(inputs, full)
        outputs = []
        for (name, dtype, shape), kind in zip(results, types, strict=True):
            if dtype is not kind.dtype or not dims.same_shape(shape, kind.shape):
                raise ValueError(
                    f"%{name} is {dtype.name}{list(shape)}, the op gives {kind.dtype.name}{list(kind.shape)}"
                )
            outputs.append(self.define(name, Value(dtype, shape, kind.quant, name)))
        self.nodes.append(Node(op, inputs, MappingProxyType(full), tuple(outputs), origin))


def _split_dims(text: str) -> list[str]:
    """Split at commas outside parentheses: `a, Max(1, b)` has two parts."""
    parts, depth, current = [], 0, ""
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += char
    return [p.strip() for p in [*parts, current] if p.strip()]
