"""QONNX: written from quantized programs, read again with the same integers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_models.quantized_models import cnn, conv_attrs, one_linear, requantize, weight

from qcompiler.boundary import dequantize_outputs, quantize_inputs
from qcompiler.errors import UnsupportedError
from qcompiler.executors.reference import run_reference
from qcompiler.frontend.onnx import import_onnx
from qcompiler.imported import bring_in
from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams, constant, verify_graph
from qcompiler.passes.base import Context
from qcompiler.passes.quantize.float_form import rounded_form
from qcompiler.passes.quantize.real_multiplier import range_of_sums, real_multiplier
from qcompiler.targets.onnx.emit_qonnx import DOMAIN, save_qonnx, to_qonnx
from support.integer_programs import integer_program
from support.toy_networks import mobile_network, random_samples


def _back(made: onnx.ModelProto) -> Graph:
    graph, _, _ = bring_in(import_onnx(made), Context(), None, True)
    verify_graph(graph, Level.QUANTIZED)
    return graph


def _codes(graph: Graph) -> set[tuple[bytes, ...]]:
    """Weights and biases with the bits of their scales."""
    constants = [v for v in graph.constants() if v.data is not None and v.dtype.is_integer]
    return {(v.data.tobytes(), b"" if v.quant is None else v.quant.scale.tobytes()) for v in constants}


def test_a_program_comes_back_with_the_same_integers() -> None:
    graph, (image,) = cnn()
    codes = Graph(graph.name, graph.inputs, graph.nodes[:-3], [graph.nodes[-4].output], ["codes"], graph.level)
    again = _back(to_qonnx(codes))
    assert _codes(again) == _codes(codes)
    ops = [n.op for n in again.nodes]
    assert ops == [*(n.op for n in codes.nodes), "dequantize"]  # the file gives real numbers
    wanted = dequantize_outputs(codes, run_reference(codes, [image]))
    assert np.array_equal(run_reference(again, [image])[0], wanted[0])


def test_powers_of_two_are_exact() -> None:
    """An INTEGER program: its real inputs and outputs stand for the same integers, in the real ops themselves too."""
    graph = mobile_network(5)
    program = integer_program(graph, profile="shift_half_even")
    simulated, again = rounded_form(program), _back(to_qonnx(program))
    for sample in random_samples(graph, 3, seed=11, scale=2.0):
        wanted = dequantize_outputs(program, run_reference(program, quantize_inputs(program, sample)))[0]
        assert np.array_equal(run_reference(simulated, sample)[0], wanted)
        assert np.array_equal(run_reference(again, sample)[0], wanted)


@pytest.mark.parametrize("size", [6, 10, 12])
def test_a_mean_of_any_size_is_exact(size: int) -> None:
    """Of 9, 25 and 36 numbers: its dyadic rescaling is one product of real numbers."""
    graph = mobile_network(5, size)
    program = integer_program(graph, profile="shift_half_even")
    assert any(n.op == "requantize" and n.attrs["rounding"] == "dyadic" for n in program.nodes)
    simulated, again = rounded_form(program), _back(to_qonnx(program))
    for sample in random_samples(graph, 3, seed=11, scale=2.0):
        wanted = dequantize_outputs(program, run_reference(program, quantize_inputs(program, sample)))[0]
        assert np.array_equal(run_reference(simulated, sample)[0], wanted)
        assert np.array_equal(run_reference(again, sample)[0], wanted)


@pytest.mark.parametrize("count", [3, 9, 25, 36, 49, 125])
@pytest.mark.parametrize("zero", [-128, 0, 5])
def test_a_factor_rounds_every_sum_as_the_integers_do(count: int, zero: int) -> None:
    out, step = QuantParams(DType.int8, 2.0**-6, zero), 2.0**-5
    multiplier = round(2**30 * step / float(out.scale) / count)
    factor = real_multiplier((-128 * count, 127 * count), step, out, multiplier, 30, "dyadic")
    assert factor is not None
    sums = np.arange(-128 * count, 127 * count + 1)
    wanted = np.clip(((sums * multiplier + (1 << 29)) >> 30) + zero, -128, 127)
    assert np.array_equal(out.quantize((sums * step).astype(np.float32) * factor), wanted)


def test_sums_beyond_float32_have_no_factor() -> None:
    out = QuantParams(DType.int8, 1.0)
    assert real_multiplier((0, 1 << 24), 1.0, out, 1 << 20, 35, "dyadic") is None
    assert real_multiplier((0, 1 << 22), 1.0, out, 1 << 20, 35, "dyadic") is None
    assert range_of_sums(np.array([[1, -2], [3, 0]]), QuantParams(DType.uint8, 1.0, 5), np.array([7, 0])) == (-498, 750)


def test_the_form_that_readers_want(tmp_path) -> None:
    made = onnx.load(save_qonnx(cnn()[0], tmp_path / "model.onnx"))
    (x,) = made.graph.input
    assert x.name == "image" and x.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    convolutions = [n for n in made.graph.node if n.op_type == "Conv"]
    for node in convolutions:
        assert {"dilations", "group", "kernel_shape", "pads", "strides"} == {a.name for a in node.attribute}
    assert [len(n.input) for n in convolutions] == [3, 3, 2]  # biases inside
    quants = [n for n in made.graph.node if n.op_type == "Quant"]
    assert {n.domain for n in quants} == {DOMAIN} and {e.domain for e in made.opset_import} == {"", DOMAIN}
    assert len(quants) == 7 + 4 - 1  # results and input, weights; the last result is real
    shaped = {v.name for v in [*made.graph.value_info, *made.graph.output]}
    assert all(n.output[0] in shaped for n in made.graph.node if n.op_type in ("Conv", "Add", "GlobalAveragePool"))


def test_what_has_no_form_is_refused() -> None:
    rng = np.random.default_rng(0)
    b = GraphBuilder("dynamic", Level.QUANTIZED)
    x = b.input("x", DType.float32, (2, 8))
    with pytest.raises(UnsupportedError, match="own range"):
        to_qonnx(b.build([b.op("dynamic_linear", x, weight(b, rng, (4, 8)))]))
    b = GraphBuilder("groups", Level.QUANTIZED)
    x = b.input("x", DType.float32, (2, 8))
    grouped = QuantParams(DType.int4, np.ones((4, 2)), axis=1, group_size=4)
    with pytest.raises(UnsupportedError, match="groups"):
        to_qonnx(b.build([b.op("weight_only_linear", x, b.const(np.zeros((4, 8), np.int8), quant=grouped))]))
    with pytest.raises(UnsupportedError, match="rounding dyadic"):
        to_qonnx(integer_program(mobile_network(5)))
    b = GraphBuilder("factor", Level.QUANTIZED)
    x = b.input("x", DType.uint8, (1, 4, 6, 6), QuantParams(DType.uint8, 0.02, 7))
    acc = b.op("conv", x, weight(b, rng, (4, 4, 3, 3)), None, **conv_attrs(3))
    twice = b.const((acc.quant.scale / np.float32(0.05) * 2).astype(np.float32))
    y = b.op("requantize", acc, twice, quant=QuantParams(DType.uint8, 0.05), rounding="float32_half_even")
    with pytest.raises(UnsupportedError, match="ratio of its scales"):
        to_qonnx(b.build([y]))


def test_a_bias_that_float32_cannot_hold_is_refused() -> None:
    b = GraphBuilder("bias", Level.QUANTIZED)
    x = b.input("x", DType.float32, (1, 4))
    codes = b.op("quantize", x, quant=QuantParams(DType.uint8, 0.1))
    large = constant(np.array([1 << 23, 0], np.int32))
    w = b.const(np.ones((2, 4), np.int8), quant=QuantParams(DType.int8, 0.1))
    out = requantize(b, b.op("linear", codes, w, large), QuantParams(DType.uint8, 0.1))
    with pytest.raises(UnsupportedError, match="bias"):
        to_qonnx(b.build([out]))


def test_weights_per_tensor() -> None:
    graph, (x,) = one_linear(np.arange(-6, 6, dtype=np.int8).reshape(3, 4))
    again = _back(to_qonnx(graph))
    assert np.array_equal(run_reference(again, [x])[0], run_reference(graph, [x])[0])
