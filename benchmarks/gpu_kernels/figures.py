"""Figures of a GPU: kernels beside NVIDIA's libraries and beside what the memory gives, measured in one run."""

from __future__ import annotations

import copy
import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_kernels.networks import compile_network, minilm
from qcompiler.kernels.gpu import gemm, weight_only
from qcompiler.kernels.gpu.emulator import CUDA
from qcompiler.kernels.gpu.launch import Buffer, Launch, in_order, pack, source
from qcompiler.kernels.gpu.nvcc import fatbin
from qcompiler.kernels.gpu.rescale import make_rescale
from qcompiler.targets.cuda.device import CudaSession, Device

REPEATS = 50


def gpu_figures() -> tuple[str, list[dict[str, Any]]]:
    """Name of the card and rows `what, ours, beside, ratio`.

    Raises:
        MissingToolError, UnsupportedError: there is no GPU, or no bindings.
    """
    device = Device()
    product, rate = _product(device)
    rows = [product, *_weight_only(device), *_minilm(device, rate)]
    return f"{device.name} (sm_{device.arch})", rows


class Prepared:
    """A launch with its kernel loaded and its buffers on the device; constants are uploaded."""

    def __init__(self, device: Device, launch: Launch) -> None:
        self.device, self.launch = device, launch
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "kernel.cu").write_text(source([launch]), encoding="utf-8")
            fatbin(folder / "kernel.cu", CUDA, folder / "kernel.fatbin")
            module = device.call("cuModuleLoadData", (folder / "kernel.fatbin").read_bytes())
        self.function = device.call("cuModuleGetFunction", module, launch.kernel.name.encode())
        self.address = {p.buffer: device.allocate(p.buffer.size, p.buffer.name) for p in launch.pointers}
        for buffer, at in self.address.items():
            if buffer.data is not None:
                device.upload(at, buffer.data)
        device.synchronize()
        self._raw = ctypes.create_string_buffer(pack(launch.fields, self.address))
        self._struct = (ctypes.c_void_p * 1)(ctypes.addressof(self._raw))

    def __call__(self) -> None:
        """Put it on the stream."""
        threads = (self.launch.kernel.threads, 1, 1)
        self.device.call(
            "cuLaunchKernel", self.function, *self.launch.grid, *threads, 0, self.device.stream, ctypes.addressof(self._struct), 0
        )  # fmt: skip


def milliseconds(device: Device, run: Callable[[], None], repeats: int = REPEATS) -> float:
    """Mean time of a call on the device's stream, after a warm-up."""
    begin, end = (device.call("cuEventCreate", 0) for _ in range(2))
    for _ in range(3):
        run()
    device.call("cuEventRecord", begin, device.stream)
    for _ in range(repeats):
        run()
    device.call("cuEventRecord", end, device.stream)
    device.call("cuEventSynchronize", end)
    return float(device.call("cuEventElapsedTime", begin, end)) / repeats


