"""The ranges that histograms propose, against exhaustive search on the data itself."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration import Entropy, HistogramMSE, MinMax, Percentile, quant_params_from_range
from qcompiler.ir import DType, QuantParams

rng = np.random.default_rng(0)
DATA = {
    "normal": rng.normal(size=50_000),
    "relu": np.maximum(rng.normal(size=50_000), 0),
    "relu6": np.clip(rng.normal(2, 3, size=50_000), 0, 6),
    "laplace": rng.laplace(size=50_000),
    "outlier": np.append(rng.normal(size=50_000), 223.0),
    "shifted": rng.normal(5, 1, size=50_000),
    "negative": -np.abs(rng.normal(size=50_000)),
    "constant": np.full(100, 0.3),
}
DATA = {k: v.astype(np.float32) for k, v in DATA.items()}


def error(data: np.ndarray, lo: float, hi: float, dtype: DType, symmetric: bool) -> float:
    scale, zero_point = quant_params_from_range(lo, hi, dtype, symmetric)
    quant = QuantParams(dtype, scale, np.int32(zero_point))
    return float(((quant.dequantize(quant.quantize(data)).astype(np.float64) - data) ** 2).mean())


def exhaustive(data: np.ndarray, dtype: DType, symmetric: bool) -> float:
    lo, hi = min(float(data.min()), 0.0), max(float(data.max()), 0.0)
    factors = np.geomspace(0.01, 1.0, 40)
    if symmetric:
        top = max(-lo, hi)
        return min(error(data, -top * f, top * f, dtype, True) for f in factors)
    lows = factors if lo < 0 else [1.0]
    highs = factors if hi > 0 else [1.0]
    sample = data if len(data) < 5000 else np.append(data[:: len(data) // 4000], data.max())
    best = min((error(sample, lo * a, hi * b, dtype, False), a, b) for a in lows for b in highs)
    return error(data, lo * best[1], hi * best[2], dtype, False)


def observe(observer, data):
    for part in np.array_split(data, 3):
        observer.observe(part)
    return observer


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", [DType.uint8, DType.int4], ids=str)
@pytest.mark.parametrize("name", DATA)
def test_mse_range_is_close_to_the_best_there_is(name, dtype, symmetric):
    data = DATA[name]
    found = error(data, *observe(HistogramMSE(), data).range(dtype, symmetric), dtype, symmetric)
    plain = error(data, *observe(MinMax(), data).range(dtype, symmetric), dtype, symmetric)
    assert found <= plain * 1.001
    assert found <= exhaustive(data, dtype, symmetric) * 1.06 + 1e-12


def test_mse_range_keeps_an_exact_clip():
    assert observe(HistogramMSE(), DATA["relu6"]).range(DType.uint8, False) == pytest.approx(
        (0.0, 6.0), rel=2e-3
    )


def test_percentile_matches_numpy_within_a_bin():
    def fits(values: np.ndarray, value: float, share: float, width: float) -> bool:
        below, above = (values <= value - width).mean(), (values <= value + width).mean()
        return below <= share + 1e-9 and share <= above + 1e-9

    data = DATA["laplace"]
    for percentile in (90.0, 99.0, 99.99, 100.0):
        observer = observe(Percentile(percentile=percentile), data)
        width = 2.0**observer.exponent
        assert width < 0.02
        lo, hi = observer.range(DType.uint8, False)
        tail = (1 - percentile / 100) / 2
        assert fits(data, lo, tail, width) and fits(data, hi, 1 - tail, width)
        lo, hi = observer.range(DType.uint8, True)
        assert -lo == hi and fits(np.abs(data), hi, percentile / 100, width)
    assert observer.range(DType.uint8, False) == (data.min(), data.max())


@pytest.mark.parametrize("symmetric", [False, True])
def test_entropy_clips_a_lone_outlier_and_keeps_the_rest(symmetric):
    lo, hi = observe(Entropy(), DATA["outlier"]).range(DType.int8, symmetric)
    assert 3.0 < hi < 60.0 and lo < -2.5


def test_entropy_with_more_codes_than_bins_keeps_all():
    lo, hi = observe(Entropy(bins=256), DATA["normal"]).range(DType.int16, False)
    assert (lo, hi) == (DATA["normal"].min(), DATA["normal"].max())


@pytest.mark.parametrize("kind", [HistogramMSE, Percentile, Entropy, MinMax])
def test_constant_and_zero_data(kind):
    for constant in (0.0, 6.0, -2.5, 1e-30):
        data = np.full(10, constant, np.float32)
        lo, hi = observe(kind(), data).range(DType.uint8, False)
        scale, zero_point = quant_params_from_range(lo, hi, DType.uint8, False)
        quant = QuantParams(DType.uint8, scale, np.int32(zero_point))
        assert quant.dequantize(quant.quantize(data)) == pytest.approx(data, rel=1e-5, abs=1e-18)
