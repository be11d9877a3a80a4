"""Short forms for building float programs of one type, with samples for their inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qcompiler.ir import DType, Graph, GraphBuilder, Value

Build = Callable[["Sketch"], "Value | Sequence[Value]"]


class Sketch(GraphBuilder):
    """A builder with short forms for float programs of one type."""

    def __init__(self, dtype: DType) -> None:
        super().__init__("site")
        self.dtype = dtype
        self.rng = np.random.default_rng(11)
        self.samples: list[np.ndarray] = []

    def x(self, *shape: int) -> Value:
        """The next graph input, with a sample of the right type."""
        self.samples.append(self.rng.normal(size=shape).astype(self.dtype.numpy))
        return self.input(f"x{len(self.inputs)}", self.dtype, shape)

    def w(self, *shape: int, low: float | None = None) -> Value:
        """A random constant; uniform above `low` if that is given."""
        data = self.rng.normal(size=shape) if low is None else self.rng.uniform(low, low + 1, shape)
        return self.const(data.astype(np.float32).astype(self.dtype.numpy), name="w")

    def c(self, number: float) -> Value:
        """A scalar constant."""
        return self.const(np.array(number, self.dtype.numpy), name="c")

    def __getattr__(self, op: str) -> Callable[..., Value]:
        """`s.relu(x)` for `s.op("relu", x)`; plain numbers become scalar constants."""
        if op.startswith("_"):
            raise AttributeError(op)

        def call(*operands: Value | float | None, **attrs: Any) -> Value:
            values = [self.c(v) if isinstance(v, int | float) else v for v in operands]
            return self.op(op.rstrip("_"), *values, **attrs)

        return call


def sketch(build: Build, dtype: DType) -> tuple[Graph, list[np.ndarray]]:
    """The graph of a site and inputs for it."""
    s = Sketch(dtype)
    outputs = build(s)
    return s.build([outputs] if isinstance(outputs, Value) else outputs), s.samples