def torch_milliseconds(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The same for work of torch, on its stream."""
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(3):
        run()
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / repeats


def _row(what: str, ours: str, beside: str, ratio: str) -> dict[str, Any]:
    return {"what": what, "ours": ours, "beside": beside, "ratio": ratio}


def _has_torch_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _product(device: Device, size: int = 4096) -> tuple[dict[str, Any], float]:
    """int8 product with rescale, beside torch._int_mm (cuBLASLt) without; also its operations per nanosecond."""
    x, y = (in_order(Buffer(n, size * size), np.dtype(np.int8), (size, size)) for n in "xy")
    weights = gemm.pack_weights("w", np.random.default_rng(0).integers(-127, 128, (size, size)).astype(np.int8), None, 0)
    rescale = make_rescale("dyadic", np.full(size, 1 << 30), np.full(size, 44), 0, -128, 127)
    times = {tile.name: milliseconds(device, Prepared(device, gemm.linear(x, weights, y, rescale, tile))) for tile in gemm.TILES[:4]}
    chosen = gemm.choose_tile(size, size, 1, device.arch if device.arch in gemm.MULTIPROCESSORS else 90).name
    ours = times[chosen]
    tops = 2 * size**3 / ours / 1e9
    what = f"int8 product {size}^3 with rescale, tile {chosen} (best of the space: {min(times, key=times.__getitem__)})"
    if not _has_torch_cuda():
        return _row(what, f"{ours:.3f} ms, {tops:.0f} TOPS", "cuBLASLt: torch has no CUDA here", ""), 1000 * tops
    import torch

    a, b = (torch.randint(-127, 128, (size, size), dtype=torch.int8, device="cuda") for _ in range(2))
    theirs = torch_milliseconds(lambda: torch._int_mm(a, b.t()))
    return _row(what, f"{ours:.3f} ms, {tops:.0f} TOPS", f"cuBLASLt {theirs:.3f} ms, int32 results", f"{theirs / ours:.2f} x its speed"), 1000 * tops


def _weight_only(device: Device, n: int = 16384, k: int = 8192) -> list[dict[str, Any]]:
    """4-bit weights and few rows: bytes read per second beside a copy on the device."""
    size = 1 << 29
    first, second = (device.allocate(size, "copy") for _ in range(2))
    copied = milliseconds(device, lambda: device.call("cuMemcpyDtoDAsync", second, first, size, device.stream))
    bandwidth = 2 * size / copied / 1e6
    rng = np.random.default_rng(0)
    codes = rng.integers(-8, 8, (n, k)).astype(np.int8)
    groups = k // 128
    packed = weight_only.pack_weights("w", codes, np.full((n, groups), 0.01, np.float16), np.zeros((n, groups), int), 128)
    rows = []
    for m in (1, 8, 64):
        x = in_order(Buffer("x", 2 * m * k), np.dtype(np.int16), (m, k))
        y = in_order(Buffer("y", 4 * m * n), np.dtype(np.float32), (m, n))
        launch = weight_only.linear(x, packed, None, y)
        time = milliseconds(device, Prepared(device, launch))
        given = sum(p.size for p in launch.pointers) / time / 1e6
        rows.append(_row(f"W4A16, groups of 128, {m} x {k} x {n}", f"{time:.4f} ms, {given:.0f} GB/s", f"copy {bandwidth:.0f} GB/s", f"{given / bandwidth:.0%} of it"))
    return rows


def _launches(device: Device, session: CudaSession, rate: float, most: int = 8) -> list[dict[str, Any]]:
    """The launches that take longest, one by one; products beside the rate of the large product above."""
    times = [(milliseconds(device, lambda i=i: session.launch(i)), launch) for i, launch in enumerate(session.plan.launches)]
    total = sum(time for time, _ in times)
    rows = []
    for time, launch in sorted(times, key=lambda item: -item[0])[:most]:
        gops = 2 * launch.work / time / 1e6
        product = "gemm" in launch.kernel
        rows.append(
            _row(
                f"`{launch.kernel}`, {launch.module or 'top level'}", f"{time:.4f} ms, {time / total:.0%} of all launches",
                f"{rate:.0f} GOPS of the product above" if product else "", f"{gops:.0f} GOPS, {gops / rate:.0%}" if product else "",
            )
        )  # fmt: skip
    return rows


def _minilm(device: Device, rate: float, batch: int = 8) -> list[dict[str, Any]]:
    """All six layers at batch 8, from device memory to device memory, beside torch in float32 and float16; then its launches."""
    arch = max((a for a in gemm.MULTIPROCESSORS if a <= device.arch), default=80)
    compiled, _ = compile_network("minilm-layer", 1, batch, 6, f"cuda-sm{arch}")
    session = CudaSession(compiled.folder, device)
    ours = milliseconds(device, session.replay)
    what = f"MiniLM-L6, batch {batch}, 128 tokens"
    if not _has_torch_cuda():
        return [_row(what, f"{ours:.3f} ms", "torch has no CUDA here", ""), *_launches(device, session, rate)]
    import torch

    module, example, _, _ = minilm(1, batch, 6)
    module, inputs = module.cuda(), tuple(t.cuda() for t in example)
    rows = []
    with torch.inference_mode():
        for name, model in (("float32", module), ("float16, torch.compile", torch.compile(copy.deepcopy(module).half()))):
            theirs = torch_milliseconds(lambda model=model: model(*inputs))
            rows.append(_row(what, f"{ours:.3f} ms", f"{name} {theirs:.3f} ms", f"{theirs / ours:.2f} x its speed"))
    return [*rows, *_launches(device, session, rate)]
