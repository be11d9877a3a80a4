"""Trains the network on Fashion-MNIST: `python -m benchmarks.models.vit_tiny_fmnist.train`."""

from __future__ import annotations

from benchmarks.models.training import Schedule, train

if __name__ == "__main__":
    train("vit_tiny_fmnist", Schedule(epochs=5, batch=64, rate=1.5e-3, decay=0.05, shift=1))
