"""Instructions that multiply weights packed in words: what one step of a grouped product does.

A step multiplies `codes` neighbours of the depth for `lanes` output columns. Weights of up to 4 bits, and weights that
meet real numbers, lie as digits of a 32-bit word per column and are taken out where they are used:

    real      digit p, still at its place in the word, becomes a real number; the operand was divided by its weight
              2^(bits p) in front. One `and`, one conversion and one multiply-add per vector. The last digit is shifted
              down instead, as it would be negative where it is.
    integer   4-bit digits of even and odd halves are bytes 0..15, multiplied by signed bytes: `vpdpbusd`, `sdot`, or
              `vpmaddubsw`, whose sums of two such products and of two of these stay below 2^15, so that nothing
              saturates here. 8-bit digits are bytes as they are, for `vpdpbusd` alone.

Wider integer weights are multiplied as in other integer products, in pairs of 16 bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from qcompiler.kernels.cpu.codegen import intrinsic
from qcompiler.kernels.cpu.isa import Form, Isa

WORD = 32


@dataclass(frozen=True)
class Step:
    """One way to multiply packed weights.

    Attributes:
        name: of the instruction, for tables.
        lanes: output columns.
        codes: neighbours of the depth.
        bits: of a digit; 0 for weights that are no digits of words.
        form: of the accumulation.
    """

    name: str
    lanes: int
    codes: int
    bits: int
    form: Form

    @property
    def kind(self) -> str:
        """Of the accumulators."""
        return "float32" if self.form.activation == "float32" else "int32"

    def digit(self, word: Any, place: Any) -> Any:
        """What the description multiplies: real numbers meet digits at their places in the word, integers digits."""
        if self.kind == "float32":
            mask = tirx.shift_left(tirx.const((1 << self.bits) - 1, "uint32"), _u32(place * self.bits))
            low = tirx.bitwise_and(word, mask).astype("int32").astype("float32")
            high = tirx.shift_right(word, tirx.const(WORD - self.bits, "uint32")).astype("int32").astype("float32")
            return tirx.Select(place < self.codes - 1, low, high)
        # digits of even halves of bytes first
        shift = (place % 4) * 8 + (place // 4) * 4
        mask = tirx.const((1 << self.bits) - 1, "uint32")
        return tirx.bitwise_and(tirx.shift_right(word, _u32(shift)), mask).astype("int32")

    def factors(self) -> np.ndarray:
        """What elements of a real operand are multiplied by in front, by place."""
        places = [0.0 if p == self.codes - 1 else -self.bits * p for p in range(self.codes)]
        return np.exp2(np.asarray(places)).astype(np.float32)

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """Unsigned codes [..., lanes, codes] as words [..., lanes]."""
        if self.kind == "float32":
            shifts = np.arange(self.codes) * self.bits
        else:
            shifts = (np.arange(self.codes) % 4) * 8 + (np.arange(self.codes) // 4) * 4
        words = (codes.astype(np.uint64) << shifts.astype(np.uint64)).sum(-1)
        return np.ascontiguousarray(words.astype(np.uint32))


def _u32(x: Any) -> Any:
    return x.astype("uint32")


def real_step(isa: Isa, bits: int) -> Step:
    """Codes of up to `bits` (4 or 8) times real numbers."""
    return Step(f"{isa.real.name} int{bits}", isa.real.lanes, WORD // bits, bits, isa.real)


def digit_step(isa: Isa, digit: int) -> Step | None:
    """Codes of up to `digit` (4 or 8) bits times signed bytes; None where the instruction set has nothing for that."""
    lanes, bits = isa.real.lanes, isa.vector_bytes * 8
    if isa.narrow.name == "vpdpbusd" or (isa.narrow.name == "sdot" and digit == 4):
        form = Form(isa.narrow.name, lanes, 4, "int8", "int8", isa.narrow.intrinsic)
    elif isa.name in ("avx2", "avx512") and digit == 4:
        name = {256: "llvm.x86.avx2.pmadd.ub.sw", 512: "llvm.x86.avx512.pmaddubs.w.512"}[bits]
        form = Form("vpmaddubsw", lanes, 4, "int8", "int8", name)
    else:
        return None
    return Step(f"{form.name} int{digit}", lanes, WORD // digit, digit, form)


def pair_step(isa: Isa, narrow: bool) -> Step:
    """Codes of 8 bits (`narrow`) or 9 times codes of 16 bits."""
    wide = isa.wide
    weight = "int8" if narrow and wide.pair > 1 else wide.weight
    form = Form(wide.name, wide.lanes, wide.pair, wide.activation, weight, wide.intrinsic)
    return Step(f"{form.name} {weight}", form.lanes, form.pair, 0, form)


@functools.cache
def step_intrinsic(step: Step) -> str:
    """Name of the tensor intrinsic of a step, "" for plain vector arithmetic."""
    if not step.bits:
        return intrinsic(step.form) if step.form.intrinsic else ""
    name = f"qcompiler_{step.name}_{step.lanes}".replace(" ", "_").replace("+", "_")
    TensorIntrin.register(name, *_words(step, _implementation(step)), override=True)
    return name


def _words(step: Step, multiply: Callable[[Any, Any, Any], Any]) -> tuple[Any, Any]:
    lanes, codes, at, ct = step.lanes, step.codes, step.form.activation, step.kind
    digit = step.digit

    @T.prim_func(s_tir=True)
    def description(
        A: T.Buffer((codes,), at, offset_factor=1),
        W: T.Buffer((lanes,), "uint32", offset_factor=1),
        C: T.Buffer((lanes,), ct, offset_factor=1),
    ):
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:codes], W[0:lanes])
            T.writes(C[0:lanes])
            for i, k in T.grid(lanes, codes):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.cast(A[vk], ct) * digit(W[vi], vk)

    @T.prim_func(s_tir=True)
    def implementation(
        A: T.Buffer((codes,), at, offset_factor=1),
        W: T.Buffer((lanes,), "uint32", offset_factor=1),
        C: T.Buffer((lanes,), ct, offset_factor=1),
    ):
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:codes], W[0:lanes])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = multiply(A, W, C)

    return description, implementation


def _implementation(step: Step) -> Callable[[Any, Any, Any], Any]:
    """The instructions as a function of the buffers; the same load again and again is one for LLVM."""
    lanes, form = step.lanes, step.form

    def call(*operands: Any, result: str) -> Any:
        return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(form.intrinsic), *operands, dtype=result)

    def vector(value: int) -> Any:
        return T.broadcast(tirx.const(value, "uint32"), lanes)

    def word(w: Any) -> Any:
        return w.vload([0], f"uint32x{lanes}")

    def real(a: Any, w: Any, c: Any) -> Any:
        kind, total = f"float32x{lanes}", c.vload([0], f"float32x{lanes}")
        for p in range(step.codes):
            last = p == step.codes - 1
            mask = ((1 << step.bits) - 1) << (step.bits * p)
            held = word(w) >> vector(WORD - step.bits) if last else word(w) & vector(mask)
            number = T.cast(T.cast(held, f"int32x{lanes}"), kind)
            left = T.broadcast(a.vload([p], "float32"), lanes)
            total = call(left, number, total, result=kind) if form.intrinsic else total + left * number
        return total

    def halves(a: Any, w: Any) -> list[tuple[Any, Any]]:
        """(digits as bytes, the four operands they meet) of both halves of the bytes, or of whole bytes."""
        found = []
        for half in range(step.codes // 4):
            digits = (word(w) >> vector(4) if half else word(w)) & vector(0x0F0F0F0F) if step.bits == 4 else word(w)
            four = T.broadcast(T.reinterpret(a.vload([4 * half], "int8x4"), dtype="int32"), lanes)
            found.append((T.reinterpret(digits, dtype=f"int8x{4 * lanes}"), T.reinterpret(four, dtype=f"int8x{4 * lanes}")))
        return found

    def in_bytes(a: Any, w: Any, c: Any) -> Any:
        total = c.vload([0], f"int32x{lanes}")
        for digits, four in halves(a, w):
            total = call(total, digits, four, result=f"int32x{lanes}")
        return total

    def in_words(a: Any, w: Any, c: Any) -> Any:
        pairs = f"int16x{2 * lanes}"
        (low, first), (high, second) = halves(a, w)
        sums = call(low, first, result=pairs) + call(high, second, result=pairs)
        wide = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[lanes]
        ones = T.broadcast(tirx.const(1, "int16"), 2 * lanes)
        added = T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(wide), sums, ones, dtype=f"int32x{lanes}")
        return c.vload([0], f"int32x{lanes}") + added

    if step.kind == "float32":
        return real
    return in_words if form.name == "vpmaddubsw" else in_bytes
