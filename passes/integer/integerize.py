"""QUANTIZED to INTEGER: real islands become integer ops, every requantize gets the program's profile.

    codes        uint8 codes become int8 codes, 128 lower
    borders      the inputs and outputs of the program are codes; quantizing and dequantizing them is the caller's
    requantize   multiplier and shift of the profile instead of a real factor
    real values  int16 codes with a measured range; int8 where their readers quantize them anyway
    bytes        real functions of one byte of an 8-bit input: a table, in the parameters that each reader asks for
    real ops     one rule each, in the `rules_*` modules; choices by comparison of one value are functions of it

Ops without a rule are collected and refused together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import DType, Graph, Level, Node, QuantParams, Value
from qcompiler.passes.base import Context, Kind, Pass, Result
from qcompiler.passes.integer import rules_attention, rules_functions, rules_layers, rules_norm
from qcompiler.passes.integer.conditional_functions import conditionals, only_within
from qcompiler.passes.integer.config import IntegerConfig
from qcompiler.passes.integer.lowering import Lowering, NoIntegerForm, Rule, refuse
from qcompiler.passes.integer.measure_ranges import measure_ranges
from qcompiler.passes.integer.measured_choice import Choices
from qcompiler.passes.integer.rescaling import Profile
from qcompiler.passes.quantize.byte_values import byte_table

RULES: dict[str, Rule] = {
    **rules_layers.RULES,
    **rules_functions.RULES,
    **rules_norm.RULES,
    **rules_attention.RULES,
}
MEASURED = ("softmax", "attention", "layer_norm", "rms_norm")
"""Ops whose integer forms are chosen by their error on what their operands were for some samples."""


class Integerize(Pass):
    """See the module docstring."""

    name = "integerize"
    kind = Kind.LOSSY
    requires = (Level.QUANTIZED,)
    ensures = Level.INTEGER
    must_follow = ("lower_to_quantized",)

    def __init__(self, config: IntegerConfig | None = None) -> None:
        self.config = config or IntegerConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Lower.

        Raises:
            UnsupportedError: ops without an integer form, all of them.
            ConstraintError: a rescale factor that the profile does not have.
            UsageError: ranges are needed and there is no calibration data.
        """
        choices_of_one = conditionals(graph)
        gone = only_within(graph, choices_of_one)
        refuse([f"{n.where()}: {why}" for n in graph.nodes if n not in gone and (why := why_not(n))])
        shown = list(dict.fromkeys([*shown_values(graph), *(f.source for f in choices_of_one.values())]))
        ranges = measure_ranges(graph, real_values(graph), shown, context, self.config.samples)
        choices = Choices((context.locked or {}).get(self.name))
        lowering = Lowering(graph, self.config, ranges, choices, profile_for(self.config, context.target))
        problems = []
        for node in graph.nodes:
            lowering.out.origin = node.origin
            try:
                if (found := choices_of_one.get(node)) is not None and byte_table(graph, node.output) is None:
                    rules_functions.function(lowering, node, found.source, found)
                elif node not in gone:
                    lower_node(lowering, node)
            except NoIntegerForm as problem:
                problems.append(f"{node.where()}: {problem}")
                for value in node.outputs:  # so that what reads it can be looked at as well
                    lowering.out.replaced[value] = _stand_in(value)
        refuse(problems)
        if choices.made:
            context.decisions[self.name] = choices.made
        return Result(lowering.finish(), True, tuple(choices.notes))


def profile_for(config: IntegerConfig, target: Any) -> Profile:
    """The profile of a program: the recipe's, with multipliers no wider than the target's."""
    if target is None:
        return Profile(config.profile, config.mult_bits)
    bits = min(config.mult_bits, target.mult_bits)
    return Profile(config.profile, bits, target.can("one_shift_per_layer"))


def is_real(node: Node) -> bool:
    """True if a node reads or gives real numbers or codes, not just indices and truth values."""
    return any(v.dtype.is_float or v.quant is not None for v in (*node.operands, *node.outputs))


def why_not(node: Node) -> str:
    """Why a node has no integer form, "" if it may have one."""
    if node.op in RULES or not is_real(node) or rules_functions.is_function(node):
        return ""
    return "no integer form is known"


def lower_node(lowering: Lowering, node: Node) -> None:
    """Apply the rule of a node; ops on indices and truth values are kept."""
    table = byte_table(lowering.source, node.output) if len(node.outputs) == 1 else None
    if table is not None:
        lowering.tables[node.output] = table
    elif is_real(node):
        rule = RULES.get(node.op, rules_functions.function)
        rule(lowering, node)
    else:
        for old, new in zip(node.outputs, lowering.out.keep(node), strict=True):
            if old is not new:
                lowering.out.replaced[old] = new


def real_values(graph: Graph) -> list[Value]:
    """Real values that computation may have to hold as integers."""
    found = []
    for value in graph.values():
        if value.is_const or not value.dtype.is_float:
            continue
        readers = graph.uses(value)
        only_quantized = readers and all(n.op == "quantize" for n, _ in readers) and not graph.is_output(value)
        if not only_quantized:
            found.append(value)
    return found


def shown_values(graph: Graph) -> list[Value]:
    """Operands of the nonlinear functions: their arrays are kept for some samples."""
    nodes = [n for n in graph.nodes if n.op in MEASURED or (is_real(n) and rules_functions.is_function(n))]
    return list(dict.fromkeys(v for n in nodes for v in n.operands if not v.is_const))


def _stand_in(value: Value) -> Value:
    """Codes of any parameters, for a value that is not computed after all."""
    if not value.dtype.is_float:
        return value
    return Value(DType.int8, value.shape, QuantParams(DType.int8, np.float32(1)), value.name)
