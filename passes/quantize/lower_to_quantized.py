"""Build the integer program of a plan: level FLOAT to level QUANTIZED.

    product     quantize(x) once per value -> conv | linear | matmul on codes, bias int32 = round(b / (sx sw))
                -> requantize (codes; relu and clip become its limits) or dequantize (real)
    add         requantize_sum: the operands' scales become its multipliers
    reduce_mean integer sum -> requantize
    movement    the op itself, on codes
    dynamic     dynamic_linear
    weight-only weight_only_linear
    the rest    on real numbers; codes are dequantized once for all real readers

Padding, zero points and the bias: an op's centred operands (q - z) are 0 where the real number is 0, so a padded
convolution needs nothing, and the bias needs no correction for zero points at this level.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.errors import ConstraintError, UnsupportedError
from qcompiler.ir import Graph, Level, Node, QuantParams, Rewriter, Value, constant, drop_dead_nodes
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.assign_precision import PLAN
from qcompiler.passes.quantize.op_roles import (
    JOINS,
    LIMITS,
    MEANS,
    MOVEMENT,
    PRODUCTS,
    SUMS,
    clip_limits,
    data_operands,
)
from qcompiler.passes.quantize.plan import DYNAMIC, FLOAT, WEIGHT_ONLY, QuantPlan
from qcompiler.passes.rounding.progressive import expand

INT32_MAX = (1 << 31) - 1


class LowerConfig(PassConfig):
    """rounding: requantize profile; "" takes the target's first."""

    rounding: str = ""


