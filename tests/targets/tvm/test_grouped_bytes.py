"""Real operands as bytes: accuracy, numbers that are not finite, the instruction, and the order of the weights."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

from op_cases.quantized import groups, per_channel
from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams
from qcompiler.ir.builder import constant
from qcompiler.ir.dims import symbol
from support.tvm_programs import built_for, session_of

COLUMNS, DEPTH = 48, 128
QUANTS = {
    "int4": lambda: groups(COLUMNS, DEPTH, 64, DType.int4),
    "uint4": lambda: groups(COLUMNS, DEPTH, 32, DType.uint4),
    "int8": lambda: groups(COLUMNS, DEPTH, 64, DType.int8),
    "channels": lambda: per_channel(COLUMNS),
}


def layer(quant: QuantParams, rows: Any, op: str = "weight_only_linear", **attrs: Any) -> tuple[Graph, np.ndarray]:
    """(program, weights as real numbers [COLUMNS, DEPTH])."""
    codes = np.random.default_rng(0).integers(quant.dtype.min, quant.dtype.max + 1, (COLUMNS, DEPTH)).astype(quant.dtype.numpy)
    b = GraphBuilder("layer", Level.QUANTIZED)
    x = b.input("x", DType.float32, (rows, DEPTH))
    graph = b.build([b.op(op, x, constant(codes, quant.dtype, quant), None, **attrs)])
    size = quant.group_size or DEPTH
    scale, zero = (np.repeat(a if a.ndim == 2 else a.reshape(-1, 1), size, 1) for a in (quant.scale, quant.zero_point))
    return graph, (codes.astype(np.float64) - zero) * scale


def spread(rows: int) -> np.ndarray:
    """Rows whose groups differ by many powers of two, zeros among them."""
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, DEPTH)) * np.exp2(rng.integers(-60, 60, (rows, DEPTH // 32))).repeat(32, 1)
    x[0, :64] = 0
    return x.astype(np.float32)


@pytest.mark.parametrize("rows", [1, 3, 5, "any"])
@pytest.mark.parametrize("name", QUANTS)
def test_as_accurate_as_sums_in_float32(name: str, rows: Any) -> None:
    graph, w = layer(QUANTS[name](), symbol("rows") if rows == "any" else rows)
    x = spread(3 if rows == "any" else rows)
    (found,) = session_of(graph).run([x])
    wanted, size = x.astype(np.float64) @ w.T, np.abs(x.astype(np.float64)) @ np.abs(w.T)
    assert (np.abs(found - wanted) <= 2.0**-20 * size).all()


def test_numbers_that_are_not_finite_stay_so() -> None:
    graph, _ = layer(QUANTS["int4"](), 4)
    x = np.ones((4, DEPTH), np.float32)
    x[0, 3], x[1, 70], x[2, 127] = np.nan, np.inf, -np.inf
    (found,) = session_of(graph).run([x])
    assert not np.isfinite(found[:3]).any() and np.isfinite(found[3]).all()


@pytest.mark.parametrize("name", QUANTS)
@pytest.mark.parametrize(("cpu", "register"), [("znver5", "zmm"), ("sapphirerapids", "zmm"), ("alderlake", "ymm")])
def test_the_instruction(cpu: str, register: str, name: str) -> None:
    library, lowered = built_for(layer(QUANTS[name](), 1)[0], cpu)
    lines = [line for line in library.inspect_source("asm").splitlines() if "vpdpbusd" in line]
    assert lines and all(register in line for line in lines)
    assert lowered.kernels[0].kernel == f"vpdpbusd int{4 if '4' in name else 8}"
    assert re.search(r"prefetcht0", library.inspect_source("asm"))


@pytest.mark.parametrize("cpu", ["skylake-avx512", "haswell"])
def test_machines_without_it_multiply_real_numbers(cpu: str) -> None:
    _, lowered = built_for(layer(QUANTS["int4"](), 1)[0], cpu)
    assert lowered.kernels[0].kernel == "fma int4"


def test_dynamic_codes_of_eight_bits_use_it_too() -> None:
    library, lowered = built_for(layer(QUANTS["int8"](), 1, "dynamic_linear", granularity="group", bits=8)[0], "znver5")
    assert lowered.kernels[0].kernel == "vpdpbusd int8" and "vpmaddwd" not in library.inspect_source("asm")
