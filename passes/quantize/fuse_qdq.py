"""Make integer ops of quantize and dequantize around float ops: how an imported model is written becomes what it means.

A float op whose operands are dequantized codes and whose result is quantized computes on the codes themselves:

    product     conv, linear, matmul on codes -> requantize; a linear or matmul that is read as it is -> dequantize
    weight      a linear or matmul of real numbers with a matrix of codes -> weight_only_linear
    sum         requantize_sum
    mean        integer sum over all spatial axes -> requantize
    movement    the op on codes, requantized where the result has other parameters
    limits      relu and clip between an op and its quantize become limits of the requantize

Every scale and zero point is the model's own. What has no such form stays an island of real numbers between a
dequantize and a quantize, as the model says.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.errors import GraphError
from qcompiler.executors.constants import Constants
from qcompiler.ir import DType, Graph, Level, Node, QuantParams, Rewriter, Value, constant, drop_dead_nodes
from qcompiler.passes.base import Context, Kind, Note, Pass, Result
from qcompiler.passes.quantize.constant_codes import constant_codes, transposed
from qcompiler.passes.quantize.op_roles import (
    LIMITS,
    MOVEMENT,
    clip_limits,
    is_global_mean,
    movement_on_codes,
)

ROUNDING = "float32_half_even"
INT32_MAX = (1 << 31) - 1


class FuseQdq(Pass):
    """See the module docstring."""

    name = "fuse_qdq"
    kind = Kind.LOSSY  # a float bias is rounded to the accumulator's scale; sums round once instead of twice
    requires = (Level.QUANTIZED,)

    def run(self, graph: Graph, context: Context) -> Result:
        """Rewrite, in program order."""
        fusing = _Fusing(graph)
        new = fusing.finish()
        changed = fusing.changed or bool(fusing.notes)
        return Result(new if changed else graph, changed, tuple(fusing.notes))


class _Fusing:
    """Walks the graph; for each old real value, the codes it can be had as."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.out = Rewriter(graph, FuseQdq.name)
        self.constants = Constants(graph)
        self.codes: dict[Value, Value | None] = {}
        self.weights: dict[tuple[Value, str], Value] = {}
        self.notes: list[Note] = []
        self.changed = False  # in a way that needs no note
        self.name = ""
        for node in graph.nodes:
            self.out.origin, self.name = node.origin, node.outputs[0].name
            if not self._visit(node):
                for old, new in zip(node.outputs, self.out.keep(node), strict=True):
                    if old is not new:
                        self.out.replaced[old] = new

    def finish(self) -> Graph:
        """The new graph, without what nobody reads any more."""
        g = self.graph
        outputs = [self.out[v] for v in g.outputs]
        return drop_dead_nodes(Graph(g.name, self.out.inputs, self.out.nodes, outputs, g.output_names, g.level))

    # -- what each node becomes ---------------------------------------------------------------------------------

    def _visit(self, node: Node) -> bool:
        if node.op == "quantize":
            return self._quantize(node)
        if node.op == "dequantize":
            return self._constant(node)
        if node.op in ("linear", "matmul"):
            return self._real_product(node) or self._weight_only(node, node, node.inputs[2] if node.op == "linear" else None)
        if node.op == "add":
            return self._weight_only_with_bias(node)
        if node.op == "gather" and not self._to_codes(node.output):
            return self._gather(node)
        return node.op in MOVEMENT and self._moved(node)

    def _moved(self, node: Node) -> bool:
        """Codes are moved first and dequantized then, once for all who read them as real numbers."""
        codes = self.have(node.output)
        if codes is None or self._origin_of(node.output).is_const:
            return False
        self.out.replaced[node.output] = self.out.op("dequantize", codes, name=node.output.name)
        self.changed = True
        return True

    def _constant(self, node: Node) -> bool:
        """A constant vector of codes (weight of a norm, factor of a product) as real numbers, where codes gain nothing.

        Layers still find its codes: they look at the graph as it was.
        """
        codes = node.operands[0]
        if codes.data is None or codes.quant is None or len(codes.shape) > 1 or not node.output.dtype.is_float:
            return False
        real = codes.quant.dequantize(codes.data).astype(node.output.dtype.numpy)
        self.out.replaced[node.output] = constant(real, node.output.dtype, name=codes.name)
        self.changed = True
        return True

    def _take(self, node: Node, old: Value, new: Value, what: str) -> bool:
        self.out.replaced[old] = new
        self.notes.append(Note(node.where(), True, what))
        return True

    def _to_codes(self, value: Value) -> bool:
        """True if a quantize reads the value: its visit decides."""
        return any(user.op == "quantize" for user, _ in self.graph.uses(value))

    def _quantize(self, node: Node) -> bool:
        quant: QuantParams = node.attrs["quant"]
        if not quant.per_tensor:
            return False
        value = node.operands[0]
        source, limit = self.graph.producer(value), None
        if source is not None and source.op in LIMITS:
            limit, inner = source, self.graph.producer(source.operands[0])
            # Codes of what a limit reads are limited codes; otherwise the op before the limit takes it over.
            source = inner if inner is not None and self.have(source.operands[0]) is None else source
        result = None
        if source is not None:
            limits = _code_limits(limit, quant)
            self.out.origin = source.origin  # of the layer; files call quantize nodes by their tensors
            try:
                result = self._integer(source, quant, limits)
            except GraphError as error:
                self.notes.append(Note(source.where(), False, str(error)))
        if result is None:
            return False
        return self._take(node, node.output, result, f"{source.op if source else ''} on codes")

    def _integer(self, node: Node, quant: QuantParams, limits: dict[str, Any]) -> Value | None:
        """Codes of a node's result in given parameters; None if it has no integer form."""
        if node.op in ("conv", "linear", "matmul"):
            acc = self._accumulate(node)
            return None if acc is None else self._rescale(acc, quant, limits)
        if node.op == "add":
            return self._sum(node, quant, limits)
        if node.op == "reduce_mean" and is_global_mean(node):
            return self._mean(node, quant, limits)
        if node.op == "concat":
            return self._concat(node, quant, limits)
        if node.op in LIMITS:
            codes = self.have(node.operands[0])
        else:
            codes = self.have(node.output)
        if codes is None or codes.quant is None or not codes.quant.per_tensor:
            return None
        if codes.quant == quant and not limits:
            return codes
        return self._rescale(codes, quant, limits)

    def _rescale(self, acc: Value, quant: QuantParams, limits: dict[str, Any]) -> Value:
        assert acc.quant is not None
        multiplier = constant((acc.quant.scale / quant.scale).astype(np.float32))
        return self.out.op("requantize", acc, multiplier, quant=quant, rounding=ROUNDING, name=self.name, **limits)

    def _sum(self, node: Node, quant: QuantParams, limits: dict[str, Any]) -> Value | None:
        operands = node.operands
        if any(v.is_const for v in operands) or (bias := self._with_bias(node)) is not None:
            acc = self._accumulate(node) if any(v.is_const for v in operands) else bias
            return None if acc is None else self._rescale(acc, quant, limits)
        parts = [self.have(v) for v in operands]
        if any(p is None or p.quant is None or not p.quant.per_tensor for p in parts):
            return None
        factors = [float(p.quant.scale / quant.scale) for p in parts if p is not None and p.quant is not None]
        return self.out.op(
            "requantize_sum", *parts, quant=quant, rounding=ROUNDING, real_multipliers=factors, name=self.name, **limits
        )

    def _mean(self, node: Node, quant: QuantParams, limits: dict[str, Any]) -> Value | None:
        codes = self.have(node.operands[0])
        if codes is None or codes.quant is None or not codes.quant.per_tensor:
            return None
        acc = self.out.op("reduce_mean", codes, axes=node.attrs["axes"], keepdims=True)
        result = self._rescale(acc, quant, limits)
        return result if node.attrs["keepdims"] else self.out.op("reshape", result, shape=node.output.shape)

    def _concat(self, node: Node, quant: QuantParams, limits: dict[str, Any]) -> Value | None:
        parts = [self.have(v) for v in node.operands]
        if limits or any(p is None or p.quant is None or not p.quant.per_tensor for p in parts):
            return None
        same = [p if p is not None and p.quant == quant else self._rescale(p, quant, {}) for p in parts if p is not None]
        return self.out.op("concat", *same, axis=node.attrs["axis"])

    # -- products -----------------------------------------------------------------------------------------------

    def _accumulate(self, node: Node) -> Value | None:
        """int32 accumulators of a product, with the bias that is added to it; None if an operand is real."""
        if node.op == "add":
            return self._with_bias(node)
        x = self.have(node.operands[0])
        if x is None or x.quant is None or not x.quant.per_tensor:
            return None
        if node.op == "matmul":
            return self._matmul(x, node.operands[1], None)
        w = self._weight(node.operands[1], 0)
        if w is None:
            return None
        ok, bias = self._bias(node.inputs[2], x, w)
        return self.out.op(node.op, x, w, bias, **dict(node.attrs)) if ok else None

    def _matmul(self, x: Value, second: Value, bias: Value | None) -> Value | None:
        """A constant matrix [K, N] becomes the weight [N, K] of a linear layer."""
        w = self._weight(second, len(second.shape) - 1)
        if w is None or w.quant is None:
            return None
        if w.data is None or len(w.shape) != 2:
            return None if bias is not None else self.out.op("matmul", x, w)
        key = (w, "transposed")
        if key not in self.weights:
            quant = w.quant if w.quant.axis is None else w.quant.with_axis(0)
            self.weights[key] = constant(np.ascontiguousarray(w.data.T), quant=quant, name=w.name)
        weight = self.weights[key]
        ok, codes = self._bias(bias, x, weight)
        return self.out.op("linear", x, weight, codes) if ok else None

    def _with_bias(self, node: Node) -> Value | None:
        """matmul(x, W) + b as one layer."""
        for product, bias in (node.operands, node.operands[::-1]):
            source = self.graph.producer(product)
            bias_codes = self.have(bias)
            constant_bias = bias.is_const or (bias_codes is not None and bias_codes.is_const)
            if source is None or source.op != "matmul" or not constant_bias or self.graph.sole_user(product) is not node:
                continue
            x = self.have(source.operands[0])
            if x is not None and x.quant is not None and x.quant.per_tensor and len(bias.shape) == 1:
                return self._matmul(x, source.operands[1], bias)
        return None

    def _real_product(self, node: Node) -> bool:
        """A product that is read as real numbers: its accumulators, dequantized."""
        value = node.output
        users = self.graph.uses(value)
        if self._to_codes(value) or (len(users) == 1 and users[0][0].op in LIMITS and self._to_codes(users[0][0].output)):
            return False
        acc = self._accumulate(node)
        return acc is not None and self._take(node, value, self.out.op("dequantize", acc), "product of codes")

    def _weight_only(self, node: Node, product: Node, bias: Value | None) -> bool:
        """A product of real numbers with a constant matrix of codes, which stay."""
        x, second = product.operands[:2]
        quant = None if (have := self.have(x)) is None else have.quant
        if quant is not None and quant.per_tensor and self._weight(second, 0 if product.op == "linear" else 1) is not None:
            return False  # codes on both sides: the quantize that reads the result decides
        weight = self._rows(second, product.op == "matmul")
        if weight is None or (bias is not None and bias.dtype is not x.dtype):
            return False
        y = self.out.op("weight_only_linear", self.out[x], weight, self.out.get(bias), name=node.output.name)
        return self._take(node, node.output, y, "weight stays codes")

    def _weight_only_with_bias(self, node: Node) -> bool:
        """matmul(x, W) + b."""
        for product, bias in (node.operands, node.operands[::-1]):
            source = self.graph.producer(product)
            fits = bias.data is not None and bias.quant is None and bias.shape == product.shape[-1:]
            if source is not None and source.op == "matmul" and fits and self.graph.sole_user(product) is node:
                return self._weight_only(node, source, bias)
        return False

    def _rows(self, value: Value, turn: bool) -> Value | None:
        """Constant codes [N, K] with scales per tensor, row, or group along K."""
        found = constant_codes(self.graph, value)
        if found is None or found[0].ndim != 2:
            return None
        codes, quant = transposed(*found, (1, 0)) if turn else found
        if quant.axis not in (None, 0 if quant.group_size is None else 1) or quant.dtype.bits > 8:
            return None
        key = (self._origin_of(value), "rows")
        if key not in self.weights:
            self.weights[key] = constant(codes, quant=quant, name=value.name)
        return self.weights[key]

    def _origin_of(self, value: Value) -> Value:
        node = self.graph.producer(value)
        while node is not None:
            value = node.operands[0]
            node = self.graph.producer(value)
        return value

    def _weight(self, value: Value, axis: int) -> Value | None:
        """Codes of a second operand whose channels, if any, lie along `axis`."""
        codes = self.have(value)
        if codes is None or codes.quant is None or codes.quant.group_size is not None:
            return None
        return codes if codes.quant.axis in (None, axis) else None

    def _bias(self, bias: Value | None, x: Value, w: Value) -> tuple[bool, Value | None]:
        """(there is an integer form, int32 codes with scale sx sw)."""
        if bias is None:
            return True, None
        assert x.quant is not None and w.quant is not None
        scale = (x.quant.scale * w.quant.scale).astype(np.float32)
        have = self.have(bias)
        if have is not None and have.data is not None and have.quant is not None and have.dtype is DType.int32:
            given = np.broadcast_to(have.quant.scale, scale.shape) if scale.ndim else have.quant.scale.reshape(-1)[:1]
            if have.quant.symmetric and np.allclose(given, scale, rtol=1e-5, atol=0):
                return True, constant(have.data, name=have.name)
            real: np.ndarray | None = have.quant.dequantize(have.data)
        else:
            real = self.constants.of(bias) if have is None else None  # a bias may be rounded in arithmetic
        if real is None or real.ndim != 1:
            return False, None
        codes = np.rint(real.astype(np.float64) / scale.astype(np.float64))
        if np.abs(codes).max(initial=0) > INT32_MAX:
            return False, None
        return True, constant(codes.astype(np.int32), name=bias.name)

    # -- codes --------------------------------------------------------------------------------------------------

    def have(self, value: Value) -> Value | None:
        """Codes that a real value is the dequantized form of, through data movement; None if there are none."""
        if value not in self.codes:
            self.codes[value] = self._find(value)
        return self.codes[value]

    def _find(self, value: Value) -> Value | None:
        node = self.graph.producer(value)
        if node is None:
            return None
        if node.op == "dequantize":
            codes = self.out[node.operands[0]]
            return codes if codes.dtype is not DType.int32 or codes.is_const else None
        if node.op not in MOVEMENT or not movement_on_codes(node):
            return None
        codes = self.have(node.operands[0])
        if codes is None:
            return None
        inputs = [codes, *(self.out.get(v) for v in node.inputs[1:])]
        try:
            return self.out.op(node.op, *inputs, **dict(node.attrs))
        except GraphError:
            return None  # movement across the channels of a per-channel scale

    def _gather(self, node: Node) -> bool:
        """Rows of a table of codes are looked up before they are dequantized."""
        codes = self.have(node.operands[0])
        if codes is None or not codes.is_const or codes.quant is None or not codes.quant.per_tensor:
            return False
        rows = self.have(node.output)
        return rows is not None and self._take(node, node.output, self.out.op("dequantize", rows), "codes of a table")


def _code_limits(limit: Node | None, quant: QuantParams) -> dict[str, Any]:
    """qmin and qmax for a relu or clip; nothing where the type's own range is no wider."""
    if limit is None:
        return {}
    found = {}
    ends = (("qmin", quant.dtype.min), ("qmax", quant.dtype.max))
    for bound, (name, end) in zip(clip_limits(limit), ends, strict=True):
        if bound is not None and (code := int(quant.quantize(np.array(bound, np.float32)))) != end:
            found[name] = code
    return found
