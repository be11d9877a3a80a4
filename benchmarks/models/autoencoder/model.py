"""Fully connected autoencoder as in MLPerf Tiny's anomaly detection: 640 in and out, 8 in the middle."""

from __future__ import annotations

import torch
from torch import nn

WIDTHS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)


class Autoencoder(nn.Module):
    """[batch, 640] to its reconstruction [batch, 640]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip(WIDTHS, WIDTHS[1:], strict=False):
            layers.append(nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()))
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTHS[-1], WIDTHS[0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)
