"""MobileNetV1 of width 0.25 as in MLPerf Tiny's visual wake words: 96x96x3 in, 13 depthwise-separable layers."""

from __future__ import annotations

import torch
from torch import nn

STEM = 8
# Output channels and stride of each depthwise-separable layer, at a quarter of the channels of the paper
# (Howard et al. 2017, arXiv:1704.04861, table 1).
LAYERS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))


def _activated(layer: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU())


class MobileNetV1(nn.Module):
    """[batch, 3, 96, 96] to logits [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        layers = [_activated(nn.Conv2d(3, STEM, 3, 2, padding=1, bias=False))]
        inputs = STEM
        for outputs, stride in LAYERS:
            depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
            layers += [_activated(depthwise), _activated(nn.Conv2d(inputs, outputs, 1, bias=False))]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AvgPool2d(3)
        self.classifier = nn.Linear(inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.pool(self.layers(x)).flatten(1))
