"""What the torch bodies of ops are built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from qcompiler.ir import DType, Node, Value

Body = Callable[..., Any]
Builder = Callable[["BuildContext"], Body]


@dataclass(frozen=True)
class NumberTypes:
    """Maps graph types to torch types: float32 becomes `real`; with float64 every float type does."""

    real: torch.dtype

    def of(self, dtype: DType) -> torch.dtype:
        """The torch type that a value of a graph type is held in."""
        if dtype.is_float and (dtype is DType.float32 or self.real is torch.float64):
            return self.real
        if dtype.is_integer and dtype.bits < 8:
            return torch.int8 if dtype.is_signed else torch.uint8
        return getattr(torch, dtype.name)


@dataclass(frozen=True)
class BuildContext:
    """A node whose torch body is wanted.

    Attributes:
        node: the node.
        attrs: its attributes, symbolic dimensions replaced by integers.
        types: number types of this run.
        device: where tensors that the body creates live.
    """

    node: Node
    attrs: Mapping[str, Any]
    types: NumberTypes
    device: torch.device

    @property
    def x(self) -> Value:
        """The first operand's value."""
        value = self.node.inputs[0]
        assert value is not None
        return value
