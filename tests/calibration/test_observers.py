from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.calibration import (
    Entropy,
    HistogramMSE,
    HistogramObserver,
    MinMax,
    MovingAverage,
    Observation,
    Observer,
    Percentile,
)
from qcompiler.errors import CalibrationError
from qcompiler.ir import DType

EXACT = [
    MinMax(),
    MinMax(axis=1),
    HistogramMSE(bins=64),
    Percentile(bins=2, percentile=90.0),
    Entropy(bins=300),
    HistogramMSE(bins=64, every=3),
]

floats = st.one_of(
    st.floats(-(2.0**127), 2.0**127, width=32),
    st.floats(-1.0, 1.0, width=32),
    st.sampled_from([0.0, -0.0, 6.0, 2.0**-149, -(2.0**-149), 1.5 * 2.0**127, 0.5]),
)
tensors = st.lists(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 3), st.just(2), st.integers(0, 4)), elements=floats),
    max_size=6,
)


def state(observer: Observer) -> dict[str, object]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(observer).items()}


def observed(kind: Observer, stream: list[np.ndarray]) -> Observer:
    observer = kind.fresh()
    for tensor in stream:
        observer.observe(tensor)
    return observer


@pytest.mark.parametrize("kind", EXACT, ids=repr)
@settings(max_examples=60, deadline=None)
@given(stream=tensors, cut=st.integers(0, 6), order=st.randoms(use_true_random=False))
def test_merge_order_and_batching_change_nothing(kind, stream, cut, order):
    """merge(a, b) == observe(a then b) == any order == all in one tensor, in every bit of the state."""
    whole = observed(kind, stream)
    first, second = observed(kind, stream[:cut]), observed(kind, stream[cut:])
    before = state(second)
    first.merge(second)
    assert state(first) == state(whole)
    assert state(second) == before
    shuffled = list(stream)
    order.shuffle(shuffled)
    assert state(observed(kind, shuffled)) == state(whole)
    same_shape = [t for t in stream if t.shape == stream[0].shape]
    if same_shape:
        one = kind.fresh()
        one.observe(Observation(np.concatenate(same_shape), sample_ids=range(len(same_shape))))
        assert state(one) == state(observed(kind, same_shape))


@settings(max_examples=100, deadline=None)
@given(stream=tensors, bins=st.integers(2, 100))
def test_histogram_counts_every_element_in_its_bin(stream, bins):
    observer = observed(HistogramMSE(bins=bins), stream)
    data = np.concatenate([t.ravel() for t in stream]) if stream else np.zeros(0, np.float32)
    assert observer.count == data.size
    assert observer.counts.sum() == data.size
    assert len(observer.counts) <= bins
    if data.size:
        index = np.floor(np.ldexp(data.astype(np.float64), -observer.exponent)) - observer.start
        assert (
            np.bincount(index.astype(int), minlength=len(observer.counts)).tolist()
            == observer.counts.tolist()
        )
        assert (observer.lo, observer.hi) == (data.min(), data.max())
        edges, counts = observer.folded()
        assert counts.sum() == data.size and edges[-1] == np.abs(data).max()


def test_histogram_uses_at_least_half_of_its_bins_on_wide_data():
    for scale in (1e-20, 1e-3, 0.7, 5.0, 1e20):
        observer = HistogramMSE(bins=1024)
        observer.observe(np.linspace(-scale, scale, 999, dtype=np.float32))
        assert 512 <= len(observer.counts) <= 1024


@pytest.mark.parametrize("kind", [*EXACT, MovingAverage()], ids=repr)
def test_empty_observers_and_tensors(kind):
    observer = kind.fresh()
    observer.observe(np.zeros((0, 2, 3), np.float32))
    observer.observe(torch.zeros(4, 2, 0))
    other = kind.fresh()
    observer.merge(other)
    assert observer.count == 0
    with pytest.raises(CalibrationError, match="no element"):
        observer.range(DType.uint8, False)
    other.observe(np.ones((1, 2, 1), np.float32))
    observer.merge(other)
    assert state(observer) == state(other)


