"""Every rule of the verifier has an example that breaks it."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from qcompiler.errors import GraphError
from qcompiler.ir import DType, Graph, GraphBuilder, Level, Node, Origin, QuantParams, Value, verify_graph
from qcompiler.ir.dims import symbol

U8 = QuantParams(DType.uint8, 0.1, 3)
X = Value(DType.float32, (2, 3), None, "x")


def node(op, inputs, out, attrs=None):
    return Node(op, tuple(inputs), MappingProxyType(attrs or {}), (out,), Origin("encoder.fc", "net.py:7"))


def like(value=X, **changes):
    return replace(value, name="y", **changes)


def relu_into(out):
    return Graph("g", [X], [node("relu", [X], out)], [out])


def test_a_correct_graph_passes_at_its_level():
    verify_graph(relu_into(like()))


@pytest.mark.parametrize(
    "out, message",
    [
        (like(shape=(3, 2)), r"output is .*, its rule gives float32\[2, 3\]"),
        (like(shape=(2, 3, 1)), "its rule gives"),
        (like(dtype=DType.float64), "its rule gives"),
        (like(quant=U8), "its rule gives"),
        (X, "is defined twice"),
    ],
)
def test_outputs_must_be_what_the_rule_gives(out, message):
    with pytest.raises(GraphError, match=message) as error:
        verify_graph(relu_into(out))
    assert "relu at encoder.fc (net.py:7)" in str(error.value)


def test_operands_must_come_earlier():
    a, b = like(), like()
    nodes = [node("relu", [a], b), node("relu", [X], a)]
    with pytest.raises(GraphError, match="not computed before its use"):
        verify_graph(Graph("g", [X], nodes, [b]))


def test_outputs_must_be_computed():
    with pytest.raises(GraphError, match="output 'output_0' is computed by no node"):
        verify_graph(Graph("g", [X], [], [like()]))


def test_a_value_is_defined_once():
    y = like()
    with pytest.raises(GraphError, match="defined twice"):
        verify_graph(Graph("g", [X], [node("relu", [X], y), node("neg", [X], y)], [y]))


def test_operands_are_checked_again():
    y = like()
    with pytest.raises(GraphError, match="do not fit"):
        verify_graph(
            Graph(
                "g",
                [X],
                [
                    node(
                        "linear",
                        [X, Value(DType.float32, (4, 4), data=np.zeros((4, 4), np.float32)), None],
                        y,
                    )
                ],
                [y],
            )
        )


def test_output_count_is_checked():
    y = like()
    broken = Node("relu", (X,), MappingProxyType({}), (y, like()), Origin())
    with pytest.raises(GraphError, match="2 outputs, the op has 1"):
        verify_graph(Graph("g", [X], [broken], [y]))


def test_symbols_must_belong_to_an_input():
    s = symbol("seq")
    y = Value(DType.float32, (s,), None, "y")
    with pytest.raises(GraphError, match="symbols {'seq'} belong to no input"):
        verify_graph(
            Graph("g", [X], [node("full", [], y, {"shape": (s,), "value": 0.0, "dtype": DType.float32})], [y])
        )


@pytest.mark.parametrize(
    "value, message",
    [
        (Value(DType.float32, (2, 3), None, "c", np.zeros((3, 2), np.float32)), "does not fit its type"),
        (Value(DType.float32, (2, 3), None, "c", np.zeros((2, 3), np.float64)), "does not fit its type"),
        (
            Value(DType.int4, (2, 3), QuantParams(DType.int4, 1.0), "c", np.full((2, 3), 9, np.int8)),
            "codes outside its type",
        ),
    ],
)
def test_constants_must_fit_their_type(value, message):
    y = like(value, data=None)
    graph = Graph("g", [X], [node("reshape", [value], y, {"shape": (2, 3)})], [y], level=Level.QUANTIZED)
    with pytest.raises(GraphError, match=message):
        verify_graph(graph)


def test_negative_dimensions_are_refused():
    x = Value(DType.float32, (-2, -3), None, "x")
    with pytest.raises(GraphError, match="negative dimension"):
        verify_graph(Graph("g", [x], [], [x]))
    b = GraphBuilder()
    with pytest.raises(GraphError, match="negative dimension"):
        b.op("reshape", b.input("x", DType.float32, (4,)), shape=(-2, -2))


def quantized_program(rounding="float32_half_even"):
    b = GraphBuilder(level=Level.QUANTIZED)
    codes = b.op("quantize", b.input("x", DType.float32, (2, 3)), quant=U8)
    weight = b.const(np.ones((4, 3), np.int8), quant=QuantParams(DType.int8, 0.2))
    acc = b.op("linear", codes, weight, None)
    if rounding == "float32_half_even":
        factors = (b.const(np.float32(0.3)),)
    else:
        factors = (b.const(np.int64(1)), b.const(np.int64(2)))
    return b.build([b.op("dequantize", b.op("requantize", acc, *factors, quant=U8, rounding=rounding))])


def test_level_float_has_no_quantized_ops_and_values():
    with pytest.raises(GraphError, match="quantize at .* not allowed at level float"):
        verify_graph(quantized_program(), Level.FLOAT)
    x = replace(X, dtype=DType.uint8, quant=U8)
    with pytest.raises(GraphError, match="quantized value at level float"):
        verify_graph(Graph("g", [x], [], [x]))


@pytest.mark.parametrize("rounding", ["float32_half_even", "dyadic", "dyadic_double", "shift_half_even"])
def test_level_quantized_takes_every_profile(rounding):
    verify_graph(quantized_program(rounding))


def integer_program(rounding):
    b = GraphBuilder(level=Level.INTEGER)
    x = b.input("x", DType.uint8, (2, 3), U8)
    acc = b.op("linear", x, b.const(np.ones((4, 3), np.int8), quant=QuantParams(DType.int8, 0.2)), None)
    factors = (
        (b.const(np.float32(0.3)),)
        if rounding == "float32_half_even"
        else (b.const(np.int64(1)), b.const(np.int64(2)))
    )
    return b.build([b.op("requantize", acc, *factors, quant=U8, rounding=rounding)])


@pytest.mark.parametrize("rounding", ["dyadic", "dyadic_double", "shift_half_even"])
def test_level_integer_takes_integer_profiles(rounding):
    verify_graph(integer_program(rounding))


def test_level_integer_has_no_float_anywhere():
    with pytest.raises(GraphError, match="float32 value at level integer"):
        verify_graph(quantized_program("dyadic"), Level.INTEGER)
    with pytest.raises(GraphError, match="float32 value at level integer"):
        verify_graph(integer_program("float32_half_even"))
    b = GraphBuilder(level=Level.INTEGER)
    xs = [b.input(n, DType.uint8, (2,), U8) for n in "ab"]
    y = b.op("requantize_sum", *xs, quant=U8, rounding="float32_half_even", real_multipliers=(1, 1))
    with pytest.raises(
        GraphError, match="rounding float32_half_even is not allowed at level integer; allowed: dyadic"
    ):
        verify_graph(b.build([y]))


def test_quantization_names_the_type_of_its_value():
    x = replace(X, dtype=DType.int8, quant=U8)
    with pytest.raises(GraphError, match="value is int8, its quantization says uint8"):
        verify_graph(Graph("g", [x], [], [x]), Level.QUANTIZED)


@pytest.mark.parametrize(
    "op, attrs, message",
    [
        ("relo", {}, "unknown op 'relo'. Did you mean 'relu'"),
        ("clip", {"mim": 0.0}, "no attribute 'mim'; known: min, max"),
        ("transpose", {}, "attribute 'perm' is missing"),
        ("transpose", {"perm": (0.5, 1)}, "attribute 'perm' must be ints"),
        ("reduce_sum", {"axes": (2,)}, "axis 2 outside rank 2"),
        ("reshape", {"shape": (7,)}, "cannot reshape"),
        ("cast", {"dtype": "float32"}, "attribute 'dtype' must be dtype"),
        ("cast", {"dtype": None}, "attribute 'dtype' must not be None"),
        ("linear", {}, "operand 'w' is missing"),
    ],
)
def test_building_a_wrong_node_says_what_where_and_what_is_allowed(op, attrs, message):
    b = GraphBuilder()
    b.origin = Origin("encoder.fc")
    with pytest.raises(GraphError, match=message):
        b.op(op, b.input("x", DType.float32, (2, 3)), **attrs)


def test_too_many_operands():
    b = GraphBuilder()
    x = b.input("x", DType.float32, (2,))
    with pytest.raises(GraphError, match=r"relu at .*: takes 1 operands \(x\), got 2"):
        b.op("relu", x, x)
