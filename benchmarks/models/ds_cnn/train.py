"""Trains the network on Fashion-MNIST: `python -m benchmarks.models.ds_cnn.train`."""

from __future__ import annotations

from benchmarks.models.training import Schedule, train

if __name__ == "__main__":
    train("ds_cnn", Schedule(epochs=4, batch=64, rate=4e-3, shift=1))
