"""A small residual network as a user would bring it: a Python file with factories, and data in .npz files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SOURCE = '''
import os, signal
import numpy as np
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.second(torch.relu(self.norm(self.first(x)))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(Block(16), Block(16))
        self.head = nn.Linear(16, 10)

    def forward(self, image):
        return self.head(self.blocks(torch.relu(self.stem(image))).mean((2, 3)))


def net():
    torch.manual_seed(0)
    model = Net()
    for block in model.blocks:
        block.norm.running_mean.normal_()
        block.norm.running_var.uniform_(0.5, 2)
    return model.eval(), (torch.zeros(1, 3, 32, 32),)


def nothing_to_quantize():
    return nn.Softmax(-1), (torch.zeros(1, 8),)


def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    return net()


def samples():
    generator = np.random.default_rng(1)
    return [generator.normal(size=(1, 3, 32, 32)).astype(np.float32) for _ in range(12)]


def mean_of_first(outputs):
    return float(np.mean([o[0][..., 0].mean() for o in outputs]))


def interrupting_metric(outputs, references):
    raise KeyboardInterrupt


def broken_metric(outputs):
    return outputs["no such key"]
'''


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Latency has to be measured, not measured well."""
    from qcompiler import compilation

    monkeypatch.setattr(compilation, "MEASURE_SECONDS", 0.02)


@pytest.fixture(scope="session")
def here(tmp_path_factory) -> Path:
    """Folder with net.py, calibration.npz and evaluation.npz."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "net.py").write_text(SOURCE)
    generator = np.random.default_rng(0)
    np.savez(folder / "calibration.npz", image=generator.normal(size=(24, 3, 32, 32)).astype(np.float32))
    np.savez(folder / "evaluation.npz", image=generator.normal(size=(8, 3, 32, 32)).astype(np.float32))
    return folder


@pytest.fixture(scope="session")
def user_module(here):
    """net.py, imported."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("user_net", here / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