class LowerToQuantized(Pass):
    """Replaces planned nodes by integer ones; everything else is kept."""

    name = "lower_to_quantized"
    kind = Kind.LOSSY
    ensures = Level.QUANTIZED
    must_follow = ("assign_precision", "calibrate_activations", "round_nearest", "round_hessian", "round_gptq", "correct_bias")

    def __init__(self, config: LowerConfig | None = None) -> None:
        self.config = config or LowerConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Lower.

        Raises:
            ConstraintError: a bias that does not fit int32 in its accumulator's scale.
            UnsupportedError: the target lists no rounding that this level has.
        """
        roundings = tuple(context.target.roundings)
        rounding = self.config.rounding or (roundings[0] if roundings else "")
        if rounding != "float32_half_even":
            raise UnsupportedError(f"level quantized rescales with float32_half_even, asked for {rounding or 'nothing'!r}")
        lowering = _Lowering(graph, context.tables[PLAN], rounding)
        return Result(lowering.graph(), True, tuple(lowering.notes))


class _Lowering:
    """Walks the float graph; each old value has a real form, codes, or both, made when first asked for."""

    def __init__(self, graph: Graph, plan: QuantPlan, rounding: str) -> None:
        self.source, self.plan, self.rounding = graph, plan, rounding
        self.out = Rewriter(graph, LowerToQuantized.name, Level.QUANTIZED)
        self._codes: dict[Value, Value] = {}
        self._weights: dict[tuple[Value, bytes, QuantParams], Value] = {}
        self.notes: list[Note] = []
        for node in graph.nodes:
            self._visit(node)

    def graph(self) -> Graph:
        """The finished program."""
        outputs = [self.real(v) for v in self.source.outputs]
        g = self.source
        return drop_dead_nodes(Graph(g.name, self.out.inputs, self.out.nodes, outputs, g.output_names, Level.QUANTIZED))

    def real(self, value: Value) -> Value:
        """The real form of an old value; codes are dequantized once."""
        if value in self._codes and value in self.plan.stored and value not in self.out.replaced:
            self.out.replaced[value] = self._op(value, "dequantize", self._codes[value])
        return self.out[value]

    def codes(self, value: Value) -> Value:
        """Codes of an old value; a real one is quantized once."""
        if value not in self._codes:
            quant = self.plan.activations[value]
            self._codes[value] = self._op(value, "quantize", self.out[value], quant=quant)
        return self._codes[value]

    def _op(self, like: Value, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        return self.out.op(op, *inputs, name=like.name, **attrs)

    def _visit(self, node: Node) -> None:
        self.out.origin = node.origin
        if self.plan.fused_into(node) is not None:
            return
        scheme = self.plan.nodes[node].scheme
        if scheme == FLOAT:
            self._keep(node)
        elif scheme in (DYNAMIC, WEIGHT_ONLY):
            self._real_operand(node)
        elif node.op in PRODUCTS or node.op == "matmul":
            self._product(node)
        elif node.op in SUMS:
            self._sum(node)
        elif node.op in MEANS:
            self._mean(node)
        elif node.op in LIMITS:
            self._rescale(node, self.codes(self._data(node)), node)
        else:
            assert node.op in MOVEMENT | JOINS
            self._movement(node)

    def _data(self, node: Node) -> Value:
        value = node.inputs[0]
        assert value is not None
        return value

    def _keep(self, node: Node) -> None:
        for value in node.operands:
            self.real(value)
        for old, new in zip(node.outputs, self.out.keep(node), strict=True):
            if old is not new:
                self.out.replaced[old] = new

    def _product(self, node: Node) -> None:
        x = self.codes(self._data(node))
        if node.op == "matmul":
            second = node.inputs[1]
            assert second is not None
            acc = self.out.op("matmul", x, self.codes(second), name=node.output.name)
        else:
            w = self._weight(node)
            acc = self.out.op(node.op, x, w, self._bias(node, x, w), name=node.output.name, **dict(node.attrs))
        result = self.plan.result_of(node)
        if result in self.plan.stored:
            self._rescale(node, acc, self.plan.nodes[node].fused)
        else:
            self.out.replaced[result] = self._op(result, "dequantize", acc)

    def _weight(self, node: Node) -> Value:
        weight, codes = node.inputs[1], self.plan.weights[node]
        assert weight is not None
        plan = self.plan.nodes[node]
        if plan.progressive and plan.scheme == DYNAMIC and plan.granularity == "token":
            codes = expand(codes)
        key = (weight, codes.codes.tobytes(), codes.quant)
        if key not in self._weights:
            self._weights[key] = constant(codes.codes, quant=codes.quant, name=weight.name)
        return self._weights[key]

    def _real_bias(self, node: Node) -> np.ndarray | None:
        own = node.inputs[2]
        return self.plan.biases.get(node, None if own is None else own.data)

    def _bias(self, node: Node, x: Value, w: Value) -> Value | None:
        bias = self._real_bias(node)
        if bias is None:
            return None
        assert x.quant is not None and w.quant is not None
        scale = (x.quant.scale * w.quant.scale).astype(np.float64)
        codes = np.rint(bias.astype(np.float64) / scale)
        worst = int(np.argmax(np.abs(codes))) if codes.size else 0
        if codes.size and abs(codes[worst]) > INT32_MAX:
            raise ConstraintError(
                f"{node.where()}: bias {float(bias[worst]):.4g} of channel {worst} does not fit int32 at the"
                f" accumulator's scale {float(np.broadcast_to(scale, codes.shape)[worst]):.4g}; keep the layer real with `ignore`"
            )
        name = node.inputs[2].name if node.inputs[2] is not None else "bias"
        return constant(codes.astype(np.int32), name=name)

    def _rescale(self, node: Node, acc: Value, limit: Node | None = None) -> None:
        """Requantize `acc` (int32 sums, or codes) to the node's result, within the limits of an activation node."""
        limit = limit or self.plan.nodes[node].fused
        result = limit.output if limit is not None else node.output
        quant = self.plan.activations[result]
        assert acc.quant is not None
        multiplier = constant((acc.quant.scale / quant.scale).astype(np.float32))
        low, high = _code_limits(limit, quant)
        self._codes[result] = self.out.op(
            "requantize", acc, multiplier, quant=quant, rounding=self.rounding, qmin=low, qmax=high, name=result.name
        )

    def _sum(self, node: Node) -> None:
        limit = self.plan.nodes[node].fused
        result = self.plan.result_of(node)
        quant = self.plan.activations[result]
        operands = [self.codes(v) for v in node.operands]
        factors = [float(v.quant.scale / quant.scale) for v in operands if v.quant is not None]
        low, high = _code_limits(limit, quant)
        self._codes[result] = self.out.op(
            "requantize_sum", *operands, quant=quant, rounding=self.rounding, qmin=low, qmax=high,
            real_multipliers=factors, name=result.name,
        )  # fmt: skip

    def _mean(self, node: Node) -> None:
        """Kernels keep the axes they average over; a reshape drops them."""
        acc = self.out.op(node.op, self.codes(self._data(node)), axes=node.attrs["axes"], keepdims=True)
        self._rescale(node, acc)
        if not node.attrs["keepdims"]:
            result = self.plan.result_of(node)
            self._codes[result] = self._op(result, "reshape", self._codes[result], shape=result.shape)

    def _movement(self, node: Node) -> None:
        data = set(data_operands(node))
        inputs = [
            v if v is None else (self.codes(v) if i in data else self.real(v)) for i, v in enumerate(node.inputs)
        ]
        self._codes[node.output] = self.out.op(node.op, *inputs, name=node.output.name, **dict(node.attrs))

    def _real_operand(self, node: Node) -> None:
        """dynamic_linear or weight_only_linear."""
        bias = self._real_bias(node)
        value = None if bias is None else constant(bias.astype(np.float32), name="bias")
        plan = self.plan.nodes[node]
        attrs = {"granularity": plan.granularity, "bits": plan.activation_dtype.bits} if plan.scheme == DYNAMIC else {}
        op = "dynamic_linear" if plan.scheme == DYNAMIC else "weight_only_linear"
        x = self.real(self._data(node))
        result = self.out.op(op, x, self._weight(node), value, name=node.output.name, **attrs)
        self.out.replaced[node.output] = result


def _code_limits(limit: Node | None, quant: QuantParams) -> tuple[int | None, int | None]:
    """Codes of the limits of a relu or clip; None where the type's own range is no wider."""
    if limit is None:
        return None, None
    found: list[int | None] = []
    for bound, end in zip(clip_limits(limit), (quant.dtype.min, quant.dtype.max), strict=True):
        code = end if bound is None else int(quant.quantize(np.array(bound, np.float32)))
        found.append(None if code == end else code)
    return found[0], found[1]
