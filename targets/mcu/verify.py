"""Verification: the C project against the reference interpreter, every integer `==`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.errors import InternalError
from qcompiler.ir import Graph, print_graph
from qcompiler.targets.integer_check import Verification, compare
from qcompiler.targets.mcu.runtime import HostSession


def verify_host(graph: Graph, session: HostSession, samples: Sequence[Sequence[np.ndarray]]) -> Verification:
    """Outputs and every tapped value of the host build, over all samples.

    Raises:
        InternalError: the session runs another program.
    """
    if print_graph(graph)[0] != print_graph(session.graph)[0]:
        raise InternalError("the program beside the C project is not the one that was compiled")
    taps = {value for _, value, _ in session.plan.program.taps}
    return compare(session.graph, taps, session.run_tapped, samples, "host build", "the C project")
