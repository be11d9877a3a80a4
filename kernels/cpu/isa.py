"""Instruction sets and the forms of product that their micro-kernels use. Nothing here needs TVM.

A form multiplies `pair` neighbouring elements of the depth for `lanes` output columns and adds the products into
`lanes` int32 accumulators, exactly: nothing saturates. `vpmaddubsw` adds pairs of u8 x s8 in 16 bits with saturation.
Its results may be added in 16 bits too before they are widened to 32, which is what limits it: 1, 2 or 4 of them
(`chunks`) take 3, 5 or 9 instructions, of which 2, 3 or 5 multiply. These are forms for constant weights that cannot
leave 16 bits so (`short`); other 8-bit codes are widened to 16 bits and multiplied by `vpmaddwd`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from qcompiler.errors import UsageError


@dataclass(frozen=True)
class Form:
    """One way to multiply and accumulate.

    Attributes:
        name: of the instruction, and of how many where several results add up.
        lanes: output columns per instruction.
        pair: neighbours of the depth per lane.
        activation: type of the packed left operand.
        weight: type of the packed right operand.
        intrinsic: LLVM's name, "" for plain vector arithmetic.
        chunks: instructions whose results add up in 16 bits; each multiplies `pair` / `chunks` neighbours.
    """

    name: str
    lanes: int
    pair: int
    activation: str
    weight: str
    intrinsic: str = ""
    chunks: int = 1


@dataclass(frozen=True)
class Isa:
    """An instruction set.

    Attributes:
        name: as targets and reports show it.
        features: LLVM's feature names that it needs.
        narrow: for 8-bit codes and 8-bit symmetric weights.
        wide: for what does not fit that: 9-bit centred operands, 16-bit codes.
        real: float32.
        registers: vector registers.
        vector_bytes: of one.
        slow: why code for it is slow, "" if it has products of integers.
        short: for 8-bit codes and constant weights whose sums of 2 or more products stay within 16 bits, where that is
            faster than `narrow`.
        permutes: short tables are read out of registers (`vpermi2w`, `vpermi2d`).
    """

    name: str
    features: tuple[str, ...]
    narrow: Form
    wide: Form
    real: Form
    registers: int
    vector_bytes: int
    slow: str = ""
    short: tuple[Form, ...] = ()
    permutes: bool = False


def _x86(name: str, features: tuple[str, ...], bits: int, vnni: bool, registers: int, slow: str = "") -> Isa:
    lanes = bits // 32
    pmadd = {128: "llvm.x86.sse2.pmadd.wd", 256: "llvm.x86.avx2.pmadd.wd", 512: "llvm.x86.avx512.pmaddw.d.512"}[bits]
    narrow = Form("vpmaddwd", lanes, 2, "int16", "int8", pmadd)
    wide = Form("vpmaddwd", lanes, 2, "int16", "int16", pmadd)
    short: tuple[Form, ...] = ()
    if bits > 128 and not vnni:
        maddubs = {256: "llvm.x86.avx2.pmadd.ub.sw", 512: "llvm.x86.avx512.pmaddubs.w.512"}[bits]
        names = {1: "vpmaddubsw", 2: "vpmaddubsw-x2", 4: "vpmaddubsw-x4"}
        short = tuple(Form(name, lanes, 4 * chunks, "uint8", "int8", maddubs, chunks) for chunks, name in names.items())
    if vnni:
        narrow = Form("vpdpbusd", lanes, 4, "uint8", "int8", f"llvm.x86.avx512.vpdpbusd.{bits}")
    real = Form("fma", lanes, 1, "float32", "float32", f"llvm.fma.v{lanes}f32") if bits > 128 else _plain_real(lanes)
    return Isa(name, features, narrow, wide, real, registers, bits // 8, slow, short, bits == 512)


def _plain_real(lanes: int) -> Form:
    return Form("mul+add", lanes, 1, "float32", "float32")


_NEON_REAL = Form("fmla", 4, 1, "float32", "float32", "llvm.fma.v4f32")
_NEON_WIDE = Form("mla", 4, 1, "int16", "int16")

# Best first; a CPU gets the first whose features it has.
ISAS: tuple[Isa, ...] = (
    _x86("avx512vnni", ("avx512vnni", "avx512bw", "avx512vl"), 512, True, 32),
    _x86("avxvnni", ("avxvnni", "avx2", "fma"), 256, True, 16),
    _x86("avx512", ("avx512bw", "avx512vl"), 512, False, 32),
    _x86("avx2", ("avx2", "fma"), 256, False, 16),
    Isa(
        "dotprod", ("dotprod", "neon"), Form("sdot", 4, 4, "int8", "int8", "llvm.aarch64.neon.sdot.v4i32.v16i8"),
        _NEON_WIDE, _NEON_REAL, 32, 16,
    ),
    _x86("sse2", ("sse2",), 128, False, 16, "128-bit vectors without fused multiply-add, half the width of AVX2"),
    Isa("neon", ("neon",), _NEON_WIDE, _NEON_WIDE, _NEON_REAL, 32, 16, "no dot product (Armv8.2 has it); widened to 32 bits"),
)  # fmt: skip


def best_isa(features: Collection[str], cpu: str) -> Isa:
    """The first instruction set that a CPU with LLVM's `features` has.

    Raises:
        UsageError: none of them.
    """
    for isa in ISAS:
        if all(feature in features for feature in isa.features):
            return isa
    raise UsageError(f"CPU {cpu!r} has none of the instruction sets that the kernels are for: {', '.join(i.name for i in ISAS)}")


def isa_named(name: str) -> Isa:
    """The instruction set of a name.

    Raises:
        UsageError: there is none.
    """
    for isa in ISAS:
        if isa.name == name:
            return isa
    raise UsageError(f"unknown instruction set {name!r}; known: {', '.join(i.name for i in ISAS)}")
