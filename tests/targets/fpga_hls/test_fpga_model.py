"""Clocks of networks, FIFO depths, resources, and foldings within a part."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from benchmarks.fpga.draw_layers import draw_layer
from benchmarks.fpga.draw_units import KINDS, alone, draw_unit
from benchmarks.fpga.learn_resources import WITHIN, known, off, values
from benchmarks.fpga.reference_unit import reference_unit
from qcompiler.errors import ConstraintError, InternalError, UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.ir.signed_digits import codes_of_digits
from qcompiler.targets.fpga_hls.dataflow import Dataflow, fold
from qcompiler.targets.fpga_hls.emit import plan_network
from qcompiler.targets.fpga_hls.legalize import legalize
from qcompiler.targets.fpga_hls.model.fit import budget, check_fit, estimate_text
from qcompiler.targets.fpga_hls.model.folding_search import candidates, search_foldings
from qcompiler.targets.fpga_hls.model.network_timing import network_timing
from qcompiler.targets.fpga_hls.model.queues import FRAMES, with_queues
from qcompiler.targets.fpga_hls.model.resources import unit_usage
from qcompiler.targets.fpga_hls.model.timing import unit_clocks
from qcompiler.targets.fpga_hls.parts import PARTS, Part, parse_option
from qcompiler.targets.fpga_hls.stream import Folding
from qcompiler.targets.fpga_hls.target import fpga_target
from qcompiler.targets.fpga_hls.units import Add, MatrixVector, SlidingWindow
from qcompiler.targets.fpga_hls.verilog.emit import emit_design
from qcompiler.targets.fpga_hls.verilog.network import simulate_network
from qcompiler.targets.fpga_hls.verilog.synthesis import synthesize_all
from support.integer_networks import random_codes, residual_network
from support.tools import requires_tool

TINY = Part("tiny", "none", "xc7", 12_000, 24_000, 48, 16, 0, 100.0)


@pytest.fixture(scope="module")
def residual() -> Dataflow:
    return legalize(residual_network(1, "dyadic", size=8)).dataflow


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("concat", "fork")])
def test_network_timing_of_one_unit_is_its_closed_form(kind: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        unit = draw_unit(kind, rng)
        network = alone(unit, "one")
        for frames in (1, 2, 4):
            assert network_timing(network, frames).ends[-1] == unit_clocks(unit, frames), unit


@pytest.mark.parametrize("rounding", ["dyadic", "shift_half_even"])
def test_a_network_computes_the_reference_in_the_clocks_of_the_model(rounding: str) -> None:
    requires_tool("iverilog")
    graph = residual_network(1, rounding, size=4)
    network = search_foldings(legalize(graph).dataflow, PARTS["xc7z020"])
    frames = [random_codes(graph, seed) for seed in range(3)]
    run = simulate_network(network, frames, "icarus")
    for codes, outputs in zip(frames, run.outputs):
        for got, want in zip(outputs, run_reference(graph, list(codes)), strict=True):
            assert np.array_equal(got, want)
    model = network_timing(network, len(frames))
    assert abs(run.first - model.ends[0]) <= 0.05 * model.ends[0]
    assert abs(run.last - model.ends[-1]) <= 0.05 * model.ends[-1]
    depth = {edge.name: edge.depth for edge in network.edges}
    assert any(depth[name] > 8 for name in depth), "the shortcut holds what the layers beside it work on"


def test_queues_hold_what_a_schedule_holds(residual: Dataflow) -> None:
    network = search_foldings(residual, PARTS["xczu7ev"])
    held = network_timing(network, FRAMES, max(unit.interval for unit in network.units)).held
    depth = {edge.name: edge.depth for edge in network.edges}
    joins = [edge.name for edge in network.edges if edge.target and isinstance(network.unit(edge.target), Add)]
    assert joins and all(held[name] <= depth[name] for name in joins)
    assert with_queues(network).edges == network.edges


def test_a_shortcut_without_room_is_a_deadlock() -> None:
    requires_tool("iverilog")
    graph = residual_network(1, "dyadic", size=4)
    network = search_foldings(legalize(graph).dataflow, PARTS["xc7z020"])
    shallow = network.with_depths({edge.name: 2 for edge in network.edges})
    (first, *_) = [unit for unit in shallow.units if isinstance(unit, Add)]
    with pytest.raises(InternalError, match="deadlock") as caught:
        simulate_network(shallow, [random_codes(graph, 0)], "icarus")
    named = [line for line in str(caught.value).splitlines() if line.startswith("  full: ")]
    assert len(named) == 1 and "stem_fork" in named[0] and first.name in named[0], "the shortcut, not what waits behind it"
    assert "Remedy: a deeper FIFO" in str(caught.value)


def test_the_search_is_legal_and_fits(residual: Dataflow) -> None:
    found = search_foldings(residual, TINY)
    found.check()
    use = check_fit(found, TINY).whole
    assert all(getattr(use, name) <= limit for name, limit in budget(TINY).items())
    slow, fast = (max(u.interval for u in search_foldings(residual, part).units) for part in (TINY, PARTS["xczu7ev"]))
    assert fast < slow < max(u.interval for u in residual.units)


def test_a_window_by_channel_follows_its_reader() -> None:
    graph = residual_network(1, "dyadic", size=8)
    bare = legalize(graph).dataflow
    windows = [u for u in bare.units if isinstance(u, SlidingWindow) and u.by_channel]
    assert windows
    (reader,) = [bare.unit(e.target) for e in bare.out_of(windows[0])]
    most = max(reader.choices["pe"])
    folded = fold(bare, {reader.name: Folding(most, most)})
    assert folded.unit(windows[0].name).folding.pe == most
    with pytest.raises(UsageError, match=f"legal is the pe of that: {most}"):
        fold(bare, {reader.name: Folding(most, most), windows[0].name: Folding(1, 1)})


def test_what_does_not_fit_names_layers(residual: Dataflow) -> None:
    with pytest.raises(ConstraintError, match=r"does not fit tiny:\n  dsp: \d+ needed, 2 usable of 2\n    \d+ by \w+ \(of ") as caught:
        search_foldings(residual, replace(TINY, dsp=2))
    assert caught.value.exit_code == 3 and "Remedy" in str(caught.value)


def test_candidates_are_legal_and_none_is_beaten(residual: Dataflow) -> None:
    for unit in residual.units:
        found = candidates(unit, TINY)
        assert found
        for c in found:
            unit.folded(**{key: getattr(c.folding, key) for key in unit.choices if key != "storage"})
        for a in found:
            assert not any(b is not a and b.interval <= a.interval and (b.needs < a.needs).all() for b in found)


def test_estimate_as_text(residual: Dataflow) -> None:
    found = search_foldings(residual, TINY)
    text = estimate_text(found, TINY, check_fit(found, TINY))
    assert text.count("\n| ") == len(found.units) + 4 and "no tool of the vendor has run" in text


def test_the_quoted_unit() -> None:
    unit = reference_unit()
    use = unit_usage(unit)
    assert (use.dsp, use.bram, unit.interval) == (33, 4.0, 512)
    assert unit_usage(reference_unit(weight_bits=4, act_bits=4)).dsp == 1  # products of 8 bits are in LUTs


def few_digits(pe: int, simd: int) -> MatrixVector:
    """The quoted unit with weights of two signed digits."""
    unit = reference_unit(pe, simd)
    return replace(unit, weights=np.random.default_rng(1).choice(codes_of_digits(8, 2), unit.weights.shape), digits=2)


def test_weights_of_few_digits_take_no_multipliers() -> None:
    plain, shifted = unit_usage(reference_unit()), unit_usage(few_digits(4, 8))
    assert plain.dsp - shifted.dsp == 4 * 8 and shifted.dsp == 1 and shifted.bram == plain.bram


def test_dsp_and_block_ram_equal_synthesis() -> None:
    requires_tool("yosys")
    rng = np.random.default_rng(4)
    drawn = (draw_layer(rng) for _ in iter(int, 1))
    units = list(islice((unit for unit in drawn if unit.folding.pe * unit.folding.simd <= 4), 2))
    units.append(few_digits(pe=1, simd=2))
    measured = synthesize_all([emit_design(alone(unit, f"net{i}")) for i, unit in enumerate(units)], "xc7")
    assert [(use.dsp, use.bram) for use in measured] == [(use.dsp, use.bram) for use in map(unit_usage, units)]


@pytest.mark.parametrize("held_out", [False, True])
def test_resources_equal_or_are_near_to_those_of_the_data_set(held_out: bool) -> None:
    _, units, measured = known(held_out)
    closed = [unit_usage(unit) for unit in units]
    assert len(units) >= 40
    assert [(use.dsp, use.bram) for use in closed] == [(use.dsp, use.bram) for use in measured]
    for name in ("lut", "ff"):
        error = off(values(closed, name), values(measured, name))
        assert np.median(error) < 0.05 and error.max() <= WITHIN, (name, units[int(error.argmax())])


def test_what_the_search_asks_of_the_target() -> None:
    graph = residual_network(1, "dyadic", size=4)
    target = fpga_target("xc7a35t")
    found = target.footprint(graph)
    weights = sum(value.data.size for value in graph.constants() if value.name == "weight")
    assert found == target.footprint(graph) and found["size_bytes"] == weights
    assert 0 < found["dsp"] <= PARTS["xc7a35t"].dsp and found["cycles"] > 0


def test_a_folding_by_hand() -> None:
    graph = residual_network(1, "dyadic", size=4)
    option = parse_option("xc7z020,fold.stem=4x9,fold.depthwise=6")
    assert parse_option(option.text) == option
    network = plan_network(graph, option).dataflow
    network.check()
    assert network.unit("stem").folding == Folding(4, 9) and network.unit("depthwise").folding.pe == 6
    assert network.unit("depthwise_window").folding.pe == 6
    for text, message in (
        ("fold.stem=3x9", r"stem \(of stem\): pe=3 is no legal folding; legal are 1, 2, 4, 8"),
        ("fold.stem=4x5", "simd=5 is no legal folding; legal are 1, 3, 9, 27"),
        ("fold.stern=4x9", "no unit 'stern'.*Did you mean 'stem'"),
        ("fold.depthwise=4x2", "a Depthwise has no simd of its own; it has pe, storage"),
        ("fold.stem=wide", "option 'fold.stem=wide' of fpga-hls is none; known: .*fold.UNIT=PExSIMD"),
    ):
        with pytest.raises(UsageError, match=message):
            plan_network(graph, parse_option(f"xc7z020,{text}"))
    with pytest.raises(ConstraintError, match="does not fit xc7a35t"):
        plan_network(graph, parse_option("xc7a35t,fold.pointwise=20x12"))
