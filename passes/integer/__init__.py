"""Integer-only programs: QUANTIZED to INTEGER, and the proof that nothing overflows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcompiler.passes.base import Pass
from qcompiler.passes.integer.integerize import Integerize
from qcompiler.passes.integer.prove_ranges import ProveRanges
from qcompiler.passes.integer.snap_scales import SnapScales


def snap_passes(configs: Mapping[str, Any]) -> list[Pass]:
    """The pass before `correct_bias` where scales have to be powers of two."""
    config = configs.get(SnapScales.name)
    return [] if config is None else [SnapScales(config)]


def integer_passes(configs: Mapping[str, Any]) -> list[Pass]:
    """The passes after `lower_to_quantized`; `configs` as for a target's pipeline."""
    return [
        Integerize(configs.get(Integerize.name)),
        ProveRanges(configs.get(ProveRanges.name)),  # of the finished program: every integer fits its type
    ]
