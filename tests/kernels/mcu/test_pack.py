"""What the structs of the kernels point to."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir.fixed_point import rescale_dyadic
from qcompiler.kernels.mcu import layouts, overlap, pack, sources
from qcompiler.kernels.mcu.geometry import Window


@pytest.mark.parametrize(("m", "s"), [(1, 1), (3, 62), (1 << 30, 33), ((1 << 31) - 1, 1), (12345, 20)])
def test_doubling_the_multiplier_changes_no_result(m: int, s: int) -> None:
    doubled = pack.normalize_dyadic(m, s)
    assert doubled[0] >= 1 << 30 or doubled[1] == 62
    acc = np.array([-(1 << 31), -77, -1, 0, 1, 12345, (1 << 31) - 1])
    assert np.array_equal(rescale_dyadic(acc, *doubled), rescale_dyadic(acc, m, s))


@pytest.mark.parametrize(("m", "s"), [(0, 5), (1 << 31, 5), (5, 0), (5, 63)])
def test_a_factor_outside_dyadic_is_refused(m: int, s: int) -> None:
    with pytest.raises(ValueError, match="dyadic takes"):
        pack.pack_factor(m, s, "dyadic")


def test_a_profile_without_kernels_is_refused() -> None:
    with pytest.raises(ValueError, match="dyadic, shift_half_even"):
        pack.pack_factor(1, 1, "float32_half_even")
    with pytest.raises(ValueError, match="dyadic, shift_half_even"):
        pack.pack_add((1, 1), 1, (0, 0), "dyadic_double")
    with pytest.raises(ValueError, match="m = 1"):
        pack.pack_factor(3, 1, "shift_half_even")


def test_flags_say_what_holds_for_all_channels() -> None:
    bias = np.zeros(2, np.int64)
    small = pack.pack_rescale(bias, np.array([1 << 30, 1 << 30]), np.array([33, 40]), "dyadic", -128, 127)
    assert small.flags == pack.PLAIN_SHIFTS | pack.FULL_RANGE and small.shift.tolist() == [0, 7]
    large = pack.pack_rescale(bias, np.array([1 << 30, 1 << 30]), np.array([32, 40]), "dyadic", 0, 127)
    assert large.flags == 0 and large.shift.tolist() == [-1, 7]
    even = pack.pack_rescale(bias, np.int64(1), np.int64(5), "shift_half_even", -128, 127)
    assert even.multiplier is None and even.shift.tolist() == [5, 5] and even.flags == pack.FULL_RANGE


def test_a_sum_that_may_leave_int32_is_refused_with_its_channel() -> None:
    weights = np.array([[1, 2], [100, 127]], np.int8)
    bias = np.array([0, (1 << 31) - 1], np.int32)
    assert pack.fold_zero_point(None, weights, -128).tolist() == [384, 29056]
    with pytest.raises(ValueError, match="channel 1"):
        pack.fold_zero_point(bias, weights, 0)


def test_pairs_hold_what_sxtb16_needs() -> None:
    weights = np.arange(15).reshape(3, 5).astype(np.int8)
    packed = layouts.pack_weights(weights, "dsp").view(np.int8)
    assert packed.size == layouts.packed_bytes(3, 5, "dsp") == 32
    assert packed[:16].tolist() == [0, 5, 2, 7, 1, 6, 3, 8, 4, 9, 0, 0, 0, 0, 0, 0]
    assert packed[16:24].tolist() == [10, 0, 12, 0, 11, 0, 13, 0]


def test_fours_hold_sixteen_of_every_filter_in_turn() -> None:
    weights = np.arange(5 * 18).reshape(5, 18).astype(np.int8)
    packed = layouts.pack_weights(weights, "mve").view(np.int8)
    assert packed.size == layouts.packed_bytes(5, 18, "mve") == weights.size
    assert packed[:64].tolist() == weights[:4, :16].reshape(-1).tolist()
    assert packed[64:72].tolist() == weights[:4, 16:].reshape(-1).tolist()
    assert packed[72:].tolist() == weights[4].tolist()


def test_four_bits() -> None:
    weights = np.array([[-8, 7, 1]], np.int8)
    assert layouts.pack_weights(weights, "portable", bits=4).tolist() == [0x78, 0x01]
    assert layouts.packed_bytes(1, 3, "portable", 4) == 2
    (word,) = layouts.pack_weights(weights, "dsp", bits=4).view("<u4")
    # a0 = 0, a2 = 9, a1 = 15, a3 = padding 8; channel b is padding, 8 everywhere
    assert word == 0 | 9 << 16 | 8 << 4 | 8 << 20 | 15 << 8 | 8 << 24 | 8 << 12 | 8 << 28
    with pytest.raises(ValueError, match=r"\[-8, 7\]"):
        layouts.pack_weights(np.array([[8]], np.int8), "portable", bits=4)


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="3 output channels in 2 groups"):
        layouts.pack_weights(np.zeros((3, 1), np.int8), "dsp", groups=2)


def test_a_pointwise_layer_needs_no_distance_unless_it_widens() -> None:
    assert overlap.conv2d_distance(Window(48, 48, 16, 48, 48, 16, 1, 1), 1, 3) == 0
    # 2304 pixels of 8 channels to 16: written 16 i, still to be read from 8 i
    assert overlap.conv2d_distance(Window(48, 48, 8, 48, 48, 16, 1, 1), 1, 3) == (2304 - 3) * 8
    assert overlap.conv2d_distance(Window(48, 48, 8, 48, 48, 16, 1, 1), 2, 3) is None
    # 3 x 3, padding 1: two rows above the current one and the pixels before it
    assert overlap.conv2d_distance(Window(8, 8, 4, 8, 8, 4, 3, 3, 1, 1, 1, 1), 1, 1) == (8 + 1) * 4 + 4 - 4
    assert overlap.fully_connected_distance(4, 8, 16, 1) == 24


def test_every_kernel_has_its_file_and_every_file_is_listed() -> None:
    listed = {*sources.kernel_sources(sources.USES), *(sources.FOLDER / f"{n}.c" for n in sources.INT4)}
    assert listed == set(sources.FOLDER.glob("*.c"))
    assert all((sources.FOLDER / name).is_file() for name in sources.HEADERS)
    with pytest.raises(KeyError):
        sources.kernel_sources(["conv3d_s8"])
