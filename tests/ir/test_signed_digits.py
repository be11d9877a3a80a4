"""Codes as sums of few signed powers of two."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qcompiler.errors import GraphError
from qcompiler.ir import DType, QuantParams, parse_graph, print_graph, verify_graph
from qcompiler.ir.signed_digits import codes_of_digits, digit_counts, most_digits, spell
from support.integer_networks import IntegerLayers


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("digits", [1, 2, 3])
def test_codes_are_all_sums_of_so_many_powers(bits: int, digits: int) -> None:
    terms = [0, *(sign << place for place in range(bits - 1) for sign in (1, -1))]
    limit = (1 << bits - 1) - 1
    sums = {sum(chosen) for chosen in itertools.product(terms, repeat=digits)}
    assert codes_of_digits(bits, digits).tolist() == sorted(s for s in sums if abs(s) <= limit)


def test_spelling_adds_up() -> None:
    codes = np.arange(-128, 128).reshape(2, 128)
    needed = most_digits(codes, 8)
    terms = spell(codes, 8, needed)
    assert np.array_equal(terms.sum(-1), codes) and needed == digit_counts(8).max()
    used = np.abs(terms[terms != 0])
    assert (used & used - 1 == 0).all() and used.max() == 64


def test_a_code_of_too_many_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="a code needs 3 signed digits, 2 are given"):
        spell(np.array([64, 43 - 2]), 8, 2)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"digits": 0}, "1 to 3"), ({"digits": 4}, "1 to 3"), ({"dtype": DType.uint8, "digits": 2}, "signed codes")]
)
def test_invalid_formats(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantParams(**{"dtype": DType.int8, "scale": np.float32(1), **arguments})


def linear(codes: list[int], digits: int):
    b = IntegerLayers("few")
    w = b.const(np.array([codes], np.int8), quant=QuantParams(DType.int8, np.float32(0.1), digits=digits))
    return b.graph(b.rescale(b.op("linear", b.codes("x", 1, len(codes)), w, b.bias(1)), len(codes)))


def test_the_format_is_checked_and_kept_in_text() -> None:
    graph = linear([96, -3, 0, 64], 2)
    verify_graph(graph)
    again = parse_graph(*print_graph(graph))
    assert again.nodes[0].inputs[1].quant.digits == 2 and again.nodes[0].inputs[1].quant == graph.nodes[0].inputs[1].quant
    with pytest.raises(GraphError, match="codes of 2 signed digits, its type allows 1"):
        verify_graph(linear([96, -3, 0, 64], 1))
