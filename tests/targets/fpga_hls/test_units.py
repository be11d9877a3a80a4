"""Streaming units as data: foldings, converters, cycles per frame."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.errors import InternalError, UsageError
from qcompiler.targets.fpga_hls.dataflow import Dataflow, Edge, fold, lane_steps
from qcompiler.targets.fpga_hls.stream import Folding, Scaling
from qcompiler.targets.fpga_hls.units import Depthwise, MatrixVector, SlidingWindow, WidthConverter

SCALING = Scaling("dyadic", np.array([3] * 4), 5, 0, -128, 127, 8, True)


def convolution() -> Dataflow:
    """Six channels of 8 x 8 pixels through a 3 x 3 convolution to four."""
    window = SlidingWindow("w", "conv", 8, 8, 6, 8, 8, (3, 3), (1, 1), (1, 1), (1, 1), -5, 8, True, False)
    matrix = MatrixVector("m", "conv", np.zeros((4, 54), int), np.zeros(4, int), SCALING, 64, 8, 8, True, 20)
    edges = (Edge("", 0, "w", 0), Edge("w", 0, "m", 0), Edge("m", 0, "", 0))
    return Dataflow("net", (window, matrix), edges, (), ())


def test_lanes_meet_in_converters_and_folding_again_starts_afresh() -> None:
    graph = fold(convolution(), {"w": Folding(pe=3), "m": Folding(pe=2, simd=2)})
    graph.check()
    found = [(u.folding.simd, u.folding.pe) for u in graph.units if isinstance(u, WidthConverter)]
    assert found == [(3, 6), (6, 2)]
    again = fold(graph, {"w": Folding(pe=2)})
    again.check()
    assert [u.name for u in again.units] == ["w", "m"]
    assert {e.name for e in again.edges} == {e.name for e in convolution().edges}


def test_lanes_that_differ_without_a_converter_are_an_error() -> None:
    graph = convolution()
    window = graph.unit("w").folded(pe=2)
    broken = Dataflow("net", (window, graph.unit("m")), graph.edges, (), ())
    with pytest.raises(InternalError, match="edge w_to_m"):
        broken.check()


def test_an_illegal_folding_lists_the_legal_ones() -> None:
    with pytest.raises(UsageError, match=r"m \(of conv\): pe=3 is no legal folding; legal are 1, 2, 4"):
        fold(convolution(), {"m": Folding(pe=3)})
    with pytest.raises(UsageError, match=r"has no simd of its own; it has pe, storage"):
        convolution().unit("w").folded(simd=2)
    with pytest.raises(UsageError, match="no unit 'n'"):
        fold(convolution(), {"n": Folding()})


def test_a_window_by_channel_has_the_lanes_of_its_reader() -> None:
    window = SlidingWindow("w", "conv", 8, 8, 4, 8, 8, (3, 3), (1, 1), (1, 1), (1, 1), -5, 8, True, True)
    depthwise = Depthwise("d", "conv", np.zeros((4, 9), int), np.zeros(4, int), SCALING, 64, 8, 8, True, 20)
    bare = Dataflow("net", (window, depthwise), (Edge("", 0, "w", 0), Edge("w", 0, "d", 0), Edge("d", 0, "", 0)), (), ())
    folded = fold(bare, {"d": Folding(pe=2)})
    folded.check()
    assert folded.unit("w").folding.pe == 2
    assert [(e.source, e.target) for e in folded.edges if e.target == "d"] == [("w", "d")]
    with pytest.raises(UsageError, match="pe=4 is no legal folding; .* legal is the pe of that: 2"):
        fold(bare, {"d": Folding(pe=2), "w": Folding(pe=4)})


def test_cycles_per_frame() -> None:
    graph = fold(convolution(), {"w": Folding(pe=3), "m": Folding(pe=2, simd=2)})
    assert graph.unit("m").interval == 64 * 2 * 27
    # two rows of 16 words first, then eight rows of 8 * 9 * 2 words, which take longer than reading
    assert graph.unit("w").interval == 2 * 16 + 8 * 144


@pytest.mark.parametrize(("before", "after", "steps"), [(4, 4, ()), (2, 8, ((2, 8),)), (9, 3, ((9, 3),)), (4, 6, ((4, 12), (12, 6)))])
def test_lane_steps(before: int, after: int, steps: tuple[tuple[int, int], ...]) -> None:
    assert lane_steps(before, after) == steps
