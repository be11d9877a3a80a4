"""What the structs of qc_kernels.h point to, made from a layer's integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Rounding profile -> value of QC_PROFILE, and the limits of a packed shift.
PROFILES = {"dyadic": "QC_PROFILE_DYADIC", "shift_half_even": "QC_PROFILE_SHIFT_HALF_EVEN"}
PLAIN_SHIFTS, FULL_RANGE, NARROW_WEIGHTS = 1, 2, 4
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
MAX_SHIFT = 62


@dataclass(frozen=True)
class Rescale:
    """The arrays of qc_rescale_params. multiplier int32 [C] (None in shift_half_even), shift int8 [C]."""

    bias: np.ndarray
    multiplier: np.ndarray | None
    shift: np.ndarray
    flags: int


def normalize_dyadic(multiplier: int, shift: int) -> tuple[int, int]:
    """The same function with the largest multiplier: doubled with its shift until >= 2^30, or the shift is 62.

    Raises:
        ValueError: outside 0 < m < 2^31 or 1 <= s <= 62.
    """
    if not (0 < multiplier <= INT32_MAX and 1 <= shift <= MAX_SHIFT):
        raise ValueError(f"dyadic takes 0 < m < 2^31 and 1 <= s <= {MAX_SHIFT}, got m = {multiplier}, s = {shift}")
    while multiplier < 1 << 30 and shift < MAX_SHIFT:
        multiplier, shift = multiplier << 1, shift + 1
    return multiplier, shift


def pack_factor(multiplier: int, shift: int, profile: str) -> tuple[int, int]:
    """(multiplier, packed shift) of one factor.

    Raises:
        ValueError: a profile the kernels do not have, or a value outside it.
    """
    if profile == "dyadic":
        m, s = normalize_dyadic(multiplier, shift)
        return m, s - 33
    if profile != "shift_half_even":
        raise ValueError(f"kernels rescale with {', '.join(PROFILES)}; got {profile!r}")
    if multiplier != 1 or not -31 <= shift <= MAX_SHIFT:
        raise ValueError(f"shift_half_even takes m = 1 and -31 <= s <= {MAX_SHIFT}, got m = {multiplier}, s = {shift}")
    return 1, shift


def pack_any_factor(multiplier: int, shift: int, rounding: str, profile: str) -> tuple[int, int]:
    """(multiplier, packed shift) of a factor that may be dyadic in a program of another profile: m > 1 says so.

    Raises:
        ValueError: as `pack_factor`.
    """
    m, s = pack_factor(multiplier, shift, rounding)
    # Doubling ends at shift 62; a multiplier of 1 there gives 0 for every int32, and so does 2.
    return (max(m, 2), s) if rounding != profile and rounding == "dyadic" else (m, s)


def pack_rescale(
    bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray, profile: str, qmin: int, qmax: int,
    weights: np.ndarray | None = None,
) -> Rescale:  # fmt: skip
    """Parameters of a layer with channels.

    Args:
        bias: folded, int64 [C].
        multiplier: int64 [] or [C], in the profile.
        shift: int64 [] or [C].
        profile: a key of `PROFILES`.
        qmin: smallest code of the result.
        qmax: largest code.
        weights: the layer's codes; depthwise layers are faster on MVE if it is known that none is -128.

    Raises:
        ValueError: a bias outside int32, or a factor outside the profile.
    """
    channels = len(bias)
    if channels and (bias.min() < INT32_MIN or bias.max() > INT32_MAX):
        raise ValueError(f"folded bias outside int32: [{bias.min()}, {bias.max()}]")
    both = zip(np.broadcast_to(multiplier, channels), np.broadcast_to(shift, channels), strict=True)
    packed = np.array([pack_factor(int(m), int(s), profile) for m, s in both], np.int64).reshape(-1, 2)
    plain = profile == "dyadic" and bool((packed[:, 1] >= 0).all())
    flags = (PLAIN_SHIFTS if plain else 0) | (FULL_RANGE if (qmin, qmax) == (-128, 127) else 0)
    if weights is not None and weights.size and weights.min() > -128:
        flags |= NARROW_WEIGHTS
    factors = packed[:, 0].astype(np.int32) if profile == "dyadic" else None
    return Rescale(bias.astype(np.int32), factors, packed[:, 1].astype(np.int8), flags)


def fold_zero_point(
    bias: np.ndarray | None, weights: np.ndarray, zero_point: int, low: int = -128, high: int = 127
) -> np.ndarray:
    """Bias with the input's zero point folded in: bias - zero_point * sum(weights), int64 [C].

    Args:
        bias: int32 [C], or None.
        weights: codes [C, K] (depthwise: [C, taps]).
        zero_point: of the input.
        low: smallest input code.
        high: largest input code.

    Raises:
        ValueError: a sum that could leave int32 on the way, naming the channel.
    """
    w = weights.astype(np.int64)
    folded = (0 if bias is None else bias.astype(np.int64)) - zero_point * w.sum(1)
    reach = np.abs(folded) + max(abs(low), abs(high)) * np.abs(w).sum(1)
    if reach.size and reach.max() > INT32_MAX:
        c = int(reach.argmax())
        raise ValueError(f"channel {c}: sums may reach {int(reach[c])}, int32 ends at {INT32_MAX}")
    return folded


@dataclass(frozen=True)
class Add:
    """The packed numbers of qc_add_params."""

    offset: int
    multipliers: tuple[int, int]
    shift: int


def pack_add(multipliers: tuple[int, int], shift: int, zero_points: tuple[int, int], profile: str) -> Add:
    """A sum of two operands, y = round(sum m_i (x_i - z_i) * 2^-shift).

    Raises:
        ValueError: a profile the kernels do not have, or a value outside it.
    """
    if profile not in PROFILES:
        raise ValueError(f"kernels rescale with {', '.join(PROFILES)}; got {profile!r}")
    if any(not 0 < abs(m) <= INT32_MAX for m in multipliers):
        raise ValueError(f"multipliers lie in (-2^31, 2^31) and are not 0, got {multipliers}")
    low = 1 if profile == "dyadic" else -31
    if not low <= shift <= MAX_SHIFT:
        raise ValueError(f"shifts of {profile} lie in [{low}, {MAX_SHIFT}], got {shift}")
    half = 1 << (shift - 1) if profile == "dyadic" else 0
    return Add(half - sum(m * z for m, z in zip(multipliers, zero_points, strict=True)), multipliers, shift)
