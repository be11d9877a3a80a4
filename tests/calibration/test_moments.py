from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.calibration import ChannelMoments, ConvInput, Covariance, LinearInput, Observation
from qcompiler.errors import CalibrationError

CONVS = [
    ConvInput((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ConvInput((3, 2), (2, 1), ((0, 1), (2, 0)), (2, 1), groups=2),
    ConvInput((2, 2), (1, 2), ((0, 0), (0, 0)), (1, 1), groups=4),
    ConvInput((3,), (2,), ((1, 0),), (1,), groups=2),
]


def data(rank: int, samples: int = 3, channels: int = 4) -> np.ndarray:
    rng = np.random.default_rng(5)
    shape = (samples, channels, *(6 + i for i in range(rank)))
    return (rng.normal(size=shape) * np.arange(1, channels + 1).reshape(1, -1, *[1] * rank) + 3).astype(
        np.float32
    )


def patches(x: np.ndarray, conv: ConvInput) -> list[np.ndarray]:
    """Rows per group by explicit loops over output positions."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *conv.padding])
    spans = [(k - 1) * d + 1 for k, d in zip(conv.kernel, conv.dilation, strict=True)]
    out = [(n - span) // s + 1 for n, span, s in zip(x.shape[2:], spans, conv.stride, strict=True)]
    width = x.shape[1] // conv.groups
    rows = [[] for _ in range(conv.groups)]
    for n in range(x.shape[0]):
        for at in np.ndindex(*out):
            window = tuple(
                slice(i * s, i * s + span, d)
                for i, s, span, d in zip(at, conv.stride, spans, conv.dilation, strict=True)
            )
            for g in range(conv.groups):
                rows[g].append(x[(n, slice(g * width, (g + 1) * width), *window)].ravel())
    return [np.array(r) for r in rows]


@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_convolution_covariance_is_that_of_its_patches(conv):
    x = data(len(conv.kernel))
    observer = Covariance(conv)
    observer.observe(x[:1])
    observer.observe(Observation(x[1:], sample_ids=(1, 2)))
    for group, rows in enumerate(patches(x, conv)):
        assert observer.rows == len(rows)
        np.testing.assert_allclose(observer.mean[group], rows.mean(0), atol=1e-5)
        np.testing.assert_allclose(observer.covariance[group], np.cov(rows.T, bias=True), atol=2e-4)
        np.testing.assert_allclose(
            observer.second_moment[group], rows.T @ rows / len(rows), rtol=1e-5, atol=1e-3
        )


@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_patch_order_is_that_of_the_weight(conv):
    """E[(w.x)^2] from the second moment equals the mean square output of the convolution itself."""
    x = data(len(conv.kernel))
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(2 * conv.groups, 4 // conv.groups, *conv.kernel)).astype(np.float32)
    padded = np.pad(x, [(0, 0), (0, 0), *conv.padding])
    function = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}[len(conv.kernel)]
    out = function(
        torch.from_numpy(padded), torch.from_numpy(weight), None, conv.stride, 0, conv.dilation, conv.groups
    )
    expected = out.double().square().transpose(0, 1).flatten(1).mean(1).reshape(conv.groups, 2).numpy()
    observer = Covariance(conv)
    observer.observe(x)
    w = weight.reshape(conv.groups, 2, -1)
    got = np.einsum("gok,gkl,gol->go", w, observer.second_moment, w)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=6),
    st.integers(0, 6),
    st.floats(-1000, 1000),
)
def test_merge_is_observing_both(shapes, cut, offset):
    rng = np.random.default_rng(len(shapes))
    stream = [(rng.normal(size=(b, s, 3)) + offset).astype(np.float32) for b, s in shapes]

    def run(kind, tensors):
        for tensor in tensors:
            kind.observe(tensor)
        return kind

    rows = np.concatenate([t.reshape(-1, 3) for t in stream]).astype(np.float64)
    for make in (lambda: ChannelMoments(axis=-1), lambda: Covariance(LinearInput())):
        a, b, whole = run(make(), stream[:cut]), run(make(), stream[cut:]), run(make(), stream)
        a.merge(b)
        assert a.count == whole.count == rows.size
        if not rows.size:
            with pytest.raises(CalibrationError):
                _ = a.mean
            continue
        spread = 1e-6 * max(1.0, abs(offset))
        np.testing.assert_allclose(a.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(a.mean.ravel(), rows.mean(0), atol=spread)
        if isinstance(a, ChannelMoments):
            np.testing.assert_allclose(a.variance, whole.variance, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(a.variance, rows.var(0), rtol=1e-4, atol=spread)
            np.testing.assert_allclose(a.mean_square, (rows**2).mean(0), rtol=1e-5, atol=spread)
        else:
            np.testing.assert_allclose(a.covariance, whole.covariance, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(a.covariance[0], np.cov(rows.T, bias=True), rtol=1e-4, atol=spread)


def test_large_mean_costs_no_digits():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(8, 2, 500)) * 1e-2 + np.array([1e3, -1e3]).reshape(1, 2, 1)).astype(np.float32)
    observer = ChannelMoments(axis=1)
    for tensor in x:
        observer.observe(tensor[None])
    np.testing.assert_allclose(observer.variance, x.astype(np.float64).var((0, 2)), rtol=1e-3)


def test_whole_tensor_and_vector_moments():
    observer = ChannelMoments(axis=None)
    observer.observe(np.array([1.0, 3.0], np.float32))
    observer.observe(torch.tensor(5.0))
    assert observer.mean.tolist() == [3.0] and observer.mean_square == pytest.approx([35 / 3])
    vector = ChannelMoments(axis=0)
    vector.observe(np.array([1.0, 3.0], np.float32))
    vector.observe(np.array([3.0, 3.0], np.float32))
    assert vector.mean.tolist() == [2.0, 3.0] and vector.variance.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("layer", [LinearInput(), CONVS[0]], ids=["linear", "conv"])
def test_max_rows_thins_evenly_and_independently_of_batching(layer):
    x = data(2)
    one, batched, every = Covariance(layer, max_rows=10), Covariance(layer, max_rows=10), Covariance(layer)
    for i in range(3):
        one.observe(x[i : i + 1])
    batched.observe(Observation(x, sample_ids=range(3)))
    every.observe(x)
    assert one.rows == batched.rows <= 3 * 10 < every.rows
    np.testing.assert_allclose(one.covariance, batched.covariance, rtol=1e-4, atol=1e-4)


def test_input_that_does_not_fit_the_convolution():
    with pytest.raises(CalibrationError, match="layer4.*takes"):
        Covariance(CONVS[1]).observe(Observation(np.zeros((1, 3, 4, 4), np.float32), name="layer4"))
    with pytest.raises(CalibrationError, match="takes"):
        Covariance(CONVS[0]).observe(np.zeros((4, 4), np.float32))
    small = Covariance(CONVS[1])
    small.observe(np.zeros((1, 4, 2, 2), np.float32))  # smaller than the kernel: no output position, no row
    assert small.rows == 0


@pytest.mark.parametrize("kind", [ChannelMoments(1), Covariance(), Covariance(CONVS[0])], ids=repr)
def test_nan_is_an_error(kind):
    x = data(2)
    x[1, 0, 0, 0] = np.nan
    with pytest.raises(CalibrationError, match="sample 1"):
        kind.observe(Observation(x, sample_ids=range(3)))


def test_configuration_decides_equality():
    assert Covariance(CONVS[0], 5) == Covariance(CONVS[0], 5) != Covariance(CONVS[1], 5)
    filled = Covariance()
    filled.observe(np.ones((2, 2), np.float32))
    assert filled == Covariance() and filled.fresh().count == 0
