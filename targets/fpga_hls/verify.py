"""Verification: simulations against the reference interpreter, every integer `==`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcompiler.errors import InternalError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph, print_graph
from qcompiler.targets.base import Simulation
from qcompiler.targets.fpga_hls.emit import plan_network
from qcompiler.targets.fpga_hls.model.fit import RESOURCES, estimate
from qcompiler.targets.fpga_hls.model.network_timing import network_timing
from qcompiler.targets.fpga_hls.parts import Option
from qcompiler.targets.fpga_hls.runtime import SimulationSession, open_folder
from qcompiler.targets.fpga_hls.verilog import simulate as rtl
from qcompiler.targets.fpga_hls.verilog.network import simulate_network
from qcompiler.targets.integer_check import Verification, compare

CSIM = "csim"
SIMULATORS = (*rtl.SIMULATORS, CSIM)


def verify_simulation(graph: Graph, session: SimulationSession, samples: Sequence[Sequence[np.ndarray]]) -> Verification:
    """Outputs and everything that flows between units, over all samples.

    Raises:
        InternalError: the session runs another program.
    """
    if print_graph(graph)[0] != print_graph(session.graph)[0]:
        raise InternalError("the program beside the HLS project is not the one that was compiled")
    return compare(session.graph, session.taps, session.run_tapped, samples, "C simulation", "the HLS project")


def simulate(graph: Graph, folder: Path, option: Option, samples: Sequence[Sequence[np.ndarray]], on: str) -> Simulation:
    """Run all samples: the project's C++, which knows no clocks, or its Verilog, frames right after each other.

    Raises:
        MissingToolError: the simulator is not installed.
        UnsupportedError: with Verilog, a unit without a twin.
    """
    network = plan_network(graph, option).dataflow
    figures: dict[str, int] = {}
    predicted: dict[str, int] = {}
    if on == CSIM:
        session = open_folder(folder, option)
        outputs = [tuple(session.run(arrays)) for arrays in samples]
    else:
        run, model = simulate_network(network, samples, on), network_timing(network, len(samples))
        outputs, figures["first_cycles"], predicted["first_cycles"] = list(run.outputs), run.first, int(model.ends[0])
        if len(samples) > 1:
            figures["cycles"], predicted["cycles"] = run.interval, model.interval
    differing = sum(
        int((got != want).sum())
        for arrays, found in zip(samples, outputs, strict=True)
        for got, want in zip(found, run_reference(graph, list(arrays)), strict=True)
    )
    use = estimate(network, option.part.family).whole
    resources = {name: getattr(use, name) for name in RESOURCES}
    return Simulation(on, len(samples), differing, **figures, predicted=predicted, resources=resources)
