"""Depthwise convolutions over pairs of image rows: the reference's integers at all edges, the instruction, the tile."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir import DType, Graph, QuantParams
from qcompiler.kernels.common.reach import Reach
from qcompiler.kernels.cpu.paired_windows import ACCUMULATORS, CACHED_BYTES, choose_tile
from support.integer_networks import IntegerLayers, random_codes
from support.tvm_programs import differing, runnable, session_of

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")


def depthwise(
    channels: int, size: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int] = (1, 1),
    pads: tuple[int, ...] = (1, 1, 1, 1), dilations: tuple[int, int] = (1, 1), zero_point: int = -128, batch: int = 1,
    dtype: DType = DType.int8,
) -> Graph:  # fmt: skip
    """One layer with weights and codes over their whole range, the accumulators as outputs too."""
    b = IntegerLayers("one", seed=channels)
    quant = QuantParams(dtype, np.float32(0.02), np.int32(zero_point))
    x = b.input("x", dtype, (batch, channels, *size), quant)
    w = b.weights(channels, 1, *kernel)
    acc = b.op("conv", x, w, b.bias(channels), strides=strides, pads=pads, dilations=dilations, groups=channels)
    return b.graph(b.rescale(acc, kernel[0] * kernel[1]), names=("y",))


CASES = {
    "3x3": depthwise(32, (9, 14), (3, 3)),
    "5x5, stride 2": depthwise(16, (11, 13), (5, 5), (2, 2), (2, 2, 2, 2)),
    "an even number of rows": depthwise(8, (7, 6), (2, 3), pads=(0, 1, 1, 1)),
    "one column": depthwise(24, (8, 5), (3, 1), pads=(1, 0, 1, 0)),
    "nothing around the image": depthwise(40, (6, 8), (3, 3), pads=(0, 0, 0, 0)),
    "uneven pads, dilated": depthwise(8, (10, 9), (3, 2), (1, 2), (2, 0, 1, 3), (2, 3), 5),
    "a window outside the image": depthwise(8, (1, 1), (3, 3), pads=(2, 2, 2, 2)),
    "several images": depthwise(48, (5, 7), (3, 3), batch=3, zero_point=127),
    "uint8": depthwise(16, (6, 6), (3, 3), zero_point=255, dtype=DType.uint8),
    "a long row": depthwise(8, (3, 600), (3, 3), zero_point=3),
    "rows in several blocks": depthwise(16, (40, 40), (5, 5), pads=(2, 2, 2, 2)),
    "rows further apart than a pair": depthwise(8, (17, 11), (3, 3), (3, 1), dilations=(2, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_integers_are_those_of_the_reference(name: str) -> None:
    graph = CASES[name]
    session = session_of(graph)
    assert any("paired" in str(f) for f in session.lowered.module.functions.values())
    for seed in range(3):
        arrays = random_codes(graph, seed)
        assert differing(graph, arrays, session.run(arrays)) == 0
    low, high = (np.full(v.shape, e, v.dtype.numpy) for v in graph.inputs for e in (v.dtype.min, v.dtype.max))
    for arrays in ([low], [high]):
        assert differing(graph, arrays, session.run(arrays)) == 0


@pytest.mark.parametrize("isa", runnable())
def test_every_instruction_set_gives_the_same_integers(isa: str) -> None:
    graph = CASES["5x5, stride 2"]
    arrays = random_codes(graph, 1)
    assert differing(graph, arrays, session_of(graph, isa).run(arrays)) == 0


@pytest.mark.parametrize("channels", [12, 3])
def test_channels_that_fill_no_vector_go_tap_by_tap(channels: int) -> None:
    graph = depthwise(channels, (7, 8), (3, 3))
    arrays = random_codes(graph, 2)
    session = session_of(graph)
    assert not any("paired" in str(f) for f in session.lowered.module.functions.values())
    assert differing(graph, arrays, session.run(arrays)) == 0


@pytest.mark.parametrize("width", [1, 7, 13, 56, 112, 600])
@pytest.mark.parametrize("vectors", [1, 2, 3, 12])
def test_tiles_divide_what_they_cover(width: int, vectors: int) -> None:
    height, down, across = 14, Reach(1, 3), Reach(2, 3)
    tile = choose_tile(height, width, down, across, 6, vectors, 32)
    assert width % tile.block == 0 and tile.block % tile.places == 0 and vectors % tile.vectors == 0 and height % tile.rows == 0
    assert tile.places * tile.vectors <= ACCUMULATORS
    assert tile.block == tile.rows == 1 or down.of(tile.rows) * across.of(tile.block) * tile.vectors * 32 <= CACHED_BYTES


def test_pairs_are_made_once_for_all_rows_that_fit() -> None:
    assert choose_tile(14, 14, Reach(1, 3), Reach(1, 3), 6, 60, 32).rows == 14
    assert choose_tile(112, 112, Reach(1, 3), Reach(1, 3), 6, 4, 32).rows > 4
