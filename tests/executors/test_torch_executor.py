"""Running whole graphs: registers, taps, symbolic sizes, gradients, inputs."""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from qcompiler.errors import UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.executors.torch_executor import CACHED_SIZES, TorchExecutor
from qcompiler.ir import DType, Graph, GraphBuilder
from qcompiler.ir.dims import symbol

RNG = np.random.default_rng(0)


def conv_net() -> Graph:
    """conv -> relu -> conv -> add -> clip, with a residual."""
    b = GraphBuilder("net")
    x = b.input("x", DType.float32, (symbol("batch"), 3, 8, 8))
    conv = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    w = [b.const(RNG.normal(size=(3, 3, 3, 3)).astype(np.float32), name=f"w{i}") for i in range(2)]
    y = b.op("relu", b.op("conv", x, w[0], None, **conv))
    z = b.op("conv", y, w[1], None, **conv)
    return b.build([b.op("clip", b.op("add", y, z), min=0.0, max=6.0), z])


def images(batch: int) -> np.ndarray:
    return RNG.normal(size=(batch, 3, 8, 8)).astype(np.float32)


def test_in_place_steps_change_nothing_that_is_read_tapped_or_returned():
    graph, x = conv_net(), images(2)
    seen = {}
    executor = TorchExecutor(graph)
    got = executor.run([x], taps=list(graph.values()), on_value=seen.__setitem__)
    expected = {}
    reference = run_reference(graph, [x], list(graph.values()), expected.__setitem__)
    for a, b in zip(got, reference, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=0, atol=1e-4)
    for node in graph.nodes:
        np.testing.assert_allclose(seen[node.output].numpy(), expected[node.output], rtol=0, atol=1e-4)
    untapped = executor.run([x])
    assert all(torch.equal(a, b) for a, b in zip(got, untapped, strict=True))
    assert np.array_equal(x, seen[graph.inputs[0]].numpy())


def test_taps_come_in_program_order_and_only_those_asked_for():
    graph = conv_net()
    asked = [graph.nodes[3].output, graph.nodes[0].output, graph.inputs[0]]
    order = []
    TorchExecutor(graph).run([images(1)], asked, lambda value, tensor: order.append(value))
    assert order == [graph.inputs[0], graph.nodes[0].output, graph.nodes[3].output]


def test_values_are_freed_after_their_last_use():
    graph, alive = conv_net(), []

    def watch(value, tensor):
        alive.append(weakref.ref(tensor))
        gc.collect()

    TorchExecutor(graph).run(
        [images(1)], [n.output for n in graph.nodes[:2]] + [graph.nodes[4].output], watch
    )
    gc.collect()
    assert alive[0]() is None and alive[1]() is None


def test_symbolic_sizes_rebind_and_the_cache_is_bounded():
    s = symbol("seq")
    b = GraphBuilder()
    x = b.input("x", DType.float32, (2, s, 4))
    tail = b.op("slice", x, axis=1, start=0, stop=s - 1)
    graph = b.build([b.op("reshape", tail, shape=(2 * (s - 1), 4))])
    executor = TorchExecutor(graph)
    for size in range(2, 2 * CACHED_SIZES):
        data = RNG.normal(size=(2, size, 4)).astype(np.float32)
        assert np.array_equal(executor.run([data])[0].numpy(), data[:, :-1].reshape(-1, 4))
    assert len(executor._bound) == CACHED_SIZES


def test_gradients_flow_to_inputs_and_replaced_constants():
    graph = conv_net()
    executor = TorchExecutor(graph, torch.float64, autograd=True)
    weight = next(graph.constants())
    executor.constants[weight] = executor.constants[weight].clone().requires_grad_()
    x = torch.from_numpy(images(1)).double().requires_grad_()
    out = executor.run([x])[0].sum()
    out.backward()
    step = torch.zeros_like(x)
    step[0, 1, 3, 4] = 1e-6
    numeric = (executor.run([x.detach() + step])[0].sum() - executor.run([x.detach() - step])[0].sum()) / 2e-6
    assert abs((x.grad[0, 1, 3, 4] - numeric.detach()).item()) < 1e-4
    assert executor.constants[weight].grad.abs().sum() > 0


