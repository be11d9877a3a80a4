from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from qcompiler.calibration import (
    ChannelMoments,
    Covariance,
    HistogramMSE,
    MinMax,
    MovingAverage,
    collect,
    load_samples,
)
from qcompiler.calibration.batching import batch_symbol
from qcompiler.calibration.padding import token_axes
from qcompiler.errors import CalibrationError, InternalError
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, GraphBuilder
from qcompiler.ir.dims import symbol
from support.small_graphs import BATCH, SEQ, ReferenceExecutor, encoder, mlp

X = np.random.default_rng(3).normal(size=(20, 3)).astype(np.float32)


def sweep(data, max_batch=32, observers=None, **options):
    graph, hidden, out = mlp()
    requests = {hidden: observers or [MinMax(), HistogramMSE(), ChannelMoments(1)], out: [MinMax(axis=1)]}
    executor = ReferenceExecutor(graph)
    samples = load_samples(data, graph)
    return (
        collect(graph, samples, requests, executor, max_batch=max_batch, **options),
        executor,
        graph,
        hidden,
        out,
    )


def test_statistics_are_those_of_the_whole_data():
    statistics, _, graph, hidden, out = sweep(X)
    expected = X @ graph.producer(hidden).inputs[1].data.T
    assert statistics.samples == 20
    assert statistics.range(hidden, DType.uint8, False, MinMax) == pytest.approx(
        (expected.min(), expected.max())
    )
    assert statistics.get(hidden, HistogramMSE).counts.sum() == expected.size
    np.testing.assert_allclose(statistics.get(hidden, ChannelMoments).mean, expected.mean(0), atol=1e-6)
    np.testing.assert_allclose(
        statistics.range(out, DType.uint8, False)[1], np.maximum(expected, 0).max(0), rtol=1e-6
    )
    with pytest.raises(KeyError, match="no MovingAverage"):
        statistics.get(hidden, MovingAverage)


def test_batching_changes_the_number_of_runs_only():
    one, singly, *_, hidden, out = sweep(X, max_batch=1)
    many, batched, *_, hidden_2, out_2 = sweep(X, max_batch=8)
    assert singly.batches == [1] * 20
    assert sum(batched.batches) == 20 and max(batched.batches) == 8 and batched.batches[0] == 1
    for a, b in ((hidden, hidden_2), (out, out_2)):
        assert np.array_equal(
            one.range(a, DType.int8, False, MinMax), many.range(b, DType.int8, False, MinMax)
        )
    assert np.array_equal(one.get(hidden, HistogramMSE).counts, many.get(hidden_2, HistogramMSE).counts)


def test_ragged_batches_and_empty_samples():
    statistics, executor, _, hidden, _ = sweep([X[:4], X[4:4], X[4:9], X[9:13], X[13:]])
    assert sorted(executor.batches) == [0, 4, 4, 5, 7]
    assert statistics.get(hidden, HistogramMSE).count == 100


def test_fixed_batch_is_never_merged():
    graph, hidden, _ = mlp(batch=2)
    executor = ReferenceExecutor(graph)
    collect(graph, load_samples(X, graph), {hidden: [MinMax()]}, executor)
    assert executor.batches == [2] * 10


def test_progress_counts_samples():
    seen = []
    sweep(X, max_batch=7, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 20), (8, 20), (15, 20), (20, 20)]


def test_merge_of_two_sweeps():
    graph, hidden, out = mlp()
    requests = [{hidden: [HistogramMSE(), Covariance()], out: [MinMax()]} for _ in range(3)]
    parts = [load_samples(X[:8], graph), load_samples(X[8:], graph), load_samples(X, graph)]
    a, b, both = (
        collect(graph, s, r, ReferenceExecutor(graph), max_batch=1)
        for s, r in zip(parts, requests, strict=True)
    )
    merged = a.merge(b)
    assert merged.samples == 20 and a.get(hidden, HistogramMSE).count == 40
    assert np.array_equal(merged.get(hidden, HistogramMSE).counts, both.get(hidden, HistogramMSE).counts)
    assert merged.range(out, DType.uint8, False) == both.range(out, DType.uint8, False)
    np.testing.assert_allclose(
        merged.get(hidden, Covariance).covariance, both.get(hidden, Covariance).covariance
    )


def test_inputs_and_constants_can_be_observed():
    graph, hidden, _ = mlp()
    weight = graph.producer(hidden).inputs[1]
    statistics = collect(
        graph,
        load_samples(X, graph),
        {graph.inputs[0]: [MinMax()], weight: [MinMax(axis=0)]},
        ReferenceExecutor(graph),
    )
    assert statistics.range(graph.inputs[0], DType.int8, False) == (X.min(), X.max())
    assert statistics.get(weight, MinMax).count == weight.data.size


