"""Time per kernel, beside what the micro-kernel reaches when everything lies in the nearest caches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tvm
from tvm import te
from tvm.s_tir import Schedule

from qcompiler.kernels.common.product import Product
from qcompiler.kernels.cpu import product as products
from qcompiler.kernels.cpu.isa import Form
from qcompiler.targets.base import KernelTime, Profile
from qcompiler.targets.tvm.build import VmSession, compile_function
from qcompiler.targets.tvm.emit import PROGRAM
from qcompiler.targets.tvm.machine import Machine

ROUNDS = 20
PEAK_ROWS, PEAK_DEPTH, PEAK_TILES = 240, 256, 8
"""Of the product that measures the peak: tiles of columns enough that packing the rows is a small part, weights near."""


def profile_session(session: VmSession, folder: Path, machine: Machine, arrays: Sequence[np.ndarray]) -> Profile:
    """Median times of the kernels of an artefact over `ROUNDS` runs."""
    kernels = json.loads((folder / PROGRAM).read_text(encoding="utf-8"))["kernels"]
    times = np.median(session.kernel_times(arrays, ROUNDS), 0)
    peak = measure_peak(machine)
    rows = []
    for kernel, seconds in zip(kernels, times, strict=True):
        gops = 2 * kernel["macs"] / seconds / 1e9 if kernel["macs"] else None
        share = gops / peak if gops is not None else None
        rows.append(KernelTime(kernel["name"], kernel["kernel"], tuple(kernel["modules"]), float(seconds * 1e3), gops, share))
    return Profile(tuple(rows), peak, fastest_form(machine).name)


def fastest_form(machine: Machine) -> Form:
    """The form of products of 8 bits that no other outruns."""
    return machine.isa.short[-1] if machine.isa.short else machine.isa.narrow


def measure_peak(machine: Machine) -> float:
    """GOPS of the fastest form on operands in the nearest caches, one thread."""
    form, isa = fastest_form(machine), machine.isa
    rows, vectors = (8, 2) if isa.registers > 16 else (2, 4) if form.chunks > 1 else (4 if form.pair == 4 else 6, 2)
    columns = PEAK_TILES * vectors * form.lanes
    kind = "uint8" if form.activation == "uint8" else "int8"
    a = te.placeholder((PEAK_ROWS, PEAK_DEPTH), kind, name="a")
    w = np.ones((1, columns, 1, PEAK_DEPTH), np.int8)
    product = Product(
        batch=1, rows=PEAK_ROWS, columns=columns, taps=1, channels=PEAK_DEPTH, a=lambda b, m, tap, c: a[m, c], a_type=kind,
        w=w, w_type="int8", finish=lambda acc, b, m, n: acc, out_type="int32",
    )  # fmt: skip
    tile = products.Tile(rows, vectors, 0, True)
    held: list[tuple[te.Tensor, np.ndarray]] = []

    def constant(array: np.ndarray) -> te.Tensor:
        held.append((te.placeholder(array.shape, str(array.dtype), name=f"c{len(held)}"), array))
        return held[-1][0]

    out = products.describe(product, form, tile, constant)
    s = Schedule(te.create_prim_func([a, *(t for t, _ in held), out]))
    products.schedule(s, product, form, tile)
    built = compile_function(s.mod["main"], "peak", machine.tvm_target())
    arrays = [np.ones((PEAK_ROWS, PEAK_DEPTH), kind), *(array for _, array in held), np.zeros((1, PEAK_ROWS, columns), np.int32)]
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    seconds = built.time_evaluator("peak", tvm.cpu(), number=50, repeat=20)(*tensors).min
    return float(2 * product.macs / seconds / 1e9)
