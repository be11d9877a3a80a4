"""A legal program for C: kernel calls in order, over tensors that lie in one arena.

It comes from an INTEGER graph (`legalize`), gets its memory (`plan_arena`) and is printed (`emit`). The integers are
those of the graph; only the order of axes in memory, the packing of weights and the grouping of nodes differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from qcompiler.ir import DType, Node, QuantParams, Value
from qcompiler.targets.mcu.layouts import Order, equivalent
from qcompiler.targets.mcu.memory_plan import Overlap

C_TYPES: dict[DType, str] = {
    DType.int8: "int8_t", DType.int16: "int16_t", DType.int32: "int32_t", DType.int64: "int32_t", DType.bool: "uint8_t",
    DType.uint8: "uint8_t",
}  # fmt: skip
"""Elements in C. Numbers of rows (token ids), which models hold in 64 bits, have 32 here."""
C_BYTES: dict[str, int] = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "int64_t": 8}


def element_bytes(dtype: DType) -> int:
    """Bytes of an element in C."""
    return C_BYTES[C_TYPES[dtype]]


@dataclass(frozen=True, eq=False)
class Data:
    """A constant array in flash."""

    name: str
    array: np.ndarray
    c_type: str
    alignment: int = 0
    """Bytes; 0 is that of the type."""

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.array.size) * C_BYTES[self.c_type]


@dataclass(frozen=True, eq=False)
class Storage:
    """Bytes that hold one or more tensors (a reshape shares them with its operand).

    Attributes:
        name: for reports and comments.
        size: bytes.
        place: `arena`; `input` or `output`: memory of the caller; `flash`: a constant.
        index: of the graph input or output.
        data: of a constant.
    """

    name: str
    size: int
    place: str = "arena"
    index: int = -1
    data: Data | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of the graph as it lies in memory.

    Attributes:
        storage: where.
        dtype: of the elements.
        shape: logical, as in the graph.
        order: of the axes in memory.
        quant: of its codes.
        columns: None, or the order in which the elements of the last axis lie, where a reshape was left undone
            because its readers' weights can be reordered instead.
    """

    storage: Storage
    dtype: DType
    shape: tuple[int, ...]
    order: Order
    quant: QuantParams | None
    columns: np.ndarray | None = None

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def c_type(self) -> str:
        """Type of an element in C."""
        return C_TYPES[self.dtype]

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return element_bytes(self.dtype)

    @property
    def bits(self) -> int:
        """Of an element."""
        return 8 * self.item

    def lies_as(self, order: Order) -> bool:
        """True if the bytes are those of another order."""
        return self.columns is None and equivalent(self.order, order, self.shape)


@dataclass(frozen=True, eq=False)
class Struct:
    """A constant parameter struct: fields are integers, `Data`, None (NULL) or nested mappings."""

    name: str
    c_type: str
    fields: Mapping[str, object]


@dataclass(frozen=True)
class At:
    """A pointer argument: byte `first` of a tensor, and `stride` bytes further with each repetition of the step."""

    tensor: Tensor
    stride: int = 0
    first: int = 0


@dataclass(frozen=True)
class Scratch:
    """A pointer argument: the step's scratch memory."""


@dataclass(frozen=True)
class Widths:
    """A qc_widths argument: bits of both operands and of the result."""

    a: int
    b: int
    y: int


Argument = At | Scratch | Struct | Data | Widths | int


@dataclass(frozen=True, eq=False)
class Step:
    """One kernel call, or a loop of calls.

    Attributes:
        function: of kernels/mcu.
        arguments: in order.
        reads: tensors that it reads.
        writes: tensor that it writes.
        nodes: of the graph; the last one computes what is written.
        scratch: bytes.
        overlaps: by index into `reads`: how the result may lie over that operand.
        repeat: number of calls.
        macs: multiply-accumulates.
        note: what was fused or converted, for the report.
    """

    function: str
    arguments: tuple[Argument, ...]
    reads: tuple[Tensor, ...]
    writes: Tensor
    nodes: tuple[Node, ...]
    scratch: int = 0
    overlaps: Mapping[int, Overlap] = field(default_factory=dict)
    repeat: int = 1
    macs: int = 0
    note: str = ""

    @property
    def module(self) -> str:
        """Module path in the user's model."""
        return self.nodes[0].origin.module


@dataclass(frozen=True)
class Program:
    """A whole model.

    Attributes:
        name: C identifier that prefixes every public name.
        inputs: in graph order; in the caller's memory.
        outputs: in graph order; in the caller's memory.
        steps: in order.
        taps: (step index, value of the graph) for every value that a step leaves behind whole.
        profile: rounding of the rescales.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    taps: tuple[tuple[int, Value, Tensor], ...]
    profile: str
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
