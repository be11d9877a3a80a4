"""Convolutions of few channels, or of one, read an image in whole words: the reference's integers, and which do."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir import DType, Graph, QuantParams
from support.integer_networks import IntegerLayers, random_codes
from support.tvm_programs import differing, runnable, session_of

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")


def convolution(
    channels: int, kernel: tuple[int, int], strides: tuple[int, int] = (1, 1), pads: tuple[int, ...] = (1, 1, 1, 1),
    zero_point: int = -128, batch: int = 1, dtype: DType = DType.int8, groups: int = 1, size: tuple[int, int] = (9, 14),
) -> Graph:  # fmt: skip
    """One layer with weights and codes over their whole range, the accumulators as outputs too."""
    b = IntegerLayers("one", seed=channels)
    x = b.input("x", dtype, (batch, channels * groups, *size), QuantParams(dtype, np.float32(0.02), np.int32(zero_point)))
    w = b.weights(16, channels, *kernel)
    acc = b.op("conv", x, w, b.bias(16), strides=strides, pads=pads, dilations=(1, 1), groups=groups)
    return b.graph(b.rescale(acc, channels * kernel[0] * kernel[1]), names=("y",))


FILLED = {
    "3 channels, stride 2": convolution(3, (3, 3), (2, 2), (0, 0, 1, 1), zero_point=-1),
    "several images of uint8": convolution(3, (5, 3), pads=(2, 1, 2, 1), zero_point=200, batch=2, dtype=DType.uint8),
    "6 channels": convolution(6, (3, 3), zero_point=127),
    "nothing around the image": convolution(2, (4, 4), (4, 4), (0, 0, 0, 0)),
    "one channel": convolution(1, (5, 4), (2, 2), (2, 1, 2, 1), zero_point=9),
    "one channel, narrow rows": convolution(1, (3, 3), batch=3, dtype=DType.uint8, zero_point=128),
    "one channel, wide rows": convolution(1, (1, 9), pads=(0, 4, 0, 4)),
    "one channel, patches": convolution(1, (4, 4), (4, 4), (0, 0, 0, 0), size=(12, 16)),
}
AS_THEY_LIE = {
    "one channel, one place of a row": convolution(1, (3, 1), pads=(1, 0, 1, 0)),
    "whole words": convolution(8, (3, 3)),
    "one place": convolution(3, (1, 1), pads=(0, 0, 0, 0)),
    "groups": convolution(3, (3, 3), groups=2),
}


@pytest.mark.parametrize("name", [*FILLED, *AS_THEY_LIE])
def test_integers_are_those_of_the_reference(name: str) -> None:
    graph = FILLED.get(name) or AS_THEY_LIE[name]
    session = session_of(graph)
    assert any("image = " in str(f) for f in session.lowered.module.functions.values()) == (name in FILLED)
    for seed in range(3):
        arrays = random_codes(graph, seed)
        assert differing(graph, arrays, session.run(arrays)) == 0


@pytest.mark.parametrize("isa", runnable())
def test_every_instruction_set_gives_the_same_integers(isa: str) -> None:
    graph = FILLED["6 channels"]
    arrays = random_codes(graph, 1)
    assert differing(graph, arrays, session_of(graph, isa).run(arrays)) == 0
