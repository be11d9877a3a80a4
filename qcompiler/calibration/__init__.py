"""Calibration: data in all its forms, one sweep over it, and the statistics that quantization needs.

samples = load_samples(data, graph)
statistics = collect(graph, samples, {value: [HistogramMSE(), ChannelMoments(1)], ...}, executor)
lo, hi = statistics.range(value, DType.uint8, symmetric=False)
scale, zero_point = quant_params_from_range(lo, hi, DType.uint8, symmetric=False)
"""

from .data import RandomData, load_samples
from .histogram import Entropy, HistogramMSE, HistogramObserver, Percentile
from .moments import ChannelMoments, ConvInput, Covariance, LinearInput
from .observation import Observation
from .observers import MinMax, MovingAverage, Observer, RangeObserver
from .ranges import MIN_SCALE, quant_params_from_range
from .samples import Samples, Split
from .sweep import Statistics, collect

__all__ = [
    "MIN_SCALE",
    "ChannelMoments",
    "ConvInput",
    "Covariance",
    "Entropy",
    "HistogramMSE",
    "HistogramObserver",
    "LinearInput",
    "MinMax",
    "MovingAverage",
    "Observation",
    "Observer",
    "Percentile",
    "RandomData",
    "RangeObserver",
    "Samples",
    "Split",
    "Statistics",
    "collect",
    "load_samples",
    "quant_params_from_range",
]
