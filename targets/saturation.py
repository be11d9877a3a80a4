"""When u8 x s8 products are exact on machines that add them in 16 bits.

AVX2, and AVX512 without VNNI, multiply unsigned by signed bytes with `vpmaddubsw`: two neighbouring products are
added in int16 with saturation. A sum beyond [-32768, 32767] is silently cut. Activations reach 255, so a pair is
exact for every activation if its positive weights sum to at most 128 and its negative ones to at least -128:
255 * 128 = 32640.

Kernels of our own add two or four such pairs before they widen the sum (`vpmaddubsw-x2`, `-x4`), where the limit holds
for all of these weights: the even pairs of every four channels in a run of 8 or 16 are neighbours, and the odd ones.

ONNX Runtime pairs flat positions (2j, 2j + 1) of the reduction: the K axis of a matrix product, and (kernel
position, input channel within the group), channel fastest, of a convolution. Depthwise convolutions widen each
product and never saturate. Measured on Zen 3 with ONNX Runtime 1.31.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Largest magnitude of the same-sign sum of neighbouring weights.
SUM_LIMIT = 128
LEAST_CHANNELS = {4: 64, 8: 128}
"""Channels from which on sums of so many products are worth their price."""


def reduction_rows(weight: np.ndarray) -> np.ndarray:
    """Weights as [out channels, K] in the order of the reduction; w is [N, K] or [O, I/groups, kernel...]."""
    if weight.ndim > 2:
        weight = np.moveaxis(weight, 1, -1)
    return weight.reshape(weight.shape[0], int(np.prod(weight.shape[1:])))


def pair_peak(weight: np.ndarray) -> np.ndarray:
    """Largest same-sign sum of two neighbours per output channel, [N]; real weights or codes (zero point 0).

    An odd number of input channels pairs across kernel positions as it is, and at one position if the channels are
    padded to an even number for speed: both are counted.
    """
    peak = _peak_of_rows(reduction_rows(weight))
    if weight.ndim > 2 and weight.shape[1] % 2 and weight.shape[1] > 1:
        padded = np.concatenate([weight, np.zeros_like(weight[:, :1])], 1)
        peak = np.maximum(peak, _peak_of_rows(reduction_rows(padded)))
    return peak


def _peak_of_rows(rows: np.ndarray) -> np.ndarray:
    if rows.dtype.kind != "f":
        rows = rows.astype(np.int16)
    if rows.shape[1] % 2:
        rows = np.concatenate([rows, np.zeros_like(rows[:, :1])], 1)
    left, right = rows[:, 0::2], rows[:, 1::2]
    positive = (np.maximum(left, 0) + np.maximum(right, 0)).max(1, initial=0)
    negative = (np.minimum(left, 0) + np.minimum(right, 0)).min(1, initial=0)
    return np.asarray(np.maximum(positive, -negative))


def is_depthwise(weight_shape: tuple[int, ...], groups: int) -> bool:
    """True for a convolution whose groups have one input and one output channel."""
    return len(weight_shape) > 2 and weight_shape[1] == 1 and weight_shape[0] == groups


def summed_products(wanted: int | str, target: Any, integer_only: bool) -> int:
    """Of how many neighbouring weights the products are to add up within 16 bits: 1 (any weights will do), 2, 4 or 8.

    Integer programs are emitted with offset weights where pairs could saturate, and keep their 8 bits everywhere unless
    the recipe says otherwise.

    Args:
        wanted: the recipe's word, "auto" for what the target asks for.
        target: asked for `int16_pair_products`; None for none.
    """
    if wanted != "auto":
        return int(wanted)
    return 2 if target is not None and target.can("int16_pair_products") and not integer_only else 1


def worthwhile_sums(count: int, weight_shape: tuple[int, ...], groups: int = 1) -> int:
    """As many products as `count`, less in layers of few channels, none in depthwise ones.

    The fewer channels a filter has, the more of its precision sums of many cost (8 dB of 40 at 24 channels, 2 dB at 480),
    and the less of its time the products take.
    """
    if is_depthwise(weight_shape, groups):
        return 1
    return min(count, 2 if weight_shape[1] < LEAST_CHANNELS[4] else 4 if weight_shape[1] < LEAST_CHANNELS[8] else 8)


def neighbours(weight_shape: tuple[int, ...], count: int) -> np.ndarray:
    """Places in a flat filter whose products our kernels add in 16 bits, int64 [sets, count]; its length for padding.

    Args:
        weight_shape: [N, K] or [O, I/groups, kernel...].
        count: 2, 4 or 8.
    """
    channels, taps = weight_shape[1], int(np.prod(weight_shape[2:]))
    padded = -(-channels // (2 * count)) * 2 * count
    places = np.arange(padded)[:, None] * taps + np.arange(taps)
    places[channels:] = channels * taps
    runs = places.T.reshape(taps, -1, count // 2, 2, 2)
    return np.ascontiguousarray(runs.transpose(0, 1, 3, 2, 4).reshape(-1, count))


def is_pair_safe(codes: np.ndarray, groups: int = 1) -> bool:
    """True if no activation can saturate a pair; codes int8 with zero point 0."""
    return is_depthwise(codes.shape, groups) or bool((pair_peak(codes) <= SUM_LIMIT).all())


def pair_safe_scale(weight: np.ndarray, groups: int = 1, qmax: int = 127) -> np.ndarray:
    """Smallest symmetric scale per output channel, float64 [N], whose codes are pair-safe however they are rounded.

    max(max|w| / qmax, pair peak / 127): two values whose exact sum is at most 127 round (up or down, each by less
    than 1) to codes that sum to at most 128. Costs 1.4 dB of weight SQNR on MiniLM, where 7-bit weights cost 5.6.
    Channels of zeros get scale 0: the caller guards it.
    """
    rows = np.abs(reduction_rows(weight).astype(np.float64))
    scale = rows.max(1, initial=0) / qmax
    if is_depthwise(weight.shape, groups):
        return np.asarray(scale)
    return np.maximum(scale, pair_peak(weight) / (SUM_LIMIT - 1))
