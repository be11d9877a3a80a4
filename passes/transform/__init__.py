"""Function-preserving passes: scales, shifts and rotations moved between layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from qcompiler.passes.base import Pass
    from qcompiler.recipe import Recipe


def transform_passes(configs: Mapping[str, Any], recipe: Recipe) -> list[Pass]:
    """The passes for transformers, in order; those of `optional_configs` only where a recipe names them.

    Args:
        configs: configuration by name of the step; None switches it off, absent steps have their defaults.
        recipe: settings per layer: what a site will be rounded to.
    """
    from qcompiler.passes.quantize.choose_scheme import ChooseScheme

    from .add_low_rank_branch import AddLowRankBranch
    from .reparameterize_layer_norm import ReparameterizeLayerNorm
    from .rotate_online import RotateOnline
    from .rotate_residual import RotateResidual
    from .rotate_values import RotateValues
    from .scale_scores import ScaleScores
    from .scale_weights import ScaleWeights
    from .smooth_activations import SmoothActivations
    from .split_channels import SplitChannels

    steps: list[Pass] = [
        RotateResidual(configs.get("rotate_residual")),  # first: a scale per channel would be mixed away by it
        RotateValues(configs.get("rotate_values")),
        ScaleScores(configs.get("scale_scores")),  # queries against keys
        ChooseScheme(configs.get("choose_scheme"), recipe),  # what stays dynamic or real is left unsmoothed
        SplitChannels(configs.get("split_channels"), recipe),  # leaves the smoothing less to move
        SmoothActivations(configs.get("smooth_activations"), recipe),  # before anything measures ranges
        ScaleWeights(configs.get("scale_weights"), recipe),  # of what has real or run-time ranges
        ReparameterizeLayerNorm(configs.get("reparameterize_layer_norm"), recipe),  # of what the norm gives now
        RotateOnline(configs.get("rotate_online")),  # what smoothing left; only where a target computes it fast
        AddLowRankBranch(configs.get("add_low_rank_branch"), recipe),  # last: of the weights as they will be rounded
    ]
    off = optional_configs().keys() - {name for name, config in configs.items() if config is not None}
    return [s for s in steps if s.name not in off]


def optional_configs() -> dict[str, type[BaseModel]]:
    """Steps that run only where a recipe names them under `passes`, with their configurations."""
    from .add_low_rank_branch import LowRankConfig
    from .reparameterize_layer_norm import ReparameterizeConfig
    from .rotate_online import RotateOnlineConfig
    from .rotate_residual import RotateResidualConfig
    from .rotate_values import RotateValuesConfig
    from .scale_scores import ScaleScoresConfig
    from .scale_weights import ScaleConfig

    return {
        "rotate_residual": RotateResidualConfig,
        "rotate_values": RotateValuesConfig,
        "scale_scores": ScaleScoresConfig,
        "scale_weights": ScaleConfig,
        "reparameterize_layer_norm": ReparameterizeConfig,
        "rotate_online": RotateOnlineConfig,
        "add_low_rank_branch": LowRankConfig,
    }
