"""Trains the network on Fashion-MNIST: `python -m benchmarks.models.resnet8.train`."""

from __future__ import annotations

from benchmarks.models.training import Schedule, train

if __name__ == "__main__":
    train("resnet8", Schedule(epochs=3, batch=64, shift=1))
