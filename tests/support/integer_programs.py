"""Integer programs of the toy networks, and running programs on real numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.boundary import dequantize_outputs, quantize_inputs
from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.integer import integer_passes
from qcompiler.passes.integer.config import IntegerConfig
from qcompiler.passes.integer.snap_scales import SnapScales
from support.toy_networks import context_for, quantize


def integer_program(graph: Graph, context: Context | None = None, **config: Any) -> Graph:
    """The INTEGER program of a float graph, through the same passes as a compile."""
    context = context or context_for(graph)
    snap = (SnapScales(),) if config.get("profile") == "shift_half_even" else ()
    program = quantize(graph, context, extra=snap)
    passes = integer_passes({"integerize": IntegerConfig(**config)})
    return run_passes(program, passes, context, verify_each=True)[0]


def real_outputs(program: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Reference results as real numbers, for real inputs."""
    return dequantize_outputs(program, run_reference(program, quantize_inputs(program, arrays)))


def stacked(program: Graph, samples: Any) -> np.ndarray:
    """The first output of every sample."""
    return np.stack([real_outputs(program, arrays)[0] for arrays in samples])
