"""What a case is, and short names for its operands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qcompiler.ir import OPS, DType, Graph, GraphBuilder, Level, QuantParams
from qcompiler.ir.dims import parse


@dataclass(frozen=True)
class Operand:
    """A random operand: actual shape, type, range of elements, and how the graph declares it."""

    shape: tuple[int, ...]
    dtype: DType = DType.float32
    low: float = -2.0
    high: float = 2.0
    declared: tuple[Any, ...] | None = None
    const: bool = False
    values: Any = None
    quant: QuantParams | None = None

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        if self.values is not None:
            return np.array(self.values, self.dtype.numpy).reshape(self.shape)
        if self.dtype is DType.bool:
            return rng.integers(0, 2, self.shape).astype(bool)
        if self.dtype.is_integer:
            low, high = int(self.low), int(self.high)
            return rng.integers(low, high, self.shape, endpoint=True).astype(self.dtype.numpy)
        return rng.uniform(self.low, self.high, self.shape).astype(self.dtype.numpy)


@dataclass(frozen=True)
class OpCase:
    """One op on given operands."""

    op: str
    operands: tuple[Operand | None, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def id(self) -> str:
        return f"{self.op}-{self.name}" if self.name else self.op

    @property
    def quantized(self) -> bool:
        """True if the case needs level QUANTIZED."""
        return any(o is not None and o.quant is not None for o in self.operands) or self.op in (
            "quantize",
            "dynamic_linear",
            "weight_only_linear",
        )

    @property
    def integer(self) -> bool:
        """True if the case needs level INTEGER."""
        return OPS[self.op].category == "integer"

    @property
    def level(self) -> Level:
        """The level of the graph."""
        if self.integer:
            return Level.INTEGER
        return Level.QUANTIZED if self.quantized else Level.FLOAT

    def build(self, seed: int = 0) -> tuple[Graph, list[np.ndarray]]:
        """The graph and arrays for its inputs."""
        rng = np.random.default_rng([seed, *self.id.encode()])
        b = GraphBuilder(self.id, self.level)
        values, arrays = [], []
        for index, operand in enumerate(self.operands):
            if operand is None:
                values.append(None)
                continue
            array = operand.sample(rng)
            if operand.const:
                values.append(b.const(array, operand.dtype, operand.quant, f"c{index}"))
            else:
                shape = operand.shape if operand.declared is None else tuple(map(dim, operand.declared))
                values.append(b.input(f"x{index}", operand.dtype, shape, operand.quant))
                arrays.append(array)
        node = b.node(self.op, *values, **self.attrs)
        return b.build(node.outputs), arrays


def dim(text: Any) -> Any:
    """A dimension given as an integer or in its text form."""
    return parse(text) if isinstance(text, str) else text


def f(*shape: int, low: float = -2.0, high: float = 2.0, **options: Any) -> Operand:
    """Float32 operand."""
    return Operand(shape, DType.float32, low, high, **options)


def w(*shape: int, **options: Any) -> Operand:
    """Float32 constant."""
    return f(*shape, const=True, **options)


def i(*shape: int, low: int = -5, high: int = 5, dtype: DType = DType.int64, **options: Any) -> Operand:
    """Integer operand."""
    return Operand(shape, dtype, low, high, **options)


def t(*shape: int, **options: Any) -> Operand:
    """Bool operand."""
    return Operand(shape, DType.bool, **options)


def q(*shape: int, quant: QuantParams, **options: Any) -> Operand:
    """Codes over the whole range of their type."""
    options = {"low": quant.dtype.min, "high": quant.dtype.max} | options
    return Operand(shape, quant.dtype, quant=quant, **options)


def case(op: str, *operands: Operand | None, name: str = "", **attrs: Any) -> OpCase:
    return OpCase(op, operands, attrs, name)