@pytest.mark.parametrize("max_batch", [1, 8])
def test_overflow_in_a_value_names_node_and_sample(max_batch):
    b = GraphBuilder("exploding")
    x = b.input("x", DType.float32, (BATCH, 3))
    value = b.op("exp", x, name="boom")
    graph = b.build([value])
    data = X.copy()
    data[5, 1] = 1000.0
    with (
        np.errstate(over="ignore"),
        pytest.raises(CalibrationError, match="'boom' of exp.*0 NaN and 1 Inf.*sample 5 "),
    ):
        collect(
            graph,
            load_samples(data, graph),
            {value: [MinMax()]},
            ReferenceExecutor(graph),
            max_batch=max_batch,
        )


def test_values_of_another_graph_and_silent_executors_are_errors():
    graph, hidden, _ = mlp()
    samples = load_samples(X, graph)
    with pytest.raises(InternalError, match="not a value"):
        collect(graph, samples, {mlp()[1]: [MinMax()]}, ReferenceExecutor(graph))

    class Silent:
        def run(self, inputs, taps=(), on_value=None):
            return []

    with pytest.raises(InternalError, match="never produced"):
        collect(graph, samples, {hidden: [MinMax()]}, Silent())


def padded_text():
    ids = np.array([[1, 2, 3, 0, 0], [2, 3, 0, 0, 0], [4, 4, 4, 4, 4]])
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    return ids, mask


@pytest.mark.parametrize("max_batch", [1, 8])
def test_padding_is_left_out(max_batch):
    graph, embedded, heads, scores = encoder()
    ids, mask = padded_text()
    table = graph.producer(embedded).inputs[0].data
    kept = table[ids[mask > 0]]
    requests = {
        embedded: [MinMax(), MinMax(axis=-1), HistogramMSE(), Covariance(), MovingAverage(0.5)],
        heads: [MinMax(), ChannelMoments(axis=1)],
        scores: [HistogramMSE()],
    }
    samples = load_samples({"input_ids": ids, "attention_mask": mask}, graph)
    statistics = collect(graph, samples, requests, ReferenceExecutor(graph), max_batch=max_batch)
    assert statistics.range(embedded, DType.int8, False) == (kept.min(), kept.max())
    assert statistics.observers[embedded][1].hi.tolist() == kept.max(0).tolist()
    assert statistics.get(embedded, HistogramMSE).count == kept.size
    assert statistics.get(embedded, Covariance).rows == 10
    np.testing.assert_allclose(
        statistics.get(embedded, Covariance).covariance[0], np.cov(kept.T, bias=True), atol=1e-5
    )
    assert statistics.get(heads, MinMax).count == kept.size
    np.testing.assert_allclose(
        statistics.get(heads, ChannelMoments).mean, kept.reshape(-1, 2, 2).mean((0, 2)), atol=1e-6
    )
    assert statistics.get(scores, HistogramMSE).count == 2 * 10 * 5  # rows of padded queries are left out
    tops = [table[i[m > 0]].max() for i, m in zip(ids, mask, strict=True)]
    average = statistics.get(embedded, MovingAverage).range(DType.int8, False)[1]
    assert average == pytest.approx((0.125 * tops[0] + 0.25 * tops[1] + 0.5 * tops[2]) / 0.875)
    assert "5 of 15 positions are padding" in statistics.notes[0]


def test_token_mask_can_be_switched_off_named_and_is_checked():
    graph, embedded, *_ = encoder()
    ids, mask = padded_text()
    samples = load_samples({"input_ids": ids, "attention_mask": mask}, graph)

    def count(name):
        statistics = collect(
            graph, samples, {embedded: [MinMax()]}, ReferenceExecutor(graph), token_mask=name
        )
        return statistics.get(embedded, MinMax).count

    assert (count(None), count("attention_mask"), count("input_ids")) == (60, 40, 40)
    with pytest.raises(CalibrationError, match="Did you mean 'attention_mask'"):
        count("attn_mask")
    graph, hidden, _ = mlp()
    with pytest.raises(CalibrationError, match="integers or bool"):
        collect(graph, load_samples(X, graph), {hidden: [MinMax()]}, ReferenceExecutor(graph), token_mask="x")


def test_channel_axis_over_padding_is_an_error():
    graph, embedded, *_ = encoder()
    ids, mask = padded_text()
    samples = load_samples({"input_ids": ids, "attention_mask": mask}, graph)
    with pytest.raises(CalibrationError, match="batch or sequence axis with padding"):
        collect(graph, samples, {embedded: [MinMax(axis=1)]}, ReferenceExecutor(graph))


@pytest.mark.parametrize(
    ("shape", "mask", "expected"),
    [
        ((BATCH, SEQ, 8), (BATCH, SEQ), (0, 1)),
        ((BATCH, SEQ), (BATCH, SEQ), (0, 1)),
        ((BATCH, 4, SEQ, 8), (BATCH, SEQ), (0, 2)),
        ((BATCH, 4, SEQ, SEQ), (BATCH, SEQ), (0, 2)),
        ((BATCH, 4, 8, SEQ), (BATCH, SEQ), (0, 3)),
        ((BATCH, 8), (BATCH, SEQ), None),
        ((8, SEQ), (BATCH, SEQ), None),
        ((BATCH,), (BATCH, SEQ), None),
        ((2, 384), (2, 384), None),  # may be pooled features
        ((2, 384, 8), (2, 384), (0, 1)),
        ((2, 12, 384, 64), (2, 384), (0, 2)),
        ((2, 12, 384, 384), (2, 384), None),
    ],
)
def test_token_axes(shape, mask, expected):
    assert token_axes(shape, mask) == expected


