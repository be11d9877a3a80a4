"""What TVM needs to make good CPU code of our schedules: tensor intrinsics and a lowering pipeline.

TVM's own VNNI intrinsics do not compile with LLVM 22 or saturate, and its pipeline puts accumulators on the heap.
"""

from __future__ import annotations

import functools
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.tirx import compilation_pipeline

from qcompiler.kernels.cpu.isa import Form
from qcompiler.kernels.cpu.tails import tails_apart

PIPELINE = "qcompiler_cpu"
STACK_BYTES = 16384
"""Scratch up to this size stays on the stack, where LLVM turns it into registers."""


def _small_allocations_on_stack() -> Any:
    @tirx.transform.prim_func_pass(opt_level=0)
    def run(func: Any, module: Any, context: Any) -> Any:
        def keep(statement: Any) -> Any:
            count = 1
            for dim in statement.buffer.shape:
                if not isinstance(dim, tirx.IntImm):
                    return statement
                count *= int(dim)
            kind = tvm.DataType(str(statement.buffer.dtype))
            if count * kind.bits * kind.lanes // 8 > STACK_BYTES:
                return statement
            notes = {**dict(statement.annotations or {}), "disable_lower_builtin": tirx.IntImm("bool", 1)}
            return tirx.AllocBuffer(statement.buffer, notes)

        return func.with_body(tvm_ffi.structural_map(func.body, (tirx.AllocBuffer, keep)))

    return run


@functools.cache
def register_pipeline() -> str:
    """Name of the lowering pipeline, registered once."""

    def pipeline() -> Any:
        first, _, device = compilation_pipeline.get_tir_pipeline("s_tir")

        def host() -> Any:
            lower = tirx.transform
            return tvm.ir.transform.Sequential([_small_allocations_on_stack(), lower.LowerTVMBuiltin(), lower.LowerIntrin()])

        return tvm.ir.transform.Sequential([tails_apart(), first]), host, device

    compilation_pipeline.register_tir_pipeline(PIPELINE, pipeline)
    return PIPELINE


@functools.cache
def intrinsic(form: Form) -> str:
    """Name of the tensor intrinsic of a form: acc[lanes] += sum over pair of a[pair] w[lanes, pair]."""
    name = f"qcompiler_{form.name}_{form.lanes}_{form.weight}".replace("-", "_")
    lanes, pair, at, wt = form.lanes, form.pair, form.activation, form.weight
    ct = "float32" if at == "float32" else "int32"

    multiply = _products(form)
    if form.chunks > 1:
        description, implementation = _chunks(lanes, form.chunks, pair // form.chunks, at, wt, ct, multiply)
    else:
        description, implementation = (_single if pair == 1 else _pairs)(lanes, pair, at, wt, ct, multiply)
    TensorIntrin.register(name, description, implementation, override=True)
    return name


def _pairs(lanes: int, pair: int, at: str, wt: str, ct: str, multiply: Any) -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)
    def description(
        A: T.Buffer((pair,), at, offset_factor=1),
        W: T.Buffer((lanes, pair), wt, offset_factor=1),
        C: T.Buffer((lanes,), ct, offset_factor=1),
    ):
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:pair], W[0:lanes, 0:pair])
            T.writes(C[0:lanes])
            for i, k in T.grid(lanes, pair):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.cast(A[vk], ct) * T.cast(W[vi, vk], ct)

    @T.prim_func(s_tir=True)
    def implementation(
        A: T.Buffer((pair,), at, offset_factor=1),
        W: T.Buffer((lanes, pair), wt, offset_factor=1),
        C: T.Buffer((lanes,), ct, offset_factor=1),
    ):
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:pair], W[0:lanes, 0:pair])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = multiply(A, W, C)

    return description, implementation


