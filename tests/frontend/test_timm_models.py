"""Vision architectures of timm: captured with a dynamic batch, equal to the module at two batch sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.vision import create_timm_model

from .compare import check, scatter_parameters

MODELS: dict[str, tuple[int, dict[str, Any]]] = {
    "resnet18": (64, {}),
    "mobilenetv2_100": (64, {}),
    "mobilenetv3_small_100": (64, {}),
    "efficientnet_lite0": (64, {}),
    "convnext_atto": (64, {"depths": (1, 1, 1, 1)}),
    "vit_tiny_patch16_224": (64, {"img_size": 64, "depth": 2}),
    "deit_tiny_patch16_224": (64, {"img_size": 64, "depth": 2}),
    "swin_tiny_patch4_window7_224": (56, {"img_size": 56, "depths": (2, 2)}),
    "mixer_s32_224": (64, {"img_size": 64}),
    "regnetx_002": (64, {}),
    "repvgg_a0": (64, {}),
    "fastvit_t8": (64, {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_timm_model(name: str) -> None:
    size, options = MODELS[name]
    model = scatter_parameters(create_timm_model(name, **options))
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(batch, 3, size, size, generator=generator) for batch in (2, 3, 1)]
    graph = check(model, (images[0],), ({0: "batch"},), others=((images[1],), (images[2],)))
    assert [str(d) for d in graph.inputs[0].shape] == ["batch", "3", str(size), str(size)]
    assert graph.output_names == ("output_0",)
    assert any(n.origin.module for n in graph.nodes)
