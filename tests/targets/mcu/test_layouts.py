from __future__ import annotations

import numpy as np
import pytest

from qcompiler.targets.mcu.layouts import channels_last, equivalent, plain, reshaped, strides, transposed


def in_memory(x: np.ndarray, order: tuple[int, ...]) -> list[int]:
    return x.transpose(order).ravel().tolist()


def test_strides_address_the_elements() -> None:
    x, order = np.arange(24).reshape(2, 3, 4), (2, 0, 1)
    memory = in_memory(x, order)
    steps = strides(x.shape, order)
    assert all(memory[sum(i * s for i, s in zip(index, steps, strict=True))] == x[index] for index in np.ndindex(*x.shape))


def test_transpose_renames_axes_and_moves_nothing() -> None:
    x, order, perm = np.arange(24).reshape(2, 3, 4), (1, 2, 0), (2, 0, 1)
    assert in_memory(x.transpose(perm), transposed(order, perm)) == in_memory(x, order)


def test_axes_of_size_one_lie_anywhere() -> None:
    assert equivalent(plain(4), channels_last(4), (1, 8, 1, 1))
    assert not equivalent(plain(4), channels_last(4), (1, 8, 2, 1))


def test_patches_of_an_image_become_tokens_without_a_copy() -> None:
    tokens = reshaped(channels_last(4), (1, 16, 4, 5), (1, 16, 20))
    assert tokens is not None and equivalent(transposed(tokens, (0, 2, 1)), plain(3), (1, 20, 16))


def test_flattening_an_image_that_lies_channels_last_needs_a_copy() -> None:
    assert reshaped(channels_last(4), (1, 16, 4, 5), (1, 320)) is None


@pytest.mark.parametrize("seed", range(40))
def test_reshape_of_any_order(seed: int) -> None:
    """The order found gives the same bytes; a plain order is always found."""
    rng = np.random.default_rng(seed)
    for _ in range(50):
        factors = [int(f) for f in rng.integers(1, 4, rng.integers(1, 6))]
        before, after = (tuple(merged(factors, rng)) for _ in range(2))
        order = tuple(int(a) for a in rng.permutation(len(before)))
        x = np.arange(int(np.prod(before))).reshape(before)
        found = reshaped(order, before, after)
        if found is None:
            assert not equivalent(order, plain(len(before)), before)
        else:
            assert in_memory(x.reshape(after), found) == in_memory(x, order)


def merged(factors: list[int], rng: np.random.Generator) -> list[int]:
    result = list(factors)
    while len(result) > 1 and rng.random() < 0.5:
        at = int(rng.integers(0, len(result) - 1))
        result[at : at + 2] = [result[at] * result[at + 1]]
    return result
