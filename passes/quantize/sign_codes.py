"""Give unsigned 8-bit codes a sign: q - 128 with a zero point 128 lower, for kernels that multiply signed codes.

Every real number that codes stand for, and every accumulator, is the same. Sums of codes that round in float32 add
other numbers, so that a result next to a tie may become its neighbour: LOSSY for them, exact for all else. Inputs and
outputs of the program keep their types.
"""

from __future__ import annotations

from qcompiler.ir import DType, Graph, Level, Node, Rewriter, Value, constant, rewrite
from qcompiler.passes.base import Context, Kind, Note, Pass, Result
from qcompiler.passes.integer.signed_codes import signed, signed_array, signed_limit


class SignCodes(Pass):
    """See the module docstring."""

    name = "sign_codes"
    kind = Kind.LOSSY
    requires = (Level.QUANTIZED,)
    ensures = Level.QUANTIZED
    must_follow = ("lower_to_quantized",)

    def run(self, graph: Graph, context: Context) -> Result:
        unsigned = [v for n in graph.nodes for v in (*n.operands, *n.outputs) if v.dtype is DType.uint8 and v.quant is not None]
        if not unsigned:
            return Result(graph, False)
        borders = [v for v in (*graph.inputs, *graph.outputs) if v.dtype is DType.uint8 and v.quant is not None]
        if borders:
            return Result(graph, False, (Note(borders[0].name, False, "inputs or outputs are unsigned codes"),))
        constants: dict[Value, Value] = {}

        def visit(new: Rewriter, node: Node) -> Value | None:
            for value in node.operands:
                if value.data is not None and value.quant is not None and value.dtype is DType.uint8 and value not in constants:
                    constants[value] = constant(signed_array(value.data, value.quant), quant=signed(value.quant), name=value.name)
            operands = [None if v is None else constants.get(v, new[v]) for v in node.inputs]
            attrs = dict(node.attrs)
            quant = attrs.get("quant")
            if quant is not None and quant.dtype is DType.uint8:
                attrs["quant"] = signed(quant)
                attrs |= {name: signed_limit(attrs[name], quant) for name in ("qmin", "qmax") if name in attrs}
            elif all(a is b for a, b in zip(operands, node.inputs, strict=True)):
                return None
            return new.op(node.op, *operands, name=node.output.name, **attrs)

        result = rewrite(graph, visit, self.name)
        return Result(result, True, tuple(Note(n.where(), True) for n in graph.nodes if n.output.dtype is DType.uint8))