def test_results_of_a_run_without_gradients_may_enter_autograd():
    graph = conv_net()
    y = TorchExecutor(graph).run([images(1)])[0]
    assert not y.requires_grad
    w = torch.ones(1, requires_grad=True)
    (y * w).sum().backward()
    assert w.grad is not None


def test_run_node_layer_by_layer_equals_run():
    graph, x = conv_net(), images(2)
    executor = TorchExecutor(graph)
    values = {graph.inputs[0]: torch.from_numpy(x)}
    for node in graph.nodes:
        (values[node.output],) = executor.run_node(
            node, [values.get(v) if v is not None else None for v in node.inputs]
        )
    assert all(torch.equal(values[v], y) for v, y in zip(graph.outputs, executor.run([x]), strict=True))


@pytest.mark.parametrize(
    "arrays, message",
    [
        ([], "takes 1 inputs"),
        ([images(1), images(1)], "takes 1 inputs"),
        ([images(1)[0]], "input 'x' must have shape"),
        ([images(1).astype(np.int64)], "input 'x' must be float32"),
        ([images(1).astype(np.float16)], "input 'x' must be float32"),
    ],
)
def test_wrong_inputs_are_named(arrays, message):
    with pytest.raises(UsageError, match=message):
        TorchExecutor(conv_net()).run(arrays)


def test_constants_share_the_graph_memory_and_stay_untouched():
    graph = conv_net()
    before = {v: v.data.copy() for v in graph.constants()}
    TorchExecutor(graph).run([images(1)])
    assert all(np.array_equal(v.data, a) for v, a in before.items())


def test_low_precision_floats_keep_their_type_and_float64_lifts_them():
    b = GraphBuilder()
    x = b.input("x", DType.float32, (5,))
    half = b.op("cast", x, dtype=DType.bfloat16)
    graph = b.build(
        [b.op("add", half, b.const(np.ones(5), DType.bfloat16)), b.op("cast", half, dtype=DType.float32)]
    )
    data = np.array([1.001, 2.003, -3.14159, 0.1, 7.77], np.float32)
    single, double = TorchExecutor(graph).run([data]), TorchExecutor(graph, torch.float64).run([data])
    assert [t.dtype for t in single] == [torch.bfloat16, torch.float32]
    assert [t.dtype for t in double] == [torch.float64] * 2
    reference = run_reference(graph, [data])
    assert np.array_equal(single[1].numpy(), reference[1])
    assert np.array_equal(single[0].float().numpy(), reference[0].astype(np.float32))
    assert np.array_equal(double[1].numpy(), run_reference(graph, [data], float64=True)[1])
    assert np.array_equal(double[1].numpy(), data.astype(np.float64))


def test_bound_symbolic_module_equals_the_torch_module():
    layer = nn.Linear(4, 3)
    b = GraphBuilder()
    x = b.input("x", DType.float32, (symbol("b"), 4))
    w, bias = b.const(layer.weight.detach().numpy()), b.const(layer.bias.detach().numpy())
    graph = b.build([b.op("linear", x, w, bias)])
    data = torch.randn(6, 4)
    assert torch.equal(TorchExecutor(graph).run([data])[0], layer(data).detach())


def test_a_run_that_goes_on_from_known_values_computes_only_what_is_left():
    graph, x = conv_net(), images(2)
    executor, seen = TorchExecutor(graph), {}
    expected = executor.run([x], taps=list(graph.values()), on_value=seen.__setitem__)
    first, relu, second, add, clip = graph.nodes
    kept = {v: seen[v].clone() for v in (relu.outputs[0], second.outputs[0])}
    computed = []
    got = executor.run([x], list(graph.values()), lambda v, t: computed.append(v), known=kept)
    assert [v for v in computed if graph.producer(v)] == [add.outputs[0], clip.outputs[0]]
    for one, two in zip(got, expected, strict=True):
        assert torch.equal(one, two)
    for value, tensor in kept.items():  # in-place steps leave them alone
        assert torch.equal(tensor, seen[value])
    changed = {relu.outputs[0]: torch.zeros_like(kept[relu.outputs[0]])}
    assert not executor.run([x], known=changed)[1].any()
