"""Symbolic dimensions as ONNX tensors: a dimension is computed from the shapes of the graph inputs at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Dim, Shape
from qcompiler.ir.dims import is_symbolic, symbols_of

if TYPE_CHECKING:
    from .emitter import Emitter


class DimEmitter:
    """Emits each symbolic expression once; values are int64 vectors of length 1."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.known: dict[str, str] = {}

    def vector(self, shape: Shape) -> str:
        """The shape as an int64 vector."""
        e = self.emitter
        if not any(is_symbolic(d) for d in shape):
            return e.ints([int(d) for d in shape])
        return e.op("Concat", *[self.one(d) for d in shape], axis=0) if len(shape) > 1 else self.one(shape[0])

    def scalar(self, dim: Dim) -> str:
        """The dimension as an int64 scalar."""
        e = self.emitter
        if not is_symbolic(dim):
            return e.const(np.asarray(int(dim), np.int64))
        return e.op("Squeeze", self.one(dim), e.ints([0]))

    def one(self, dim: Dim) -> str:
        """The dimension as an int64 vector of length 1."""
        if not is_symbolic(dim):
            return self.emitter.ints([int(dim)])
        key = str(dim)
        if key not in self.known:
            self.known[key] = self._compute(dim)
        return self.known[key]

    def _compute(self, dim: Dim) -> str:
        import sympy

        if dim.is_Symbol:
            return self._symbol(dim)
        if dim.is_Add:
            return self._fold("Add", dim.args)
        if dim.is_Mul:
            if not all(a.is_integer for a in dim.args):
                return self._floor(dim)
            return self._fold("Mul", dim.args)
        if dim.is_Pow and dim.exp.is_Integer and dim.exp > 0:
            return self._fold("Mul", [dim.base] * int(dim.exp))
        if isinstance(dim, sympy.floor):
            return self._floor(dim.args[0])
        if isinstance(dim, sympy.ceiling):
            return self.emitter.op("Neg", self._floor(-dim.args[0]))
        if isinstance(dim, sympy.Max | sympy.Min):
            return self._fold("Max" if isinstance(dim, sympy.Max) else "Min", dim.args)
        if isinstance(dim, sympy.Mod):
            return self._fold("Mod", dim.args)
        raise UnsupportedError(f"the dimension {dim} has no ONNX form; allowed: + - * // % Max Min floor ceiling")

    def _fold(self, op_type: str, args: object) -> str:
        from qcompiler.ir.dims import normalize

        names = [self.one(normalize(a)) for a in args]  # type: ignore[attr-defined]
        result = names[0]
        for name in names[1:]:
            result = self.emitter.op(op_type, result, name)
        return result

    def _floor(self, ratio: Dim) -> str:
        """floor(a / b), b > 0, for integer expressions a and b: (a - a mod b) / b, as ONNX Div truncates."""
        import sympy

        from qcompiler.ir.dims import normalize

        numerator, denominator = sympy.fraction(sympy.together(ratio))
        a, b = self.one(normalize(numerator)), self.one(normalize(denominator))
        e = self.emitter
        return e.op("Div", e.op("Sub", a, e.op("Mod", a, b)), b)

    def _symbol(self, symbol: Dim) -> str:
        """A symbol's value, from an input dimension that is it, or a linear function of it."""
        import sympy

        from qcompiler.ir.dims import normalize

        e = self.emitter
        candidates = [
            (value, axis, dim)
            for value in e.graph.inputs
            for axis, dim in enumerate(value.shape)
            if symbols_of((dim,)) == {symbol.name}
        ]
        candidates.sort(key=lambda c: not c[2].is_Symbol)
        for value, axis, dim in candidates:
            size = e.op("Shape", value, start=axis, end=axis + 1)
            if dim.is_Symbol:
                return size
            slope = sympy.diff(dim, symbol)
            if slope.is_Integer and slope > 0:
                offset = normalize(dim - slope * symbol)
                return e.op("Div", e.op("Sub", size, e.ints([offset])), e.ints([int(slope)]))
        raise UnsupportedError(
            f"symbolic dimension {symbol} cannot be found from the input shapes"
            f" {[f'{v.name}{list(v.shape)}' for v in e.graph.inputs]}"
        )
