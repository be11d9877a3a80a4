"""DS-CNN as in MLPerf Tiny's keyword spotting: 49x10x1 in (there a spectrogram), depthwise-separable layers."""

from __future__ import annotations

import torch
from torch import nn

CHANNELS = 64


def _activated(layer: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU())


class DSCNN(nn.Module):
    """[batch, 1, 49, 10] to logits [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        layers = [_activated(nn.Conv2d(1, CHANNELS, (10, 4), (2, 2), padding=(5, 1), bias=False))]
        for _ in range(4):
            depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False)
            layers += [_activated(depthwise), _activated(nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False))]
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AvgPool2d((25, 5))
        self.classifier = nn.Linear(CHANNELS, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.pool(self.layers(x)).flatten(1))
