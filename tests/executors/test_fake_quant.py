"""Fake quantization computes what codes stand for, and its gradient is the straight-through estimator."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.executors.fake_quant import FakeQuant, fake_quant_dynamic
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, Graph, GraphBuilder, QuantParams
from qcompiler.ir.ops.quantized import dynamic_codes
from qcompiler.passes.quantize.plan import NodePlan, QuantPlan, WeightCodes

CPU = torch.device("cpu")
RNG = np.random.default_rng(3)


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-6, 1e4), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_equals_quantize_then_dequantize_bitwise(scale, zero, seed):
    quant = QuantParams(DType.uint8, scale, zero)
    codes = np.random.default_rng(seed).uniform(-300, 600, 64)
    codes[:32] = np.round(codes[:32]) + 0.5  # ties
    x = (codes * scale).astype(np.float32)
    got = FakeQuant(quant, x.shape, CPU)(torch.from_numpy(x)).numpy()
    assert np.array_equal(got, quant.dequantize(quant.quantize(x)))


def test_per_channel_and_per_group_equal_the_numpy_definition():
    x = RNG.normal(size=(4, 6)).astype(np.float32)
    channels = QuantParams(DType.int4, np.linspace(0.1, 0.4, 4), np.array([0, 1, -2, 3]), axis=0)
    groups = QuantParams(DType.int8, RNG.uniform(0.01, 0.1, (4, 2)), axis=1, group_size=4)
    for quant in (channels, groups):
        got = FakeQuant(quant, x.shape, CPU)(torch.from_numpy(x)).numpy()
        assert np.array_equal(got, quant.dequantize(quant.quantize(x)))


def test_float64_rounds_the_float32_number():
    quant = QuantParams(DType.int8, 0.1)
    x = torch.tensor([0.25, -0.35, 99.0], dtype=torch.float64)
    got = FakeQuant(quant, (3,), CPU)(x)
    assert got.dtype == torch.float64
    assert np.array_equal(got.numpy(), quant.dequantize(quant.quantize(x.numpy())).astype(np.float64))


def test_gradient_is_one_inside_the_range_and_zero_outside():
    quant = QuantParams(DType.int8, 0.1, 20)
    x = torch.tensor([-20.0, -14.8, -14.84, -14.9, 0.0, 10.7, 10.74, 10.8, 30.0], requires_grad=True)
    FakeQuant(quant, (9,), CPU)(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("granularity", ["tensor", "token"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (0, 4), (2, 0)])
def test_dynamic_equals_the_op_table(granularity, shape):
    for low, high in ((-3, 5), (1, 5), (-5, -1), (0, 0)):
        x = RNG.uniform(low, high, shape).astype(np.float32)
        codes, scale, zero = dynamic_codes(x, granularity)
        expected = (codes.astype(np.int64) - zero).astype(np.float32) * scale
        assert np.array_equal(fake_quant_dynamic(torch.from_numpy(x), granularity).numpy(), expected)
    x = torch.ones(2, 3, requires_grad=True)
    fake_quant_dynamic(x, granularity).sum().backward()
    assert torch.equal(x.grad, torch.ones(2, 3))


def linear_graph() -> Graph:
    """x -> linear -> relu -> linear, the relu also returned."""
    b = GraphBuilder()
    x = b.input("x", DType.float32, (5, 4))
    w1, w2 = (b.const(RNG.normal(size=(4, 4)).astype(np.float32)) for _ in range(2))
    y = b.op("relu", b.op("linear", x, w1, b.const(np.ones(4, np.float32))))
    return b.build([b.op("linear", y, w2), y])


def codes_of(array: np.ndarray) -> WeightCodes:
    quant = QuantParams(DType.int8, np.abs(array).max(1) / 127, np.zeros(len(array), np.int32), axis=0)
    return WeightCodes(quant.quantize(array), quant)


def full_plan(graph: Graph) -> QuantPlan:
    plan = QuantPlan(graph)
    first, relu, second = graph.nodes
    plan.nodes = {
        first: NodePlan("static"), relu: NodePlan("float", reason="fused"), second: NodePlan("static"),
    }  # fmt: skip
    plan.activations = {
        graph.inputs[0]: QuantParams(DType.uint8, 0.03, 120),
        relu.output: QuantParams(DType.uint8, 0.02, 0),
        second.output: QuantParams(DType.uint8, 0.05, 100),
    }
    plan.stored = {graph.inputs[0], relu.output}
    plan.weights = {n: codes_of(n.inputs[1].data) for n in (first, second)}
    plan.biases = {second: np.arange(4, dtype=np.float32)}
    return plan


def rounded(x: np.ndarray, quant: QuantParams) -> np.ndarray:
    return quant.dequantize(quant.quantize(x))


def test_a_static_plan_by_hand():
    graph, x = linear_graph(), RNG.normal(size=(5, 4)).astype(np.float32)
    plan, given = full_plan(graph), x.copy()
    first, relu, second = graph.nodes
    xq = rounded(x, plan.activations[graph.inputs[0]])
    y = np.maximum(xq @ plan.weights[first].real().T + 1, 0)
    yq = rounded(y, plan.activations[relu.output])
    z = yq @ plan.weights[second].real().T + np.arange(4)
    taps = {}
    got = TorchExecutor(graph).run([x], [graph.inputs[0], relu.output], taps.__setitem__, plan)
    np.testing.assert_allclose(got[0].numpy(), z, rtol=0, atol=1e-5)  # real: not in stored
    np.testing.assert_allclose(got[1].numpy(), yq, rtol=0, atol=1e-6)
    assert np.array_equal(taps[graph.inputs[0]].numpy(), xq)
    assert np.array_equal(x, given)


def test_values_outside_stored_are_rounded_only_where_integer_nodes_read_them():
    graph, x = linear_graph(), RNG.normal(size=(5, 4)).astype(np.float32)
    plan = full_plan(graph)
    plan.stored = set()
    relu, second = graph.nodes[1:]
    taps = {}
    out, y = TorchExecutor(graph).run([x], [graph.inputs[0]], taps.__setitem__, plan)
    assert np.array_equal(taps[graph.inputs[0]].numpy(), x)
    yq = rounded(y.numpy(), plan.activations[relu.output])
    assert not np.array_equal(y.numpy(), yq)
    np.testing.assert_allclose(
        out.numpy(), yq @ plan.weights[second].real().T + np.arange(4), rtol=0, atol=1e-5
    )


def test_a_dynamic_node_rounds_its_operand_by_its_own_range():
    graph, x = linear_graph(), RNG.normal(size=(5, 4)).astype(np.float32)
    first, _, second = graph.nodes
    plan = QuantPlan(graph)
    plan.nodes = {first: NodePlan("float"), second: NodePlan("dynamic", granularity="token")}
    plan.weights = {second: codes_of(second.inputs[1].data)}
    out, y = TorchExecutor(graph).run([x], plan=plan)
    codes, scale, zero = dynamic_codes(y.numpy(), "token")
    expected = (codes.astype(np.float32) - zero) * scale @ plan.weights[second].real().T
    np.testing.assert_allclose(out.numpy(), expected, rtol=0, atol=1e-5)


def test_an_empty_plan_is_the_float_run_and_changes_of_a_plan_are_seen():
    graph, x = linear_graph(), RNG.normal(size=(5, 4)).astype(np.float32)
    executor = TorchExecutor(graph)
    plain = executor.run([x])
    assert all(
        torch.equal(a, b) for a, b in zip(plain, executor.run([x], plan=QuantPlan(graph)), strict=True)
    )
    plan = full_plan(graph)
    before = executor.run([x], plan=plan)[0]
    plan.weights[graph.nodes[2]] = codes_of(np.zeros((4, 4), np.float32) + np.eye(4, dtype=np.float32))
    plan.biases.clear()
    after, y = executor.run([x], plan=plan)
    assert not torch.equal(before, after)
    np.testing.assert_allclose(after.numpy(), y.numpy(), atol=1e-6)


def test_gradients_pass_through_a_plan():
    graph = linear_graph()
    x = torch.from_numpy(RNG.normal(size=(5, 4)).astype(np.float32)).requires_grad_()
    executor = TorchExecutor(graph, autograd=True)
    executor.run([x], plan=full_plan(graph))[0].sum().backward()
    assert x.grad.abs().sum() > 0
