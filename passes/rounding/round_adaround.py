"""Learn to round up or down, layer by layer: AdaRound (Nagel et al., arXiv:2004.10568).

`learned_weight.AdaRoundWeight` says how codes follow from parameters, `reconstruct` how they are learned. Scales stay
those of the codes a layer starts from.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from qcompiler.ir import Graph, Node
from qcompiler.passes.base import Context, Kind, PassConfig, Result
from qcompiler.passes.quantize.plan import WeightCodes
from qcompiler.passes.rounding.learned_weight import AdaRoundWeight
from qcompiler.passes.rounding.reconstruct import LearnedRounding, Schedule


class AdaroundConfig(PassConfig):
    """Training of the rounding.

    steps: per unit. rate: of Adam. weight: of the term that makes h binary. warm_up: share of the steps without it.
    samples, memory: data side by side, as in `correct_bias`. activations: round them on the quantized side.
    """

    steps: int = Field(400, ge=1, json_schema_extra={"search": [200, 400, 1000]})
    rate: float = Field(0.02, gt=0)
    weight: float = Field(1.0, ge=0)
    warm_up: float = Field(0.2, ge=0, lt=1)
    samples: int = Field(32, ge=1)
    memory: int = Field(512 << 20, ge=1 << 20)
    activations: bool = False


class RoundAdaround(LearnedRounding):
    """Replaces the codes of layers whose recipe says `rounding: adaround`."""

    name = "round_adaround"
    kind = Kind.LOSSY
    must_follow = ("calibrate_activations", "round_nearest", "round_hessian")
    by_block: ClassVar[bool] = False

    def __init__(self, config: AdaroundConfig | None = None, corrected: bool = False) -> None:
        self.config, self.corrected = config or AdaroundConfig(), corrected

    def run(self, graph: Graph, context: Context) -> Result:
        def learn(node: Node, weight: np.ndarray, start: WeightCodes) -> AdaRoundWeight:
            return AdaRoundWeight(weight, start, self.config.rate, self.config.warm_up)

        return self.reconstruct(graph, context, learn, Schedule(self.config.steps, self.config.weight))
