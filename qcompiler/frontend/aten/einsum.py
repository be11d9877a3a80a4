"""einsum as transposes and one matmul per pair of operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...ir import Value
from ...ir.dims import product
from ..context import Context, Refusal
from .shape_ops import diagonal_of

Term = list[str]


def einsum(c: Context, equation: str, tensors: Sequence[Value], path: Any = None) -> Value:
    """Contract the operands from left to right; an index is summed as soon as nobody after needs it."""
    terms, output = _letters(equation, [len(t.shape) for t in tensors])
    operands = [_take_diagonals(c, t, term) for t, term in zip(tensors, terms, strict=True)]
    value, term = operands[0]
    for i, (other, other_term) in enumerate(operands[1:], 1):
        later = {s for _, t in operands[i + 1 :] for s in t} | set(output)
        kept = [s for s in dict.fromkeys([*term, *other_term]) if s in later]
        value, term = _pair(c, (value, term), (other, other_term), kept), kept
    if len(operands) > 1 and term == output:
        return value
    return _sum_permute(c, value, term, output)


def _take_diagonals(c: Context, x: Value, term: Term) -> tuple[Value, Term]:
    """The operand without repeated indices: `ii` is a diagonal."""
    while len(set(term)) != len(term):
        letter = next(s for s in term if term.count(s) > 1)
        first = term.index(letter)
        second = term.index(letter, first + 1)
        x = diagonal_of(c, x, 0, first, second)
        term = [s for i, s in enumerate(term) if i not in (first, second)] + [letter]
    return x, term


def _pair(c: Context, left: tuple[Value, Term], right: tuple[Value, Term], output: Term) -> Value:
    """Contract two operands; indices of both that the output lacks are summed by the matmul."""
    (x, a), (y, b) = left, right
    sizes: dict[str, Any] = {}
    for term, t in ((a, x), (b, y)):
        for letter, size in zip(term, t.shape, strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
    a_kept = [s for s in a if s in b or s in output]
    b_kept = [s for s in b if s in a or s in output]
    x, y = _sum_permute(c, x, a, a_kept), _sum_permute(c, y, b, b_kept)
    batch = [s for s in a_kept if s in b_kept and s in output]
    inner = [s for s in a_kept if s in b_kept and s not in output]
    rows, columns = [s for s in a_kept if s not in b_kept], [s for s in b_kept if s not in a_kept]
    x = _merge(c, _sum_permute(c, x, a_kept, batch + rows + inner), sizes, len(batch), [rows, inner])
    y = _merge(c, _sum_permute(c, y, b_kept, batch + inner + columns), sizes, len(batch), [inner, columns])
    result = c.reshape(c.op("matmul", x, y), [sizes[s] for s in batch + rows + columns])
    return _sum_permute(c, result, batch + rows + columns, output)


def _letters(equation: str, ranks: Sequence[int]) -> tuple[list[Term], Term]:
    """Index letters of the operands and of the result; an ellipsis becomes digits, counted from its right end."""
    equation = equation.replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    hidden = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)]
    longest = max(hidden)
    if longest > 9:
        raise Refusal(f"einsum {equation!r}: an ellipsis of more than 9 axes")
    left = []
    for term, count in zip(terms, hidden, strict=True):
        head, dots, tail = term.partition("...")
        left.append([*head, *(str(longest - count + i) for i in range(count if dots else 0)), *tail])
    if not arrow:
        letters = inputs.replace(",", "").replace("...", "")
        output = "..." * ("..." in inputs) + "".join(s for s in sorted(set(letters)) if letters.count(s) == 1)
    head, dots, tail = output.partition("...")
    return left, [*head, *(str(i) for i in range(longest if dots else 0)), *tail]


def _sum_permute(c: Context, x: Value, term: Sequence[str], target: Sequence[str]) -> Value:
    """Sum over the indices that the target lacks, then order the axes as it has them."""
    gone = [i for i, s in enumerate(term) if s not in target]
    if gone:
        x = c.op("reduce_sum", x, axes=gone)
        term = [s for s in term if s in target]
    return c.transpose(x, [list(term).index(s) for s in target])


def _merge(c: Context, x: Value, sizes: dict[str, Any], batch: int, groups: Sequence[Sequence[str]]) -> Value:
    """[batch..., product of each group]; batch axes of size 1 stay 1, to be broadcast."""
    return c.reshape(x, [*x.shape[:batch], *(product([sizes[s] for s in group]) for group in groups)])


CONVERTERS: dict[str, Callable[..., Any]] = {"aten.einsum.default": einsum}