def _chunks(lanes: int, chunks: int, width: int, at: str, wt: str, ct: str, multiply: Any) -> tuple[Any, Any]:
    pair = chunks * width

    @T.prim_func(s_tir=True)
    def description(
        A: T.Buffer((pair,), at, offset_factor=1),
        W: T.Buffer((chunks, lanes, width), wt, offset_factor=1),
        C: T.Buffer((lanes,), ct, offset_factor=1),
    ):
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:pair], W[0:chunks, 0:lanes, 0:width])
            T.writes(C[0:lanes])
            for i, c, k in T.grid(lanes, chunks, width):
                with T.sblock("update"):
                    vi, vc, vk = T.axis.remap("SRR", [i, c, k])
                    C[vi] = C[vi] + T.cast(A[vc * width + vk], ct) * T.cast(W[vc, vi, vk], ct)

    @T.prim_func(s_tir=True)
    def implementation(
        A: T.Buffer((pair,), at, offset_factor=1),
        W: T.Buffer((chunks, lanes, width), wt, offset_factor=1),
        C: T.Buffer((lanes,), ct, offset_factor=1),
    ):
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:pair], W[0:chunks, 0:lanes, 0:width])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = multiply(A, W, C)

    return description, implementation


def _single(lanes: int, pair: int, at: str, wt: str, ct: str, multiply: Any) -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)
    def description(
        A: T.Buffer((1,), at, offset_factor=1),
        W: T.Buffer((lanes,), wt, offset_factor=1),
        C: T.Buffer((lanes,), ct, offset_factor=1),
    ):
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0], W[0:lanes])
            T.writes(C[0:lanes])
            for i in T.serial(lanes):
                with T.sblock("update"):
                    vi = T.axis.remap("S", [i])
                    C[vi] = C[vi] + A[0] * W[vi]

    @T.prim_func(s_tir=True)
    def implementation(
        A: T.Buffer((1,), at, offset_factor=1),
        W: T.Buffer((lanes,), wt, offset_factor=1),
        C: T.Buffer((lanes,), ct, offset_factor=1),
    ):
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0], W[0:lanes])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = multiply(A, W, C)

    return description, implementation


def _products(form: Form) -> Any:
    """The instruction, as a function of the three buffers; no temporaries, which would become memory."""
    lanes, pair = form.lanes, form.pair

    def call(*operands: Any, result: str) -> Any:
        return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(form.intrinsic), *operands, dtype=result)

    width = pair // form.chunks

    def broadcast(a: Any, kind: str, start: int = 0) -> Any:
        """The neighbours of an activation in every lane, as a vector of `kind`."""
        word = T.reinterpret(a.vload([start], f"{form.activation}x{width}"), dtype="int32")
        return T.reinterpret(T.broadcast(word, lanes), dtype=kind)

    def weights(w: Any) -> Any:
        return w.vload([0] if pair == 1 else [0, 0], dtype=f"{form.weight}x{lanes * pair}")

    def accumulating(a: Any, w: Any, c: Any) -> Any:
        kind = f"int8x{lanes * pair}"
        return call(c.vload([0], f"int32x{lanes}"), broadcast(a, kind), weights(w), result=f"int32x{lanes}")

    def in_pairs(a: Any, w: Any, c: Any) -> Any:
        kind = f"int16x{lanes * pair}"
        wide = weights(w) if form.weight == "int16" else T.cast(weights(w), kind)
        return c.vload([0], f"int32x{lanes}") + call(broadcast(a, kind), wide, result=f"int32x{lanes}")

    def in_bytes(a: Any, w: Any, c: Any) -> Any:
        count = lanes * width
        sums: Any = None
        for i in range(form.chunks):
            part = w.vload([0, 0] if form.chunks == 1 else [i, 0, 0], dtype=f"{form.weight}x{count}")
            pairs = call(broadcast(a, f"int8x{count}", i * width), part, result=f"int16x{count // 2}")
            sums = pairs if sums is None else sums + pairs
        wide = T.llvm_lookup_intrinsic_id({8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[lanes])
        ones = T.broadcast(tirx.const(1, "int16"), count // 2)
        return c.vload([0], f"int32x{lanes}") + T.call_llvm_pure_intrin(wide, sums, ones, dtype=f"int32x{lanes}")

    def fused(a: Any, w: Any, c: Any) -> Any:
        kind = f"float32x{lanes}"
        return call(T.broadcast(a.vload([0], "float32"), lanes), weights(w), c.vload([0], kind), result=kind)

    return {
        "vpdpbusd": accumulating, "sdot": accumulating, "vpmaddwd": in_pairs, "vpmaddubsw": in_bytes,
        "fma": fused, "fmla": fused,
    }[form.name.partition("-")[0]]  # fmt: skip
