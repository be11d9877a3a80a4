"""Learn offsets and scales, block by block: AutoRound, which is SignRound (Cheng et al., arXiv:2309.05516).

`learned_weight.SignRoundWeight` says how codes follow from parameters, `reconstruct` how they are learned.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from qcompiler.ir import Graph, Node
from qcompiler.passes.base import Context, Kind, PassConfig, Result
from qcompiler.passes.quantize.plan import QuantPlan, WeightCodes
from qcompiler.passes.rounding.learned_weight import SignRoundWeight
from qcompiler.passes.rounding.reconstruct import LearnedRounding, Schedule
from qcompiler.passes.rounding.round_nearest import scale_floor


class AutoroundConfig(PassConfig):
    """Training of the rounding.

    steps: per block. rate: of a step, None for 1 / steps. samples, memory: data side by side, as in `correct_bias`.
    activations: round them on the quantized side.
    """

    steps: int = Field(200, ge=1, json_schema_extra={"search": [50, 200, 1000]})
    rate: float | None = Field(None, gt=0)
    samples: int = Field(32, ge=1)
    memory: int = Field(1 << 30, ge=1 << 20)
    activations: bool = True


class RoundAutoround(LearnedRounding):
    """Replaces codes and scales of layers whose recipe says `rounding: autoround`."""

    name = "round_autoround"
    kind = Kind.LOSSY
    must_follow = ("calibrate_activations", "round_nearest", "round_hessian")
    by_block: ClassVar[bool] = True

    def __init__(self, config: AutoroundConfig | None = None, corrected: bool = False) -> None:
        self.config, self.corrected = config or AutoroundConfig(), corrected

    def run(self, graph: Graph, context: Context) -> Result:
        plan: QuantPlan = context.tables["plan"]
        rate = self.config.rate or 1 / self.config.steps

        def learn(node: Node, weight: np.ndarray, start: WeightCodes) -> SignRoundWeight:
            floor = scale_floor(plan, node) if start.quant.scale.ndim == 1 else None
            return SignRoundWeight(weight, start, rate, floor)

        return self.reconstruct(graph, context, learn, Schedule(self.config.steps))
