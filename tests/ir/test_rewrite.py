"""Use-def queries, rewriting, sharing, dead code, the networkx view."""

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import GraphError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Level, Origin, drop_dead_nodes, rewrite, verify_graph
from support.graphs import random_graph


def chain() -> Graph:
    """x -> neg -> relu -> neg, and relu is returned too."""
    b = GraphBuilder("chain")
    b.origin = Origin("block.0", "net.py:3", ("capture",))
    a = b.op("neg", b.input("x", DType.float32, (3,)))
    r = b.op("relu", a)
    return b.build([b.op("neg", r), r])


def test_uses_producers_and_sole_users():
    graph = chain()
    x, (first, relu, last) = graph.inputs[0], graph.nodes
    assert graph.producer(x) is None and graph.producer(relu.output) is relu
    assert graph.uses(x) == [(first, 0)] and graph.uses(last.output) == []
    assert graph.sole_user(first.output) is relu
    assert graph.sole_user(relu.output) is None  # also an output
    assert graph.is_output(relu.output) and not graph.is_output(x)


def test_a_value_read_twice_by_one_node_has_two_uses():
    b = GraphBuilder()
    x = b.input("x", DType.float32, (3,))
    graph = b.build([b.op("mul", x, x)])
    assert graph.uses(x) == [(graph.nodes[0], 0), (graph.nodes[0], 1)]
    assert graph.sole_user(x) is None


def test_nothing_changed_returns_the_graph_itself():
    graph = chain()
    assert rewrite(graph, lambda r, n: None) is graph
    assert drop_dead_nodes(graph) is graph


def test_rewriting_shares_untouched_nodes_and_keeps_the_old_graph():
    graph = chain()
    before = str(graph)
    new = rewrite(graph, lambda r, n: r.op("abs", r[n.inputs[0]]) if n is graph.nodes[1] else None, "swap")
    verify_graph(new)
    assert [n.op for n in new.nodes] == ["neg", "abs", "neg"]
    assert new.nodes[0] is graph.nodes[0]
    assert new.nodes[1].origin == Origin("block.0", "net.py:3", ("capture", "swap"))
    assert new.nodes[2].origin == graph.nodes[2].origin  # rebuilt only because its operand changed
    assert str(graph) == before and new.inputs == graph.inputs and new.output_names == graph.output_names


def test_a_visitor_may_name_values_of_the_old_graph_that_were_replaced():
    graph = chain()

    def visit(r, node):
        if node is graph.nodes[0]:
            return r.op("abs", node.inputs[0])
        return (
            node.inputs[0] if node is graph.nodes[1] else None
        )  # drops the relu: old name of what is now abs

    new = rewrite(graph, visit)
    verify_graph(new)
    assert [n.op for n in new.nodes] == ["abs", "neg"] and new.outputs[1] is new.nodes[0].output


def test_fusing_at_the_last_node_drops_what_nobody_reads():
    b = GraphBuilder()
    x = b.input("x", DType.float32, (3,))
    graph = b.build([b.op("neg", b.op("neg", x))])
    new = rewrite(graph, lambda r, n: x if n is graph.nodes[1] else None)
    assert new.nodes == () and new.outputs == (x,)


def test_changing_the_level_makes_a_new_graph():
    graph = chain()
    assert rewrite(graph, lambda r, n: None, level=Level.QUANTIZED).level is Level.QUANTIZED


def test_dead_nodes_and_unused_inputs():
    b = GraphBuilder()
    x, y = (b.input(n, DType.float32, (3,)) for n in "xy")
    b.op("neg", y)
    graph = b.build([b.op("relu", x)])
    assert [n.op for n in graph.nodes] == ["relu"] and [v.name for v in graph.inputs] == ["x", "y"]


def test_tied_weights_are_one_value_through_rewrites():
    b = GraphBuilder()
    ids = b.input("ids", DType.int64, (4,))
    table = b.const(np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32), name="embedding")
    hidden = b.op("relu", b.op("gather", table, ids))
    graph = b.build([b.op("linear", hidden, table, None)])
    assert list(graph.constants()) == [table] and len(graph.uses(table)) == 2
    new = rewrite(graph, lambda r, n: r.op("abs", r[n.inputs[0]]) if n.op == "relu" else None)
    assert list(new.constants()) == [table] and len(new.uses(table)) == 2


def test_constants_do_not_copy_and_cannot_be_written():
    data = np.ones((2, 2), np.float32)
    b = GraphBuilder()
    value = b.const(data)
    assert np.shares_memory(value.data, data) and data.flags.writeable
    with pytest.raises(ValueError):
        value.data[0, 0] = 3


def test_names_of_inputs_and_outputs_are_unique():
    b = GraphBuilder()
    x = b.input("x", DType.float32, (3,))
    b.input("x", DType.float32, (3,))
    with pytest.raises(GraphError, match="input names must be unique"):
        b.build([x])
    with pytest.raises(GraphError, match="2 outputs need as many unique names"):
        Graph("g", [x], [], [x, x], ["a", "a"])


def test_networkx_view():
    graph = chain()
    first, relu, last = graph.nodes
    view = graph.to_networkx()
    assert list(networkx.topological_sort(view)) == [first, relu, last]
    assert view.edges[first, relu]["values"] == [first.output]
    b = GraphBuilder()
    y = b.op("relu", b.input("x", DType.float32, (3,)))
    square = b.build([b.op("mul", y, y)])
    assert square.to_networkx().edges[square.nodes[0], square.nodes[1]]["values"] == [y, y]
    assert networkx.immediate_dominators(view, first)[last] is relu


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_rebuilding_every_node_changes_nothing(seed, quantized):
    graph = random_graph(seed, quantized)

    def visit(r, node):
        return r.node(node.op, *[r.get(v) for v in node.inputs], **node.attrs).outputs

    new = rewrite(graph, visit)
    verify_graph(new)
    inputs = [np.random.default_rng(seed).normal(size=(2, 4, 6)).astype(np.float32) for _ in graph.inputs]
    for a, b in zip(run_reference(graph, inputs), run_reference(new, inputs), strict=True):
        assert np.array_equal(a, b, equal_nan=True)
