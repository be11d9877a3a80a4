"""The text form is an exact round trip and never runs anything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import GraphError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, QuantParams, parse_graph, print_graph, verify_graph
from qcompiler.ir.dims import symbol
from support.graphs import random_graph

HEADER = 'qcompiler 1 float "g"\n'


def assert_same(a: Graph, b: Graph) -> None:
    assert (a.name, a.level, a.output_names) == (b.name, b.level, b.output_names)
    assert len(a.nodes) == len(b.nodes)
    for m, n in zip(a.nodes, b.nodes, strict=True):
        assert (m.op, dict(m.attrs), m.origin) == (n.op, dict(n.attrs), n.origin)
        for v, w in zip((*m.operands, *m.outputs), (*n.operands, *n.outputs), strict=True):
            assert (v.dtype, v.shape, v.quant) == (w.dtype, w.shape, w.quant)
            assert (v.data is None) == (w.data is None)
            if v.data is not None:
                assert v.data.dtype == w.data.dtype and np.array_equal(v.data, w.data, equal_nan=True)
    assert [v.name for v in a.inputs] == [v.name for v in b.inputs]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_random_graphs_round_trip(seed, quantized):
    graph = random_graph(seed, quantized)
    verify_graph(graph)
    text, arrays = print_graph(graph)
    back = parse_graph(text, arrays)
    verify_graph(back)
    assert_same(graph, back)
    assert print_graph(back)[0] == text
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=(3, 4, 6)).astype(np.float32) for _ in graph.inputs]
    for a, b in zip(run_reference(graph, inputs), run_reference(back, inputs), strict=True):
        assert np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize(
    "data, dtype",
    [
        (np.arange(9, dtype=np.float32), None),
        (np.arange(8, dtype=np.float32), None),
        (np.zeros((0, 3), np.float32), None),
        (np.float32(1e-42), None),
        (np.array([np.nan, np.inf, -np.inf, -0.0], np.float32), None),
        (np.array([2**63 - 1, -(2**63)], np.int64), None),
        (np.array([[True], [False]]), None),
        (np.array([0.1, 65504], np.float16), None),
        (np.array([-8, 7], np.int8), DType.int4),
        (np.array([1.5, -3.0]), DType.bfloat16),
        (np.array(7, np.uint32), None),
    ],
    ids=str,
)
def test_constants_of_every_kind_round_trip(data, dtype):
    b = GraphBuilder()
    value = b.const(data, dtype, name="c")
    graph = b.build([b.op("reshape", value, shape=value.shape)])
    text, arrays = print_graph(graph)
    back = parse_graph(text, arrays)
    assert_same(graph, back)
    data = next(back.constants()).data
    assert np.array_equal(np.signbit(data.astype(np.float64)), np.signbit(value.data.astype(np.float64)))


def test_large_and_shared_arrays_are_stored_once_beside_the_text():
    b = GraphBuilder()
    big = np.arange(100, dtype=np.float32)
    w = b.const(big, name="w")
    x = b.input("x", DType.float32, (100,))
    twin = b.const(w.data, name="w")  # another value over the same array
    graph = b.build([b.op("add", b.op("add", x, w), b.op("mul", x, twin))])
    text, arrays = print_graph(graph)
    assert list(arrays) == ["w"] and arrays["w"] is w.data
    assert text.count("@w") == 2 and "99" not in text


def test_group_scales_and_many_channels_round_trip():
    quant = QuantParams(
        DType.int4, np.linspace(0.1, 1, 12).reshape(2, 6), np.zeros((2, 6)), axis=1, group_size=4
    )
    b = GraphBuilder()
    w = b.const(np.ones((2, 24), np.int8), quant=quant, name="w")
    graph = b.build([b.op("dequantize", w)])
    text, arrays = print_graph(graph)
    assert set(arrays) == {"w", "w.scale", "w.zero_point"}
    assert next(parse_graph(text, arrays).constants()).quant == quant


def test_symbolic_attributes_round_trip():
    s = symbol("seq")
    b = GraphBuilder()
    x = b.input("x", DType.float32, (2, 2 * s + 1))
    cut = b.op("slice", x, axis=1, start=0, stop=2 * s)
    graph = b.build([b.op("reshape", cut, shape=(4, s)), b.op("dim", value=s)])
    back = parse_graph(*print_graph(graph))
    assert_same(graph, back)
    assert back.symbols() == {"seq"}


@pytest.mark.parametrize(
    "line, message",
    [
        ("%y: float32[2] = relu(%nope) {}", "line 3"),
        ("%y: float32[2] = explode(%x) {}", "unknown op 'explode'"),
        ("%y: float32[3] = relu(%x) {}", "the op gives float32"),
        ("%y: float33[2] = relu(%x) {}", "float33"),
        ("%x: float32[2] = relu(%x) {}", "%x is defined twice"),
        ("input %x: float32[2]", "%x is defined twice"),
        ("%y: float32[2] = relu(%x)", "line 3"),
        ("%y: float32[2] = relu(%x) {", "line 3"),
        ("%y: float32[__import__('os')] = relu(%x) {}", "line 3"),
        ("%y: float32[2] = clip(%x) {}", "line 3"),
        ('%y: float32[2] = clip(%x) {"min": [], "max": null}', "attribute 'min' must be float"),
        ("const %c: uint8[1] [300]", "line 3"),
        ("const %c: uint8[2] [1]", "line 3"),
        ('const %c: float32[2] "@missing"', "missing"),
        ("const %c: float32[2] " + "[" * 2000 + "]" * 2000, "line 3"),
        ('const %c: int8[1] [1] {"dtype": "int8", "scale": 0, "zero_point": 0}', "finite and not zero"),
        ('output "o" %nope', "nope"),
        ("what is this", "line 3"),
    ],
)
def test_lines_that_do_not_parse_are_named(line, message):
    with pytest.raises(GraphError, match=message):
        parse_graph(HEADER + "input %x: float32[2]\n" + line + "\n")


@pytest.mark.parametrize("text", ["", "\n", 'qcompiler 2 float "g"', 'qcompiler 1 strange "g"', "garbage"])
def test_a_wrong_header_is_refused(text):
    with pytest.raises(GraphError):
        parse_graph(text)


def test_an_array_of_another_type_is_refused():
    text = HEADER + 'const %c: float32[9] "@c"\noutput "o" %c\n'
    with pytest.raises(GraphError, match="has type float64, expected float32"):
        parse_graph(text, {"c": np.zeros(9)})


def test_input_names_that_cannot_be_printed_are_refused():
    b = GraphBuilder()
    x = b.input("a b", DType.float32, (2,))
    with pytest.raises(GraphError, match="input name 'a b'"):
        print_graph(b.build([b.op("relu", x)]))
