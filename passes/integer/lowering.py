"""The walk over a QUANTIZED program that the rules of `integerize` share.

Every value of the old program has a *form* in the new one: integers with quantization parameters. The form of a
real number is whatever its producer gives: int8 codes, int16 codes, or int32 accumulators. Readers ask for codes of
a type or of given parameters, and rescale once per value and parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qcompiler.calibration import quant_params_from_range
from qcompiler.errors import ConstraintError, GraphError, UnsupportedError
from qcompiler.ir import (
    DType,
    Graph,
    GraphBuilder,
    Level,
    Node,
    QuantParams,
    Rewriter,
    Value,
    constant,
    drop_dead_nodes,
)
from qcompiler.passes.integer.config import IntegerConfig
from qcompiler.passes.integer.measure_ranges import Ranges
from qcompiler.passes.integer.measured_choice import Choices
from qcompiler.passes.integer.rescaling import Profile
from qcompiler.passes.integer.signed_codes import signed
from qcompiler.passes.integer.snap_scales import even_zero_point
from qcompiler.passes.quantize.byte_values import ByteTable, exact_range

Rule = Callable[["Lowering", Node], None]
MOVEMENT = (
    "reshape", "transpose", "expand", "slice", "pad", "gather", "gather_elements", "flip", "max_pool", "reduce_max",
    "reduce_min", "resize",
)  # fmt: skip
"""Ops whose result consists of elements of operand 0, or of zeros."""


class Lowering:
    """Builds the INTEGER program.

    Args:
        graph: level QUANTIZED.
        config: of the pass.
        ranges: of the real values of `graph`.
        choices: between forms of functions.
        profile: of the program; by default as `config` says.
    """

    def __init__(
        self, graph: Graph, config: IntegerConfig, ranges: Ranges, choices: Choices, profile: Profile | None = None
    ) -> None:
        self.source, self.config, self.ranges, self.choices = graph, config, ranges, choices
        self.profile = profile or Profile(config.profile, config.mult_bits)
        self.out = Rewriter(graph, "integerize", Level.INTEGER)
        self.out.inputs = [self._input(v) for v in graph.inputs]
        self._rescaled: dict[tuple[Value, QuantParams], Value] = {}
        self._constants: dict[tuple[Value, QuantParams], Value] = {}
        """Codes of real constants, and of functions of bytes."""
        self.widened: set[Value] = set()
        """Real values that hold more than the codes which the old program rounds them to."""
        self.tables: dict[Value, ByteTable] = {}
        """Real values that are functions of one byte; they become codes when they are read."""
        self._shared: dict[tuple[str, str, bytes], Value] = {}

    def finish(self) -> Graph:
        """The new program."""
        g = self.source
        outputs = [self._output(v) for v in g.outputs]
        return drop_dead_nodes(Graph(g.name, self.out.inputs, self.out.nodes, outputs, g.output_names, Level.INTEGER))

    # -- forms

    def form(self, value: Value | None) -> Value:
        """What stands for a value; a real constant becomes codes of `residual_bits`."""
        assert value is not None
        if value.data is not None and value.dtype.is_float:
            return self.constant(value, self.wide_quant(value))
        if value in self.tables and value not in self.out.replaced:
            self.set_form(value, self._looked_up(value, self.table_quant(value)))
        return self.out[value]

    def set_form(self, value: Value, form: Value) -> None:
        """Let `form` stand for a value of the old program."""
        self.out.replaced[value] = form

    def codes(self, value: Value | None, quant: QuantParams | None = None) -> Value:
        """Codes of a real value: of given parameters, or of any that are no accumulators."""
        assert value is not None
        if quant is not None and value in self.tables:
            return self._looked_up(value, quant)
        form = self.form(value)
        if quant is None:
            if form.quant is not None and form.quant.per_tensor and form.dtype.bits <= 16:
                return form
            quant = self.wide_quant(value)
        if value.data is not None and value.dtype.is_float:
            return self.constant(value, quant)
        return self.rescale(form, quant)

    def codes8(self, value: Value | None) -> Value:
        """int8 codes of a real value, with a fitted range where its form is wider."""
        assert value is not None
        form = self.form(value)
        if form.dtype is DType.int8 and form.quant is not None and form.quant.per_tensor and not value.is_const:
            return form
        return self.codes(value, self.narrow_quant(value))

    def constant(self, value: Value, quant: QuantParams) -> Value:
        """Codes of a real constant."""
        key = (value, quant)
        if key not in self._constants:
            assert value.data is not None
            codes = quant.quantize(value.data.astype(np.float32))
            self._constants[key] = constant(codes, quant=quant, name=value.name)
        return self._constants[key]

    def shared_constant(self, data: np.ndarray, name: str) -> Value:
        """A plain constant; equal ones are one value."""
        key = (name, data.dtype.str, data.tobytes())
        if key not in self._shared:
            self._shared[key] = constant(data, name=name)
        return self._shared[key]

    def wide_quant(self, value: Value) -> QuantParams:
        """Symmetric parameters of `residual_bits` for a value's range, with headroom."""
        low, high = self.ranges.extremes(value)
        factor = 1.0 if value.is_const else self.config.headroom
        dtype = DType[f"int{self.config.residual_bits}"]
        return self.params(low * factor, high * factor, dtype, symmetric=True)

    def narrow_quant(self, value: Value) -> QuantParams:
        """int8 parameters for a value's fitted range."""
        low, high = self.ranges.fitted(value, DType.int8)
        return self.params(low, high, DType.int8)

    def params(self, low: float, high: float, dtype: DType, symmetric: bool = False) -> QuantParams:
        """Parameters that cover a range, with a power of two as scale where the profile needs one."""
        scale, zero_point = quant_params_from_range(low, high, dtype, symmetric)
        if self.profile.power_of_two:
            scale = np.float32(2.0 ** np.ceil(np.log2(float(scale))))
            zero_point = 0 if symmetric else even_zero_point(dtype.min - min(low, 0.0) / float(scale), dtype)
        return QuantParams(dtype, scale, np.int32(zero_point))

    def table_quant(self, value: Value) -> QuantParams:
        """Parameters for a function of one byte: those that lose nothing, else what its readers ask for."""
        exact = exact_range(self.source, value, DType.uint8)  # of int8 codes 128 lower
        return self.result_quant(value) if exact is None else self.params(*exact, DType.int8)

    def _looked_up(self, value: Value, quant: QuantParams) -> Value:
        """Codes of a function of one byte: one table, rounded once."""
        table, key = self.tables[value], (value, quant)
        if key not in self._constants:
            if not np.isfinite(table.real).all():
                raise NoIntegerForm(
                    f"what it reads is computed from the bytes of {table.source.name!r}, and for some of them it is infinite or"
                    " no number: limit its operand first (clamp)"
                )
            entries = constant(quant.quantize(table.real), quant.dtype, name="table")
            source = self.out.get(table.source)
            self._constants[key] = self.op(value, "lookup", source, entries, quant=quant)
        return self._constants[key]

    def result_quant(self, value: Value) -> QuantParams:
        """Parameters in which the producer of a real value should give it.

        Those of its readers if they all quantize it alike, at once or after moving it; else wide ones, as nothing
        is known of its readers.
        """
        asked = self._asked(value)
        if len(asked) == 1 and None not in asked:
            (quant,) = asked
            assert quant is not None
            return quant
        return self.wide_quant(value)

    def _asked(self, value: Value) -> set[QuantParams | None]:
        """Parameters that the readers of a value quantize it with; None for a reader that does something else."""
        if self.source.is_output(value):
            return {None}
        asked: set[QuantParams | None] = set()
        for node, index in self.source.uses(value):
            if node.op == "quantize":
                asked.add(signed(node.attrs["quant"]))
            elif node.op == "matmul" or (node.op == "attention" and index < 3):
                asked.add(self.narrow_quant(value))
            elif node.op == "concat" or (node.op in MOVEMENT and index == 0):
                asked |= self._asked(node.output)
            else:
                asked.add(None)
        return asked

    # -- nodes

    def op(self, like: Value, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        """Append a node named like an old value."""
        return self.out.op(op, *inputs, name=like.name, **attrs)

    def rescale(
        self,
        x: Value,
        quant: QuantParams,
        factor: np.ndarray | None = None,
        limits: tuple[int | None, int | None] = (None, None),
        name: str = "",
    ) -> Value:
        """Codes of `quant` for integers x, by one requantize; x itself where it has these parameters.

        factor: of x's centred integers, by default the ratio of the scales; shape () or [C] along x's channel axis.
        """
        if x.quant == quant and factor is None and limits == (None, None):
            return x
        plain = factor is None and limits == (None, None)
        if plain and (x, quant) in self._rescaled:
            return self._rescaled[x, quant]
        result = requantize(self.out, self.profile, x, quant, factor, limits, name)
        if plain:
            self._rescaled[x, quant] = result
        return result

    def sum(
        self,
        like: Value,
        terms: Sequence[Value],
        factors: Sequence[float],
        quant: QuantParams,
        limits: tuple[int | None, int | None] = (None, None),
    ) -> Value:
        """Codes of a weighted sum of codes: one requantize_sum. factors: real weight of each real operand."""
        scales = [f * float(t.quant.scale) / float(quant.scale) for f, t in zip(factors, terms, strict=True) if t.quant]
        try:
            multipliers, shift = self.profile.sum_factors(scales, [peak(t) for t in terms])
        except ValueError as error:
            raise ConstraintError(f"{self.where()}: {error}. The operands' ranges differ too much; give one a wider range") from None
        return self.op(
            like, "requantize_sum", *terms, quant=quant, rounding=self.profile.sum_rounding, multipliers=multipliers,
            shift=shift, qmin=limits[0], qmax=limits[1],
        )  # fmt: skip

    def where(self) -> str:
        """Module path of the node being lowered."""
        return where(self.out)

    # -- borders

    def _input(self, value: Value) -> Value:
        """A real input becomes codes: of its readers' parameters where they agree, else wide ones."""
        if not value.dtype.is_float:
            return value
        quantized = [node for node, _ in self.source.uses(value) if node.op == "quantize"]
        quant = signed(quantized[0].attrs["quant"]) if quantized else self.wide_quant(value)
        form = Value(quant.dtype, value.shape, quant, value.name)
        self.out.replaced[value] = form
        return form

    def _output(self, value: Value) -> Value:
        """What is returned: accumulators of a product as codes of 8 bits, everything else in the codes it has."""
        form = self.form(value)
        if not value.dtype.is_float or form.quant is None:
            return form
        if form.quant.per_tensor and form.dtype.bits <= 16:
            return form
        return self.rescale(form, self.narrow_quant(value), name=value.name)


def where(b: GraphBuilder) -> str:
    """Module path of the node being built."""
    return b.origin.module or "(top level)"


def requantize(
    b: GraphBuilder,
    profile: Profile,
    x: Value,
    quant: QuantParams,
    factor: np.ndarray | None = None,
    limits: tuple[int | None, int | None] = (None, None),
    name: str = "",
    any_factor: bool = False,
) -> Value:
    """Append a requantize of integers x to `quant`.

    Args:
        b: where to.
        profile: of the program.
        x: codes or accumulators.
        quant: of the result.
        factor: of x's centred integers, by default the ratio of the scales.
        limits: qmin and qmax.
        name: of the result.
        any_factor: factors that are no power of two are taken in any profile, by dyadic multipliers: means over a
            count that is none, constants of the model.

    Raises:
        ConstraintError: a factor that the profile does not have.
    """
    assert x.quant is not None
    real = x.quant.scale.astype(np.float64) / float(quant.scale) if factor is None else np.asarray(factor, np.float64)
    if any_factor and profile.power_of_two and (np.frexp(real)[0] != 0.5).any():
        profile = Profile("dyadic", profile.mult_bits)
    try:
        multiplier, shift = profile.factors(real)
    except ValueError as error:
        raise ConstraintError(
            f"{where(b)}: {error}; profile {profile.rounding} with {profile.mult_bits} bits cannot rescale this layer."
            " Give it a wider range, more multiplier bits, or another profile"
        ) from None
    return b.op(
        "requantize", x, constant(multiplier), constant(shift), quant=quant, rounding=profile.rounding,
        qmin=limits[0], qmax=limits[1], name=name or x.name,
    )  # fmt: skip


def peak(value: Value) -> int:
    """Largest magnitude of a value's codes less their zero point."""
    assert value.quant is not None
    zero = int(value.quant.zero_point)
    return max(value.dtype.max - zero, zero - value.dtype.min)


def refuse(problems: Sequence[str]) -> None:
    """Raise UnsupportedError that lists every op without an integer form."""
    if problems:
        raise UnsupportedError(
            f"{len(problems)} ops have no integer form:\n" + "\n".join(f"  {p}" for p in problems)
            + "\nAn integer program has no floating point anywhere: replace these layers, or compile with a recipe that"
            " lets them stay real (w8a8) for a target that runs float beside integers."
        )  # fmt: skip


class NoIntegerForm(GraphError):
    """An op, or the way it is used here, has no integer form; the message says why."""
