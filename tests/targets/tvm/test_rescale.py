"""Rescales with zero points: folded into the high word where that leaves room, added behind it elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

from qcompiler.executors.reference import run_reference  # noqa: E402
from qcompiler.ir import DType, GraphBuilder, Level, QuantParams  # noqa: E402
from qcompiler.kernels.cpu.library import CpuLibrary  # noqa: E402
from qcompiler.targets.tvm import arithmetic  # noqa: E402
from qcompiler.targets.tvm.build import VmSession, compile_module  # noqa: E402
from qcompiler.targets.tvm.lower import lower  # noqa: E402
from qcompiler.targets.tvm.machine import host_machine  # noqa: E402


@pytest.mark.parametrize(
    ("shift", "zero", "dtype", "limits"),
    [(36, 117, DType.uint8, (None, None)), (36, -128, DType.int8, (-128, 100)), (57, 200, DType.uint8, (3, 250)), (40, -9, DType.int16, (None, 77))],
    ids=["folded", "narrow-limits", "no-room", "int16"],
)
def test_results_are_the_reference_s(shift: int, zero: int, dtype: DType, limits: tuple[int | None, int | None]) -> None:
    b, rng = GraphBuilder("rescale", Level.INTEGER), np.random.default_rng(3)
    x = b.input("x", DType.int32, (5, 24), QuantParams(DType.int32, np.full(24, 0.1, np.float32), np.zeros(24, np.int32), 1))
    m, s = b.const(rng.integers(1 << 30, (1 << 31) - 1, 24)), b.const(shift + rng.integers(0, 3, 24))
    quant = QuantParams(dtype, 0.1, zero)
    graph = b.build([b.op("requantize", x, m, s, quant=quant, rounding="dyadic", qmin=limits[0], qmax=limits[1])])
    codes = rng.integers(-(1 << 31), 1 << 31, (5, 24)).astype(np.int32)
    codes[0] >>= 20
    codes[1, :2] = -(1 << 31), (1 << 31) - 1
    lowered = lower(graph, CpuLibrary(host_machine().isa))
    session = VmSession(compile_module(lowered.module, host_machine().tvm_target()), lowered.constants, [("x", "int32", 2)])
    (got,), (wanted,) = session.run([codes]), run_reference(graph, [codes])
    assert got.dtype == wanted.dtype and (got == wanted).all() and len(np.unique(got)) > 3


def test_a_zero_point_is_folded_only_where_it_leaves_room() -> None:
    def left(shift: int, bound: int) -> int:
        acc = arithmetic.i32(5)
        return arithmetic.rescale(acc, "dyadic", np.asarray(1 << 30), np.asarray(shift), lambda a: int(a), bound, 100)[1]

    assert left(40, 1 << 20) == 0
    assert left(57, 1 << 20) == 100
    assert left(30, 1 << 31) == 100


@pytest.mark.parametrize("shift", [29, 31, 32, 33])
@pytest.mark.parametrize("bits", [7, 15])
def test_small_accumulators_move_up_instead_of_their_products(shift: int, bits: int) -> None:
    b, rng = GraphBuilder("rescale", Level.INTEGER), np.random.default_rng(shift)
    dtype = {7: DType.int8, 15: DType.int16}[bits]
    x = b.input("x", dtype, (5, 24), QuantParams(dtype, 0.1, 3))
    m, s = b.const(np.asarray(rng.integers(1 << 30, (1 << 31) - 1))), b.const(np.asarray(shift))
    quant = QuantParams(DType.int16, 0.1, 0)
    graph = b.build([b.op("requantize", x, m, s, quant=quant, rounding="dyadic")])
    codes = rng.integers(dtype.min, dtype.max + 1, (5, 24)).astype(dtype.numpy)
    lowered = lower(graph, CpuLibrary(host_machine().isa))
    assert "T.int64" not in str(lowered.module["k_requantize"])
    session = VmSession(compile_module(lowered.module, host_machine().tvm_target()), lowered.constants, [("x", dtype.numpy.name, 2)])
    (got,), (wanted,) = session.run([codes]), run_reference(graph, [codes])
    assert (got == wanted).all() and len(np.unique(got)) > 3
