"""Refuse an INTEGER program in which an integer could overflow; note the proven ranges for the report."""

from __future__ import annotations

from pydantic import Field

from qcompiler.errors import ConstraintError
from qcompiler.ir import Graph, Level
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.integer.intervals import Step, analyse, overflow_message

INTERVALS = "intervals"
HELD = ("conv", "linear")
"""Ops that `accumulator_bits` is about."""


class ProveConfig(PassConfig):
    """accumulator_bits: of the products with weights; 25 where float32 has to hold them exactly."""

    accumulator_bits: int = Field(32, ge=8, le=32)


class ProveRanges(Pass):
    """Leaves the analysis in `context.tables["intervals"]`."""

    name = "prove_ranges"
    kind = Kind.EXACT
    requires = (Level.INTEGER,)
    must_follow = ("integerize",)

    def __init__(self, config: ProveConfig | None = None) -> None:
        self.config = config or ProveConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Analyse.

        Raises:
            ConstraintError: a step may overflow.
        """
        analysis = analyse(graph)
        for step in analysis.steps:
            if step.what == "accumulator" and step.node.op in HELD and step.needed > self.config.accumulator_bits:
                raise ConstraintError(
                    overflow_message(step.node, step.what, step.low, step.high, self.config.accumulator_bits)
                )
        context.tables[INTERVALS] = analysis
        return Result(graph, False, tuple(_note(s) for s in analysis.steps))


def _note(step: Step) -> Note:
    figures = {"low": step.low, "high": step.high, "bits_needed": step.needed, "bits": step.bits}
    return Note(step.node.where(), True, step.what, figures)
