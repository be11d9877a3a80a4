"""Learn to round up or down, block by block: BRECQ (Li et al., arXiv:2102.05426).

As `round_adaround`, with the outputs of a whole block in place of a layer's: what layers of one block do to each
other counts. Unlike there, without second derivatives as weights, and scales of activations are not learned.
"""

from __future__ import annotations

from pydantic import Field

from qcompiler.passes.base import Kind
from qcompiler.passes.rounding.round_adaround import AdaroundConfig, RoundAdaround


class BrecqConfig(AdaroundConfig):
    """As for AdaRound; activations: round them on the quantized side, which the weights then make up for."""

    activations: bool = Field(True)


class RoundBrecq(RoundAdaround):
    """Replaces the codes of layers whose recipe says `rounding: brecq`."""

    name = "round_brecq"
    kind = Kind.LOSSY
    by_block = True

    def __init__(self, config: BrecqConfig | None = None, corrected: bool = False) -> None:
        super().__init__(config or BrecqConfig(), corrected)
