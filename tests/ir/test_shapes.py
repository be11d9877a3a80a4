"""Shape rules on symbolic sizes agree with what the reference bodies compute."""

import numpy as np
import pytest

from qcompiler.errors import GraphError, UsageError
from qcompiler.executors.reference import bind_inputs, run_reference
from qcompiler.ir import DType, GraphBuilder, Origin, verify_graph
from qcompiler.ir.dims import evaluate, same, symbol

B, S = symbol("batch"), symbol("seq")


def check(build, declared, sizes):
    """Build one op on a symbolic input; at every size the declared shape is the computed one."""
    b = GraphBuilder()
    y = build(b, b.input("x", DType.float32, declared))
    graph = b.build([y])
    verify_graph(graph)
    for bindings in sizes:
        shape = tuple(evaluate(d, bindings) for d in declared)
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        got = run_reference(graph, [x])[0].shape
        assert got == tuple(evaluate(d, bindings) for d in y.shape), bindings
    return y


SIZES = [{"batch": 1, "seq": 1}, {"batch": 2, "seq": 4}, {"batch": 3, "seq": 9}]


@pytest.mark.parametrize(
    "bounds",
    [{}, {"start": 1}, {"stop": 1}, {"stop": 3}, {"start": 0, "stop": -1}, {"start": -1}, {"step": 2}, {"start": 1, "step": 3},
     {"stop": S}, {"start": S - 1}, {"start": S // 2}, {"start": -S}, {"stop": -S}],
    ids=str,
)  # fmt: skip
def test_slices_of_a_symbolic_axis(bounds):
    check(lambda b, x: b.op("slice", x, axis=1, **bounds), (B, S, 4), SIZES)


def test_a_table_sliced_to_the_sequence_has_its_length():
    b = GraphBuilder()
    x = b.input("x", DType.float32, (B, S, 4))
    table = b.const(np.arange(64, dtype=np.float32).reshape(16, 4))
    y = b.op("add", x, b.op("slice", table, axis=0, start=0, stop=S))
    graph = b.build([y])
    verify_graph(graph)
    assert y.shape == (B, S, 4)
    got = run_reference(graph, [np.zeros((2, 5, 4), np.float32)])[0]
    assert np.array_equal(got[1], np.arange(20).reshape(5, 4))


@pytest.mark.parametrize(
    "size, start, stop, length",
    [(5, -9, 9, 5), (5, 3, 2, 0), (5, -2, 1 << 63, 2), (0, 0, 3, 0), (5, 7, 9, 0)],
)
def test_slices_of_known_sizes_are_clamped(size, start, stop, length):
    y = check(lambda b, x: b.op("slice", x, axis=0, start=start, stop=stop), (size,), [{}])
    assert y.shape == (length,)


def test_attention_block_with_symbolic_batch_and_sequence():
    def block(b, x):
        heads = [
            b.op("transpose", b.op("reshape", x, shape=(B, S, 2, 4)), perm=(0, 2, 1, 3)) for _ in range(3)
        ]
        scores = b.op("matmul", heads[0], b.op("transpose", heads[1], perm=(0, 1, 3, 2)))
        assert scores.shape == (B, 2, S, S)
        mixed = b.op("matmul", b.op("softmax", scores), heads[2])
        return b.op("reshape", b.op("transpose", mixed, perm=(0, 2, 1, 3)), shape=(B * S, 8))

    y = check(block, (B, S, 8), SIZES)
    assert same(y.shape[0], B * S)


def test_convolutions_and_pools_of_symbolic_images():
    side = symbol("side")
    kernel = np.ones((2, 3, 3, 3), np.float32)
    sizes = [{"batch": 1, "side": n} for n in (5, 6, 7, 8)]
    conv = {"strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    check(lambda b, x: b.op("conv", x, b.const(kernel), None, **conv), (B, 3, side, side), sizes)
    up = conv | {"output_padding": (1, 1)}
    check(
        lambda b, x: b.op("conv_transpose", x, b.const(kernel.swapaxes(0, 1)), None, **up),
        (B, 3, side, side),
        sizes,
    )
    pool = {"kernel": (3, 3), "strides": (2, 2), "pads": (0, 0, 0, 0)}
    for ceil in (False, True):
        check(lambda b, x, ceil=ceil: b.op("max_pool", x, **pool, ceil_mode=ceil), (B, 3, side, side), sizes)


def test_ceil_mode_that_depends_on_the_size_is_refused():
    pool = {"kernel": (2,), "strides": (2,), "pads": (1, 1), "ceil_mode": True}
    b = GraphBuilder()
    with pytest.raises(GraphError, match="needs known sizes"):
        b.op("max_pool", b.input("x", DType.float32, (1, 1, S)), **pool)


@pytest.mark.parametrize("op", ["max_pool", "avg_pool"])
def test_windows_larger_than_the_input_are_refused(op):
    b = GraphBuilder()
    with pytest.raises(GraphError, match="larger than the padded input"):
        b.op(op, b.input("x", DType.float32, (1, 1, 3)), kernel=(4,), strides=(1,), pads=(0, 0))


def test_concat_pad_and_reductions_add_up():
    check(lambda b, x: b.op("concat", x, x, axis=1), (B, S), SIZES)
    check(lambda b, x: b.op("pad", x, pads=(0, 2, 0, 1)), (B, S), SIZES)
    check(lambda b, x: b.op("reduce_mean", x, axes=(1,), keepdims=True), (B, S, 3), SIZES)
    check(lambda b, x: b.op("expand", b.op("reshape", x, shape=(B, 1, S)), shape=(B, 4, S)), (B, S), SIZES)


@pytest.mark.parametrize(("pads", "most"), [((0, 3, 0, 0), 2), ((0, 0, 0, 3), 2), ((0, 2, 0, -1), 1), ((0, -1, 0, 2), 1)])
def test_nothing_is_reflected_twice(pads, most):
    b = GraphBuilder()
    x = b.input("x", DType.float32, (1, 3))
    with pytest.raises(GraphError, match=f"axis 1 has {most + 1} places, which reflect {most} at most"):
        b.op("pad", x, pads=pads, mode="reflect")
    for mode in ("edge", "constant"):
        b.op("pad", x, pads=pads, mode=mode)
    assert b.op("pad", x, pads=(0, 2, 0, 2), mode="reflect").shape == (1, 7)


def test_symbols_that_are_not_provably_equal_do_not_broadcast():
    b = GraphBuilder()
    b.origin = Origin("decoder.layers.0")
    x, y = b.input("x", DType.float32, (B, 4)), b.input("y", DType.float32, (S, 4))
    with pytest.raises(GraphError, match="add at decoder.layers.0: shapes do not broadcast"):
        b.op("add", x, y)
    assert b.op("add", x, b.const(np.ones((1, 4), np.float32))).shape == (B, 4)


def test_inputs_bind_symbols_in_any_order():
    b = GraphBuilder()
    late = b.input("a", DType.float32, (2 * S + B,))
    first = b.input("b", DType.float32, (S, B))
    graph = b.build([b.op("reduce_sum", late), b.op("reduce_sum", first)])
    assert bind_inputs(graph, [(11,), (4, 3)]) == {"seq": 4, "batch": 3}
    with pytest.raises(UsageError, match="input 'a' must have shape"):
        bind_inputs(graph, [(12,), (4, 3)])


def test_gather_refuses_indices_outside_the_table():
    b = GraphBuilder()
    ids = b.input("ids", DType.int64, (2,))
    graph = b.build([b.op("gather", b.const(np.eye(3, dtype=np.float32)), ids)])
    assert np.array_equal(run_reference(graph, [np.array([-1, 0])])[0], np.eye(3)[[2, 0]])
    for bad in (3, -4):
        with pytest.raises(IndexError):
            run_reference(graph, [np.array([0, bad])])
