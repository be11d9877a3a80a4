"""Dimensions of torch's shape environment turned into the graph's: `s31` becomes `batch`, `FloorDiv` becomes `floor`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import UnsupportedError
from ..ir.dims import Dim, Shape, normalize, symbol


class DimTranslator:
    """Translates torch's symbolic integers, each expression once.

    Attributes:
        names: torch's symbol name (`s31`) -> the graph's (`batch`), for every symbol that an input's shape binds.
        ranges: torch's symbol -> torch's ValueRanges; settle `Max(0, 64 - seq)` where seq is at most 64.
    """

    def __init__(self, names: Mapping[str, str], ranges: Mapping[Any, Any] | None = None) -> None:
        self.names = names
        self._ranges = dict(ranges or {})
        self._cache: dict[Any, Dim] = {}

    def dim(self, size: Any) -> Dim:
        """An int or torch.SymInt (or its expression) as a dimension.

        Raises:
            UnsupportedError: a size that depends on data (`nonzero`, `item`), not on the inputs' shapes.
        """
        if type(size) is int or isinstance(size, bool):
            return int(size)
        expr = size.node.expr if isinstance(size, torch.SymInt) else size
        if expr not in self._cache:
            self._cache[expr] = normalize(self._translate(expr))
        return self._cache[expr]

    def shape(self, sizes: Any) -> Shape:
        """A torch.Size as a shape."""
        return tuple(size if type(size) is int else self.dim(size) for size in sizes)

    def _translate(self, expr: Any) -> Any:
        import sympy

        if expr.is_Integer:
            return int(expr)
        if expr.is_Symbol:
            if expr.name not in self.names:
                raise UnsupportedError(
                    f"a size ({expr}) depends on the data, not on the shapes of the inputs (as with nonzero, item or"
                    " boolean indexing); give every tensor a size that its inputs' shapes determine"
                )
            return symbol(self.names[expr.name])
        args = [self._translate(a) for a in expr.args]
        name = type(expr).__name__
        if expr.is_Add or expr.is_Mul or expr.is_Pow:
            return expr.func(*args)
        if name in ("FloorDiv", "CleanDiv"):
            return sympy.floor(sympy.sympify(args[0]) / args[1])
        if name in ("Mod", "PythonMod"):
            return sympy.Mod(*args)
        if name in ("Max", "Min"):
            kept = self._extremes(expr.args, name == "Max")
            return getattr(sympy, name)(*(args[i] for i in kept))
        if name in ("CeilToInt", "ceiling", "CeilDiv"):
            return sympy.ceiling(args[0] if len(args) == 1 else sympy.sympify(args[0]) / args[1])
        if name in ("FloorToInt", "TruncToInt", "floor"):  # sizes are positive: truncation is floor
            return sympy.floor(args[0])
        if name in ("IntTrueDiv", "FloatTrueDiv"):
            return sympy.sympify(args[0]) / args[1]
        if name == "ToFloat":
            return args[0]
        raise UnsupportedError(f"a size is computed as {expr}; sizes may use + - * // % min max")

    def _extremes(self, operands: Any, largest: bool) -> list[int]:
        """Operands of Max (or Min) that no other operand always beats."""
        from torch.utils._sympy.value_ranges import bound_sympy

        def beats(i: int, j: int) -> bool:
            difference = operands[i] - operands[j] if largest else operands[j] - operands[i]
            known = all(symbol in self._ranges for symbol in difference.free_symbols)
            return known and bool(bound_sympy(difference, self._ranges).lower >= 0)

        kept = list(range(len(operands)))
        for j in range(len(operands)):
            if any(i != j and beats(i, j) for i in kept):
                kept.remove(j)
        return kept