@pytest.mark.parametrize("kind", [*EXACT, MovingAverage()], ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_name_tensor_and_sample(kind, bad):
    data = np.zeros((6, 2, 2), np.float32)
    data[4, 1, 0] = bad
    with pytest.raises(CalibrationError, match=r"conv1.*sample 9"):
        kind.fresh().observe(Observation(data, name="conv1", sample_ids=[3, 5, 9]))


def test_merge_of_other_configurations_is_refused():
    with pytest.raises(TypeError, match="configurations differ"):
        MinMax(axis=0).merge(MinMax(axis=1))
    with pytest.raises(TypeError, match="configurations differ"):
        HistogramMSE().merge(Percentile())


def test_channel_count_must_not_change():
    observer = MinMax(axis=1)
    observer.observe(np.zeros((1, 3), np.float32))
    with pytest.raises(CalibrationError, match="4 channels, but earlier tensors of this value had 3"):
        observer.observe(np.zeros((1, 4), np.float32))
    with pytest.raises(CalibrationError, match="axis 1 does not exist"):
        observer.observe(np.zeros(3, np.float32))


def test_min_max_per_channel_and_symmetric():
    observer = MinMax(axis=-1)
    observer.observe(torch.tensor([[1.0, -2.0], [3.0, 5.0]]))
    lo, hi = observer.range(DType.int8, False)
    assert lo.tolist() == [1.0, -2.0] and hi.tolist() == [3.0, 5.0]
    lo, hi = observer.range(DType.int8, True)
    assert lo.tolist() == [-3.0, -5.0] and hi.tolist() == [3.0, 5.0]


def test_scalars_integers_and_double_precision_are_taken():
    observer = MinMax()
    for data in (
        torch.tensor(2.0),
        np.array([-1], np.int64),
        torch.tensor([3.5], dtype=torch.float64),
        torch.tensor(True),
    ):
        observer.observe(data)
    assert observer.range(DType.uint8, False) == (-1.0, 3.5)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.integers(0, 12), st.floats(0.01, 1.0))
def test_moving_average_merges_in_order(maxima, cut, constant):
    def run(values):
        observer = MovingAverage(constant)
        for value in values:
            observer.observe(np.array([value, value + 1.0], np.float32))
        return observer

    a, b, whole = run(maxima[:cut]), run(maxima[cut:]), run(maxima)
    a.merge(b)
    np.testing.assert_allclose(
        a.range(DType.uint8, False), whole.range(DType.uint8, False), rtol=1e-9, atol=1e-9
    )
    data = np.array([[v, v + 1.0] for v in maxima], np.float32)
    batched = MovingAverage(constant)
    batched.observe(Observation(data, sample_ids=range(len(data))))
    assert state(batched) == state(whole)


def test_moving_average_is_a_weighted_mean():
    observer = MovingAverage(0.5)
    for top in (2.0, 4.0):
        observer.observe(np.array([0.0, top], np.float32))
    assert observer.range(DType.uint8, False) == (0.0, pytest.approx((0.25 * 2 + 0.5 * 4) / 0.75))


def test_observers_share_reductions(monkeypatch):
    calls = []
    original = torch.bincount
    monkeypatch.setattr(torch, "bincount", lambda *a, **k: calls.append(1) or original(*a, **k))
    observation = Observation(np.linspace(-1, 1, 100, dtype=np.float32))
    observers: list[HistogramObserver] = [HistogramMSE(), Percentile(), Entropy()]
    for observer in observers:
        observer.observe(observation)
    assert len(calls) == 1
    assert [o.counts.sum() for o in observers] == [100, 100, 100]


@pytest.mark.parametrize(
    "make", [lambda: MovingAverage(0.0), lambda: HistogramMSE(bins=1), lambda: Percentile(percentile=0)]
)
def test_bad_configuration(make):
    with pytest.raises(ValueError):
        make()
