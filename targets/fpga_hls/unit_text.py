"""What the C++ of a unit consists of, and the parts that several units have."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qcompiler.targets.fpga_hls.cpp_text import integer, struct
from qcompiler.targets.fpga_hls.stream import Scaling, Unit

IMPLEMENTATIONS = {"lut": "lutram", "bram": "bram", "uram": "uram"}


@dataclass(frozen=True)
class UnitText:
    """A unit in C++.

    Attributes:
        header: of kernels/fpga_hls that it calls.
        function: template of that header.
        structs: definitions of `NAME_config` and what it needs.
        memories: definitions of constant arrays.
        arguments: names of these arrays, in order.
        pragmas: about them, for the body of the function.
    """

    header: str
    function: str
    structs: str
    memories: str = ""
    arguments: tuple[str, ...] = ()
    pragmas: tuple[str, ...] = field(default=())


def scaling_struct(unit: Unit, scaling: Scaling, product_bits: int) -> str:
    """Definition of `NAME_scaling`."""
    types = {"code_t": integer(scaling.bits, scaling.signed), "product_t": integer(product_bits)}
    return struct(
        f"{unit.name}_scaling", types,
        {
            "shift": scaling.shift, "zero_point": scaling.zero_point, "qmin": scaling.qmin, "qmax": scaling.qmax,
            "half_even": scaling.rounding == "shift_half_even",
        },
    )  # fmt: skip


def factors(scaling: Scaling) -> np.ndarray:
    """What the C++ takes as multipliers: places of a left shift for `shift_half_even`."""
    if scaling.rounding != "shift_half_even":
        return scaling.multiplier
    return np.array([int(m).bit_length() - 1 for m in scaling.multiplier], np.int64)


def memory_pragmas(unit: Unit, name: str, dim: int = 2) -> tuple[str, ...]:
    """Where a constant array lies, and that its rows are read at once."""
    found = [f"ARRAY_RESHAPE variable={name} complete dim={dim}"] if dim else []
    if unit.folding.storage in IMPLEMENTATIONS:
        found.append(f"BIND_STORAGE variable={name} type=rom_1p impl={IMPLEMENTATIONS[unit.folding.storage]}")
    return tuple(found)
