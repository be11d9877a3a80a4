"""Dimensions: plain integers, or integer expressions over named symbols (`batch`, `2*seq + 1`, `floor(seq/2)`).

Symbolic expressions are SymPy's, so arithmetic on dimensions is ordinary Python arithmetic. SymPy is imported
only when a symbol occurs. The text form is parsed by a grammar of our own (+ - * // floor Max Min), never by
`eval`: dumps may come from strangers.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Dim: TypeAlias = Any  # int | sympy.Expr; sympy has no types worth importing here
Shape: TypeAlias = tuple[Dim, ...]

# Longest text of one dimension that is parsed.
MAX_TEXT = 4096


def symbol(name: str) -> Dim:
    """A positive integer dimension called `name`.

    Raises:
        ValueError: if the name is no ASCII identifier (its text form would not parse back).
    """
    import sympy

    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        raise ValueError(f"a symbolic dimension needs an identifier, got {name!r}")

    return sympy.Symbol(name, integer=True, positive=True)


def is_symbolic(dim: Dim) -> bool:
    """True unless the dimension is a known integer."""
    return not isinstance(dim, int)


def normalize(dim: Dim) -> Dim:
    """Python int where the value is known, an expanded expression otherwise."""
    if isinstance(dim, int):
        return int(dim)
    if getattr(dim, "is_Integer", False) or not hasattr(dim, "free_symbols"):
        return int(dim)
    import sympy

    expanded = sympy.expand(dim)
    return int(expanded) if expanded.is_Integer else expanded


def same(a: Dim, b: Dim) -> bool:
    """True if the two dimensions are provably equal."""
    return bool(normalize(a) == normalize(b))


def same_shape(a: Shape, b: Shape) -> bool:
    """True if the two shapes have equal rank and provably equal dimensions."""
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def symbols_of(shape: Iterable[Dim]) -> set[str]:
    """Names of all symbols in a shape."""
    return {s.name for d in shape if is_symbolic(d) for s in d.free_symbols}


def substitute(dim: Dim, bindings: Mapping[str, Dim]) -> Dim:
    """The dimension with symbols replaced by values (or other expressions)."""
    if isinstance(dim, int):
        return dim
    return normalize(dim.subs({s: bindings[s.name] for s in dim.free_symbols if s.name in bindings}))


def evaluate(dim: Dim, bindings: Mapping[str, int]) -> int:
    """The integer value of a dimension.

    Raises:
        KeyError: naming the symbol that has no value.
    """
    if isinstance(dim, int):
        return dim
    missing = sorted(s.name for s in dim.free_symbols if s.name not in bindings)
    if missing:
        raise KeyError(f"no value for symbolic dimension {', '.join(missing)}; known: {dict(bindings)}")
    return int(substitute(dim, bindings))


def bind(shape: Shape, actual: tuple[int, ...], bindings: dict[str, int]) -> bool:
    """Match a declared shape against an actual one, adding to `bindings`.

    A plain symbol takes the size; an expression with one unknown symbol is solved for it if it is linear.
    Expressions with several unknowns are left alone: bind again once more symbols are known.
    Returns False where rank or a dimension disagrees (also where a symbol already has another value).
    """
    if len(shape) != len(actual):
        return False
    for dim, size in zip(shape, actual, strict=True):
        if isinstance(dim, int):
            if dim != size:
                return False
        elif dim.is_Symbol:
            if bindings.setdefault(dim.name, size) != size:
                return False
        else:
            unknown = symbols_of((dim,)) - bindings.keys()
            if len(unknown) == 1 and not _solve(dim, unknown.pop(), size, bindings):
                return False
            if symbols_of((dim,)) <= bindings.keys() and evaluate(dim, bindings) != size:
                return False
    return True


def _solve(dim: Dim, name: str, size: int, bindings: dict[str, int]) -> bool:
    """Bind the one unknown of a linear expression; False if it has no non-negative integer solution."""
    rest = substitute(dim, bindings)
    zero, one, two = (substitute(rest, {name: value}) for value in (0, 1, 2))
    slope = one - zero
    if two - one != slope or slope == 0:
        return True
    if (size - zero) % slope or (size - zero) // slope < 0:
        return False
    bindings[name] = (size - zero) // slope
    return True


def product(shape: Iterable[Dim]) -> Dim:
    """Number of elements."""
    total: Dim = 1
    for dim in shape:
        total = total * dim
    return normalize(total)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of two dimensions."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    import sympy

    return normalize(sympy.Max(a, b))


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of two dimensions."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    import sympy

    return normalize(sympy.Min(a, b))


def parse(text: str) -> Dim:
    """Read back what `str()` prints for a dimension.

    Raises:
        ValueError: for anything outside the grammar.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"not a dimension: {len(text)} characters")
    try:
        return normalize(_build(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"not a dimension: {text!r}") from error


def _build(node: ast.expr) -> Dim:
    dim = _build_any(node)
    # Division by zero gives infinities, repeated powers give numbers that fill the memory.
    if dim.is_finite is False or (dim.is_Integer and abs(int(dim)) >= 1 << 63):
        raise ValueError(f"not a dimension: {ast.unparse(node)!r}")
    return dim


def _build_any(node: ast.expr) -> Dim:
    import sympy

    if isinstance(node, ast.Constant) and type(node.value) is int:
        return sympy.Integer(node.value)
    if isinstance(node, ast.Name):
        return symbol(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_build(node.operand)
    if isinstance(node, ast.BinOp):
        a, b = _build(node.left), _build(node.right)
        if isinstance(node.op, ast.Add):
            return a + b
        if isinstance(node.op, ast.Sub):
            return a - b
        if isinstance(node.op, ast.Mult):
            return a * b
        if isinstance(node.op, ast.Div):
            return a / b
        if isinstance(node.op, ast.FloorDiv):
            return sympy.floor(a / b)
        if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant) and b <= 8:
            return a**b
        if isinstance(node.op, ast.Mod):
            return sympy.Mod(a, b)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        known = {
            "floor": sympy.floor,
            "ceiling": sympy.ceiling,
            "Max": sympy.Max,
            "Min": sympy.Min,
            "Mod": sympy.Mod,
        }
        if node.func.id in known:
            return known[node.func.id](*[_build(a) for a in node.args])
    raise ValueError(f"not a dimension: {ast.unparse(node)!r}")
