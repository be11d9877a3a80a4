"""timm models, also on a CPU build of torch (see qcompiler.frontend.torchvision_schemas)."""

from __future__ import annotations

from typing import Any

import torch

from qcompiler.frontend.torchvision_schemas import declare_torchvision_schemas


def create_timm_model(name: str, **kwargs: Any) -> torch.nn.Module:
    """The timm architecture `name` with random weights (seed 0), in evaluation mode."""
    declare_torchvision_schemas()
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, **kwargs).eval()
