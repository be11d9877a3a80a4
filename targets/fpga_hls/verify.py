"""Verification: C simulation against the reference interpreter, every integer `==`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.errors import InternalError
from qcompiler.ir import Graph, print_graph
from qcompiler.targets.fpga_hls.runtime import SimulationSession
from qcompiler.targets.integer_check import Verification, compare


def verify_simulation(graph: Graph, session: SimulationSession, samples: Sequence[Sequence[np.ndarray]]) -> Verification:
    """Outputs and everything that flows between units, over all samples.

    Raises:
        InternalError: the session runs another program.
    """
    if print_graph(graph)[0] != print_graph(session.graph)[0]:
        raise InternalError("the program beside the HLS project is not the one that was compiled")
    return compare(session.graph, session.taps, session.run_tapped, samples, "C simulation", "the HLS project")
