"""Rotate the residual stream: x -> x R with R orthogonal, folded into every weight that writes or reads it.

Outlier channels are spread over all channels, so that the ranges of activations shrink (QuaRot's R1, Ashkboos et al.
2024, section 4, stage 1a). Norm weights have to be folded into the layers behind them first, which costs weights with
few bits accuracy; and embedding and head, where tied, become two tables. EXACT: folded in float64. Off unless a recipe
asks for it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from qcompiler.ir import Graph
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result

from .fold_rotation import rotate_streams
from .learn_rotation import learn_stream_rotation
from .orthogonal import RotationKind, rotation
from .residual_stream import Stream, find_streams


class RotateResidualConfig(PassConfig):
    """Which rotation.

    Attributes:
        rotation: "hadamard" (with random signs; blocks of it where the width has none) or "random".
        learn_steps: steps of the Cayley descent that starts from it (`learn_rotation`); 0 keeps it. Needs data.
        learning_rate: of these steps.
    """

    rotation: RotationKind = Field("hadamard", json_schema_extra={"search": ["hadamard", "random"]})
    learn_steps: int = Field(0, ge=0, json_schema_extra={"search": [0, 50, 100]})
    learning_rate: float = Field(0.5, gt=0)


class RotateResidual(Pass):
    """See the module docstring."""

    name = "rotate_residual"
    kind = Kind.EXACT

    def __init__(self, config: RotateResidualConfig | None = None) -> None:
        self.config = config or RotateResidualConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Rotate every stream there is; a learned rotation is not in the lock but found again from the same data."""
        streams, notes = find_streams(graph)
        rng = context.rng(self.name)
        rotations: dict[Stream, np.ndarray] = {}
        for stream in streams:
            found = rotation(stream.width, self.config.rotation, rng)
            matrix, data = found.matrix, {"width": stream.width}
            if self.config.learn_steps:
                learned = learn_stream_rotation(
                    graph, stream, matrix, context, self.config.learn_steps, self.config.learning_rate
                )
                matrix = learned.matrix
                data |= {"loss_before": learned.before, "loss_after": learned.after}
            rotations[stream] = matrix
            notes.append(Note(stream.where(), True, "; ".join(_remarks(stream, found.note)), data))
        result = rotate_streams(graph, rotations, self.name)
        return Result(result, result is not graph, tuple(notes))


def _remarks(stream: Stream, note: str) -> list[str]:
    weights = {n.operands[0] for n in stream.writers if n.op == "gather"}
    tied = any(n.operands[1] in weights for n in stream.readers)
    said = [f"{len(stream.writers)} writers, {len(stream.readers)} readers"]
    return said + ([note] if note else []) + (["embedding and head are two tables now"] if tied else [])
