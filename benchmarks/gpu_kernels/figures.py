"""Figures of a GPU: kernels beside NVIDIA's libraries and beside what the memory gives, measured in one run."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_kernels.networks import compile_network, minilm
from qcompiler.boundary import quantize_inputs
from qcompiler.kernels.gpu import gemm, weight_only
from qcompiler.kernels.gpu.emulator import CUDA
from qcompiler.kernels.gpu.launch import Buffer, Launch, in_order, pack, source
from qcompiler.kernels.gpu.rescale import make_rescale
from qcompiler.targets.cuda.device import CudaSession, Device, compile_at_load
from qcompiler.targets.cuda.profile import measure_copy, profile_session

TORCH_REPEATS = 20


def gpu_figures() -> tuple[str, list[dict[str, Any]]]:
    """Name of the card and rows `what, ours, beside, ratio`.

    Raises:
        MissingToolError, UnsupportedError: there is no GPU, or no bindings.
    """
    device = Device()
    rows = [_product(device), *_weight_only(device), *_minilm(device)]
    return f"{device.name} (sm_{device.arch})", rows


class Prepared:
    """A launch with its kernel loaded and its buffers on the device; constants are uploaded."""

    def __init__(self, device: Device, launch: Launch) -> None:
        self.device, self.launch = device, launch
        code = compile_at_load(source([launch]).encode(), CUDA, device.arch, "kernels are timed one by one")
        module = device.call("cuModuleLoadData", code)
        self.function = device.call("cuModuleGetFunction", module, launch.kernel.name.encode())
        self.address = {p.buffer: device.allocate(p.buffer.size, p.buffer.name) for p in launch.pointers}
        for buffer, at in self.address.items():
            if buffer.data is not None:
                device.upload(at, buffer.data)
        device.synchronize()
        self._raw = ctypes.create_string_buffer(pack(launch.fields, self.address))

    def __call__(self) -> None:
        """Put it on the stream."""
        self.device.start(self.function, self.launch.grid, (self.launch.kernel.threads, 1, 1), self._raw)


def torch_milliseconds(run: Callable[[], Any], repeats: int = TORCH_REPEATS) -> float:
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


def _product(device: Device, size: int = 4096) -> dict[str, Any]:
    """int8 product with rescale, beside torch._int_mm (cuBLASLt) without."""
    x, y = (in_order(Buffer(n, size * size), np.dtype(np.int8), (size, size)) for n in "xy")
    weights = gemm.pack_weights("w", np.random.default_rng(0).integers(-127, 128, (size, size)).astype(np.int8), None, 0)
    rescale = make_rescale("dyadic", np.full(size, 1 << 30), np.full(size, 44), 0, -128, 127)
    times = {tile.name: device.milliseconds(Prepared(device, gemm.linear(x, weights, y, rescale, tile))) for tile in gemm.TILES}
    chosen = gemm.choose_tile(size, size, 1, device.arch if device.arch in gemm.MULTIPROCESSORS else 90).name
    ours = times[chosen]
    tops = 2 * size**3 / ours / 1e9
    what = f"int8 product {size}^3 with rescale, tile {chosen} (best of the space: {min(times, key=times.__getitem__)})"
    if not _has_torch_cuda():
        return _row(what, f"{ours:.3f} ms, {tops:.0f} TOPS", "cuBLASLt: torch has no CUDA here", "")
    import torch

    a, b = (torch.randint(-127, 128, (size, size), dtype=torch.int8, device="cuda") for _ in range(2))
    theirs = torch_milliseconds(lambda: torch._int_mm(a, b.t()))
    return _row(what, f"{ours:.3f} ms, {tops:.0f} TOPS", f"cuBLASLt {theirs:.3f} ms, int32 results", f"{theirs / ours:.2f} x its speed")


def _weight_only(device: Device, n: int = 28672, k: int = 8192) -> list[dict[str, Any]]:
    """4-bit weights and few rows: bytes read per second beside a copy on the device."""
    bandwidth = measure_copy(device)
    rng = np.random.default_rng(0)
    codes = rng.integers(-8, 8, (n, k)).astype(np.int8)
    groups = k // 128
    packed = weight_only.pack_weights("w", codes, np.full((n, groups), 0.01, np.float16), np.zeros((n, groups), int), 128)
    rows = []
    for m in (1, 8, 64):
        x = in_order(Buffer("x", 2 * m * k), np.dtype(np.int16), (m, k))
        y = in_order(Buffer("y", 4 * m * n), np.dtype(np.float32), (m, n))
        launch = weight_only.linear(x, packed, None, y)
        time = device.milliseconds(Prepared(device, launch))
        given = sum(p.size for p in launch.pointers) / time / 1e6
        rows.append(_row(f"W4A16, groups of 128, {m} x {k} x {n}", f"{time:.4f} ms, {given:.0f} GB/s", f"copy {bandwidth:.0f} GB/s", f"{given / bandwidth:.0%} of it"))
    return rows


def _launches(session: CudaSession, folder: Path, codes: list[np.ndarray], most: int = 8) -> list[dict[str, Any]]:
    """The launches that take longest, one by one, beside their roof."""
    profile = profile_session(session, folder, codes)
    total = sum(k.ms for k in profile.kernels)
    rows = [_row("peak of mma.m16n8k32 on registers", f"{profile.peak_gops / 1000:.0f} TOPS", "", "")]
    for k in sorted(profile.kernels, key=lambda k: -k.ms)[:most]:
        speed = "" if k.gops is None else f"{k.gops:.0f} GOPS"
        what = f"`{k.kernel}`, {k.modules[0] or 'top level'}"
        rows.append(_row(what, f"{k.ms:.4f} ms, {k.ms / total:.0%} of all launches", speed, f"{k.share:.0%} of the roof"))
    return rows


def _minilm(device: Device, batch: int = 8) -> list[dict[str, Any]]:
    """All six layers at batch 8, from device memory to device memory, beside torch in float32 and float16; then its launches."""
    arch = max((a for a in gemm.MULTIPROCESSORS if a <= device.arch), default=80)
    compiled, samples = compile_network("minilm-layer", 1, batch, 6, f"cuda-sm{arch}")
    session = CudaSession(compiled.folder, device)
    codes = quantize_inputs(compiled.graph, samples[0])
    session.upload(codes)  # words that the table has
    ours = device.milliseconds(session.replay)
    launches = _launches(session, compiled.folder, codes)
    what = f"MiniLM-L6, batch {batch}, 128 tokens"
    if not _has_torch_cuda():
        return [_row(what, f"{ours:.3f} ms", "torch has no CUDA here", ""), *launches]
    import torch

    module, example, _, _ = minilm(1, batch, 6)
    module, inputs = module.cuda(), tuple(t.cuda() for t in example)
    rows = []
    with torch.inference_mode():
        for name, model in (("float32", module), ("float16, torch.compile", torch.compile(copy.deepcopy(module).half()))):
            theirs = torch_milliseconds(lambda model=model: model(*inputs))
            rows.append(_row(what, f"{ours:.3f} ms", f"{name} {theirs:.3f} ms", f"{theirs / ours:.2f} x its speed"))
    return [*rows, *launches]
