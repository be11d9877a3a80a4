"""Trains the network on Fashion-MNIST: `python -m benchmarks.models.mobilenet_v1_025.train`."""

from __future__ import annotations

from benchmarks.models.training import Schedule, train

if __name__ == "__main__":
    train("mobilenet_v1_025", Schedule(epochs=2, batch=64, rate=4e-3, shift=1))
