"""Dimensions of the graph as index expressions of TVM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sympy
from tvm import tirx

from qcompiler.errors import UnsupportedError
from qcompiler.ir.dims import Dim, Shape, is_symbolic


class Symbols:
    """One int64 variable per symbolic dimension of a graph."""

    def __init__(self, names: Iterable[str]) -> None:
        self.variables: Mapping[str, Any] = {name: tirx.Var(name, "int64") for name in sorted(names)}

    def __call__(self, dim: Dim) -> Any:
        """A Python int where it is known, else an expression.

        Raises:
            UnsupportedError: an expression of a kind that has no integer arithmetic.
        """
        return int(dim) if not is_symbolic(dim) else self._convert(dim)

    def shape(self, shape: Shape) -> tuple[Any, ...]:
        """Every dimension."""
        return tuple(self(d) for d in shape)

    def _convert(self, e: Any) -> Any:
        if e.is_Integer:
            return tirx.const(int(e), "int64")
        if e.is_Symbol:
            return self.variables[e.name]
        if isinstance(e, sympy.floor | sympy.ceiling):
            top, bottom = sympy.fraction(sympy.together(e.args[0]))
            a, b = self._convert(top), self._convert(bottom)
            return tirx.floordiv(a, b) if isinstance(e, sympy.floor) else tirx.floordiv(a + b - 1, b)
        if isinstance(e, sympy.Mod):
            return tirx.floormod(self._convert(e.args[0]), self._convert(e.args[1]))
        parts = [self._convert(a) for a in e.args] if not e.is_Pow else []
        if e.is_Add:
            return _fold(parts, lambda a, b: a + b)
        if e.is_Mul and all(a.is_integer for a in e.args):
            return _fold(parts, lambda a, b: a * b)
        if isinstance(e, sympy.Max):
            return _fold(parts, tirx.max)
        if isinstance(e, sympy.Min):
            return _fold(parts, tirx.min)
        if e.is_Pow and e.args[1].is_Integer and 0 < int(e.args[1]) <= 8:
            return _fold([self._convert(e.args[0])] * int(e.args[1]), lambda a, b: a * b)
        if e.is_Mul:  # an exact quotient
            top, bottom = sympy.fraction(sympy.together(e))
            return tirx.floordiv(self._convert(top), self._convert(bottom))
        raise UnsupportedError(f"dimension {e} has no form in integer arithmetic that TVM could compute")


def _fold(parts: list[Any], join: Any) -> Any:
    result = parts[0]
    for part in parts[1:]:
        result = join(result, part)
    return result


def product_of(dims: Iterable[Any]) -> Any:
    """Product of converted dimensions."""
    total: Any = 1
    for dim in dims:
        total = dim if isinstance(total, int) and total == 1 else total * dim
    return total
