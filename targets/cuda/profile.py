"""Time per launch on a GPU, beside its roof: the peak of the tensor cores and the rate of a copy, measured in the same run."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcompiler.kernels.gpu.launch import Buffer, in_order, pack, source
from qcompiler.kernels.gpu.peak import THREADS, peak
from qcompiler.targets.base import KernelTime, Profile
from qcompiler.targets.cuda.device import CudaSession, Device, compile_at_load
from qcompiler.targets.cuda.plan import HEADERS, PlannedLaunch

PRODUCTS = frozenset({"linear", "conv", "matmul", "weight_only_linear", "dynamic_linear"})
BLOCKS_PER_MULTIPROCESSOR, STEPS = 4, 4096
COPIED = 1 << 28
"""Bytes, more than second-level caches hold."""


def profile_session(session: CudaSession, folder: Path, arrays: Sequence[np.ndarray], copied: int = COPIED) -> Profile:
    """Mean times of the launches of a plan, in order on the inputs `arrays`.

    Every launch is repeated where its turn is: what it reads is there and not overwritten yet. `share` is the time that
    its products take at the peak, or its bytes at the rate of a copy, whichever is longer, of the time that it takes.
    """
    device = session.device
    session.upload(arrays)
    rate = measure_peak(device, folder)
    bandwidth = measure_copy(device, copied)
    rows = []
    for index, launch in enumerate(session.plan.launches):
        ms = device.milliseconds(lambda i=index: session.launch(i))  # type: ignore[misc]
        operations = 2 * launch.work if is_product(launch) else 0
        roof = max(operations / rate, sum(p["size"] for p in launch.pointers) / bandwidth) / 1e6
        gops = operations / ms / 1e6 if operations else None
        rows.append(KernelTime(str(index), launch.kernel, (launch.module,), ms, gops, roof / ms))
    return Profile(tuple(rows), rate, "mma.m16n8k32")


def is_product(launch: PlannedLaunch) -> bool:
    """True if the work of a launch is multiply-accumulates."""
    return not PRODUCTS.isdisjoint(launch.op.split("+"))


def measure_peak(device: Device, folder: Path) -> float:
    """int8 operations per nanosecond of `mma` on registers."""
    blocks = BLOCKS_PER_MULTIPROCESSOR * device.attribute("MULTIPROCESSOR_COUNT")
    out = in_order(Buffer("peak", 4 * blocks * THREADS), np.dtype(np.int32), (blocks, THREADS))
    launch = peak(out, STEPS)
    code = compile_at_load(source([launch]).encode(), folder / HEADERS, device.arch, "a kernel that measures the peak is compiled where it runs")
    module = device.call("cuModuleLoadData", code)
    function = device.call("cuModuleGetFunction", module, launch.kernel.name.encode())
    address = device.allocate(out.buffer.size, "the measurement of the peak")
    try:
        raw = ctypes.create_string_buffer(pack(launch.fields, {out.buffer: address}))
        ms = device.milliseconds(lambda: device.start(function, launch.grid, (THREADS, 1, 1), raw))
    finally:
        device.call("cuMemFree", address)
        device.call("cuModuleUnload", module)
    return 2 * launch.work / ms / 1e6


def measure_copy(device: Device, size: int = COPIED) -> float:
    """Bytes per nanosecond, read and written, of a copy on the device."""
    held = [device.allocate(size, "the measurement of a copy") for _ in range(2)]
    try:
        ms = device.milliseconds(lambda: device.call("cuMemcpyDtoDAsync", held[1], held[0], size, device.stream))
    finally:
        for address in held:
            device.call("cuMemFree", address)
    return 2 * size / ms / 1e6
