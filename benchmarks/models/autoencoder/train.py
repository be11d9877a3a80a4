"""Trains the network on Fashion-MNIST: `python -m benchmarks.models.autoencoder.train`."""

from __future__ import annotations

from benchmarks.models.training import Schedule, train

if __name__ == "__main__":
    train("autoencoder", Schedule(epochs=100, shift=0))
