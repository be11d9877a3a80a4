"""Between real numbers and the codes of an integer program: the same code for every target.

A program of level INTEGER takes and gives integers with quantization parameters. Inputs are quantized and outputs
dequantized here, in the API, by `saturate(round_half_even(x / scale) + zero_point)` and `scale * (q - zero_point)`.
Values without parameters (token ids, masks, real numbers of other levels) pass unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from qcompiler.ir import DType

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Value
    from qcompiler.targets import Session


def real_inputs(graph: Graph) -> tuple[Value, ...]:
    """The inputs as the user gives them: float32 in place of codes."""
    return tuple(v if v.quant is None else replace(v, dtype=DType.float32, quant=None) for v in graph.inputs)


def quantize_inputs(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What the program takes, of real inputs."""
    return [a if v.quant is None else v.quant.quantize(a) for a, v in zip(arrays, graph.inputs, strict=True)]


def dequantize_outputs(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Real outputs, of what the program gives."""
    return [a if v.quant is None else v.quant.dequantize(a) for a, v in zip(arrays, graph.outputs, strict=True)]


class RealSession:
    """A loaded artefact that takes and gives real numbers."""

    def __init__(self, session: Session, graph: Graph) -> None:
        self.session, self.graph = session, graph

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Real outputs for real inputs."""
        return dequantize_outputs(self.graph, self.session.run(quantize_inputs(self.graph, arrays)))