def chain(*ops, inputs=((BATCH, 4),)):
    b = GraphBuilder("g")
    values = [b.input(f"x{i}", DType.float32, s) for i, s in enumerate(inputs)]
    for op, attrs in ops:
        values = [b.op(op, *values, **attrs)]
    return b.build(values)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (chain(("relu", {})), "batch"),
        (chain(("reduce_sum", {"axes": (1,)})), "batch"),
        (chain(("reshape", {"shape": (2 * BATCH, 2)})), "batch"),
        (chain(("reduce_sum", {"axes": (0,)})), None),
        (chain(("reduce_sum", {"axes": (-2,), "keepdims": True})), None),
        (chain(("transpose", {"perm": (1, 0)})), None),
        (chain(("softmax", {"axis": 0})), None),
        (chain(("softmax", {"axis": -1})), "batch"),
        (chain(("cumsum", {"axis": -2})), None),
        (chain(("layer_norm", {"axes": 1, "eps": 1e-5})), "batch"),
        (chain(("layer_norm", {"axes": 2, "eps": 1e-5})), None),
        (chain(("flip", {"axes": (0,)})), None),
        (chain(("slice", {"axis": 0, "start": 0, "stop": 1})), None),
        (chain(("add", {}), inputs=((BATCH, 4), (BATCH, 4))), "batch"),
        (chain(("add", {}), inputs=((BATCH, 4), (1, 4))), None),
        (chain(("matmul", {}), inputs=((BATCH, 4), (4, BATCH))), None),
        (chain(("concat", {"axis": 0}), inputs=((BATCH, 4), (BATCH, 4))), None),
        (chain(("relu", {}), inputs=((3, 4),)), None),
        (encoder()[0], "batch"),
    ],
    ids=lambda g: g if isinstance(g, str) or g is None else "-".join(n.op for n in g.nodes),
)
def test_samples_are_merged_only_where_they_stay_apart(graph, expected):
    assert batch_symbol(graph) == expected


@pytest.mark.parametrize("form", ["list of views", "generator", "compressed npz"])
def test_peak_memory_does_not_grow_with_the_number_of_samples(form, tmp_path):
    """A value of 1 MB per sample, 9 and 40 samples: the same peak within 10 %."""
    width = symbol("width")
    b = GraphBuilder("wide")
    x = b.input("x", DType.float32, (BATCH, width))
    value = b.op("relu", x, name="value")
    graph = b.build([value])
    row = np.random.default_rng(0).normal(size=(1, 1 << 18)).astype(np.float32)
    np.savez_compressed(tmp_path / "zeros.npz", x=np.zeros((40, 1 << 18), np.float32))
    np.savez_compressed(tmp_path / "few.npz", x=np.zeros((9, 1 << 18), np.float32))

    def data(count):
        if form == "generator":
            return (row + i for i in range(count))
        if form == "list of views":
            return [np.broadcast_to(row, row.shape) for _ in range(count)]
        return tmp_path / ("few.npz" if count == 9 else "zeros.npz")

    def peak(count):
        tracemalloc.start()
        samples = load_samples(data(count), graph)
        observers = [MinMax(), HistogramMSE(), ChannelMoments(axis=None)]
        collect(graph, samples, {value: observers}, ReferenceExecutor(graph), max_batch=4)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(2)
    few, many = peak(9), peak(40)
    assert many < 1.1 * few, (few, many)


def test_torch_executor_gives_the_statistics_of_the_reference():
    graph, embedded, heads, scores = encoder()
    ids, mask = padded_text()
    samples = load_samples({"input_ids": ids, "attention_mask": mask}, graph)
    results = []
    for executor in (ReferenceExecutor(graph), TorchExecutor(graph)):
        requests = {v: [MinMax(), HistogramMSE(), ChannelMoments(axis=-1)] for v in (embedded, heads)}
        results.append(collect(graph, samples, requests, executor))
    for value in (embedded, heads):
        a, b = (r.observers[value] for r in results)
        assert a[0].range(DType.int8, False) == b[0].range(DType.int8, False)
        assert np.array_equal(a[1].counts, b[1].counts)
        np.testing.assert_allclose(a[2].mean, b[2].mean, atol=1e-6)


def test_channels_last_tensors_are_observed_alike():
    plain = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    last = plain.to(memory_format=torch.channels_last)
    for kind in (MinMax(), MinMax(axis=1), HistogramMSE(), ChannelMoments(1)):
        a, b = kind.fresh(), kind.fresh()
        a.observe(plain)
        b.observe(last)
        for name, found in vars(a).items():
            if found is not None:
                np.testing.assert_allclose(found, vars(b)[name], rtol=1e-6, atol=1e-6)
