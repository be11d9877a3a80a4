"""The session on a GPU, with a driver that keeps device memory on the host and runs captured launches in the emulator."""

from __future__ import annotations

import ctypes
import gc
import types
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.errors import ConstraintError, MissingToolError, UnsupportedError, UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, GraphBuilder, Level
from qcompiler.ir.dims import symbol
from qcompiler.kernels.gpu.emulator import Region, build
from qcompiler.targets import get_target
from qcompiler.targets.cuda import device, emit
from qcompiler.targets.cuda.device import CudaSession, Device
from qcompiler.targets.cuda.emit import emit_artefact
from qcompiler.targets.cuda.plan import HEADERS, SOURCE, Plan, read_plans
from support.integer_networks import random_codes, residual_network
from support.tools import requires_tool


class Error(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209
    CUDA_ERROR_INVALID_VALUE = 1


class FakeDriver:
    """The calls of the driver that a session makes; device memory is host memory."""

    CUdevice_attribute = types.SimpleNamespace(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=75, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=76)
    CUstreamCaptureMode = types.SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)

    def __init__(self, folder: Path, *, devices: int = 1, free: int = 1 << 30, arch: tuple[int, int] = (8, 6), known: bool = True) -> None:
        self.folder, self.devices, self.free, self.arch, self.known = folder, devices, free, arch, known
        self.memory: dict[int, np.ndarray] = {}
        self.captured: list[tuple[str, tuple[int, ...], bytes]] | None = None
        self.loaded: list[bytes] = []
        self.index = 0

    @property
    def plan(self) -> Plan:
        """The plan whose launches are looked at."""
        return read_plans(self.folder)[self.index]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)
        simple = {
            "cuInit": (), "cuCtxSetCurrent": (), "cuStreamSynchronize": (), "cuDeviceGet": (0,), "cuDevicePrimaryCtxRetain": (1,),
            "cuStreamCreate": (2,), "cuModuleUnload": (), "cuDeviceGetName": (b"Fake Card\0\0",), "cuGraphInstantiate": (3,),
        }  # fmt: skip
        return lambda *_: (Error.CUDA_SUCCESS, *simple[name])

    def cuDeviceGetCount(self) -> tuple[Any, ...]:
        return (Error.CUDA_SUCCESS, self.devices)

    def cuDeviceGetAttribute(self, attribute: int, _: int) -> tuple[Any, ...]:
        return (Error.CUDA_SUCCESS, self.arch[attribute - 75])

    def cuMemGetInfo(self) -> tuple[Any, ...]:
        return (Error.CUDA_SUCCESS, self.free, 2 * self.free)

    def cuMemAlloc(self, size: int) -> tuple[Any, ...]:
        array = np.zeros(size, np.uint8)
        self.memory[array.ctypes.data] = array
        self.free -= size
        return (Error.CUDA_SUCCESS, array.ctypes.data)

    def cuMemFree(self, address: int) -> tuple[Any, ...]:
        self.free += self.memory.pop(address).size
        return (Error.CUDA_SUCCESS,)

    def cuMemcpyHtoDAsync(self, to: int, source: int, size: int, _: int) -> tuple[Any, ...]:
        ctypes.memmove(to, source, size)
        return (Error.CUDA_SUCCESS,)

    cuMemcpyDtoHAsync = cuMemcpyHtoDAsync

    def cuModuleLoadData(self, raw: bytes) -> tuple[Any, ...]:
        self.loaded.append(raw)
        return (Error.CUDA_SUCCESS, 4) if self.known or len(self.loaded) > 1 else (Error.CUDA_ERROR_NO_BINARY_FOR_GPU, None)

    def cuModuleGetFunction(self, _: int, name: bytes) -> tuple[Any, ...]:
        return (Error.CUDA_SUCCESS, name.decode())

    def cuStreamBeginCapture(self, *_: Any) -> tuple[Any, ...]:
        self.captured = []
        return (Error.CUDA_SUCCESS,)

    def cuLaunchKernel(self, name: str, *rest: Any) -> tuple[Any, ...]:
        assert self.captured is not None, "launches are captured, not run one by one"
        *sizes, shared, stream, pointers, extra = rest
        assert (shared, stream, extra) == (0, 2, 0) and len(sizes) == 6
        plan = self.plan
        length = len(plan.launches[len(self.captured)].pack({"arena": 0, "weights": 0}))
        struct = ctypes.cast(pointers, ctypes.POINTER(ctypes.c_void_p))[0]
        self.captured.append((name, tuple(sizes), ctypes.string_at(struct, length)))
        return (Error.CUDA_SUCCESS,)

    def cuStreamEndCapture(self, _: int) -> tuple[Any, ...]:
        return (Error.CUDA_SUCCESS, 5)

    def cuGraphLaunch(self, *_: Any) -> tuple[Any, ...]:
        plan = self.plan
        library = build((self.folder / SOURCE).read_text(), self.folder / HEADERS)
        weights, arena = list(self.memory)[:2]
        bases = {"weights": weights, "arena": arena}
        assert self.captured is not None and len(self.captured) == len(plan.launches)
        for launch, (name, sizes, raw) in zip(plan.launches, self.captured, strict=True):
            assert (name, sizes, raw) == (launch.kernel, (*launch.grid, *launch.block), launch.pack(bases))
            regions = [
                Region(p["name"], self.memory[bases[p["space"]]][p["first"] : p["first"] + p["size"]], p["access"])
                for p in launch.pointers
            ]
            library.launch(name, sizes[:3], sizes[3:], lambda places, c=launch: c.pack({}, list(places)), regions)
        return (Error.CUDA_SUCCESS,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    requires_tool("g++")
    folder = tmp_path_factory.mktemp("cuda")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "fatbin", lambda source, headers, output: output.write_bytes(b"fatbin") and [])
        emit_artefact(residual_network(), 86, folder, {})
    return folder


def open_with(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver, folder: Path) -> CudaSession:
    monkeypatch.setattr(device, "driver_module", lambda: driver)
    return CudaSession(folder)


def test_launches_are_captured_once_and_replayed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(folder)
    session = open_with(monkeypatch, driver, folder)
    assert session.device.arch == 86 and session.device.name == "Fake Card" and driver.loaded == [b"fatbin"]
    graph = residual_network()
    for seed in range(2):
        arrays = random_codes(graph, seed)
        assert np.array_equal(session.run(arrays)[0], run_reference(graph, arrays)[0])


def test_each_size_has_launches_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the first plan are captured at load, others when their size is used; one arena serves all."""
    requires_tool("g++")
    b = GraphBuilder("dynamic", Level.QUANTIZED)
    x = b.input("x", DType.float32, (symbol("batch"), 40))
    graph = b.build([b.op("softmax", b.op("mul", x, x), axis=-1)])
    monkeypatch.setattr(emit, "fatbin", lambda source, headers, output: output.write_bytes(b"fatbin") and [])
    emit_artefact(graph, 86, tmp_path, {}, {"batch": (2, 30)})
    driver = FakeDriver(tmp_path)
    session = open_with(monkeypatch, driver, tmp_path)
    first, second = read_plans(tmp_path)
    assert driver.memory[list(driver.memory)[1]].size == second.arena_bytes > first.arena_bytes
    for driver.index, batch in enumerate((2, 30)):
        arrays = [np.random.default_rng(batch).standard_normal((batch, 40)).astype(np.float32)]
        assert np.allclose(session.run(arrays)[0], run_reference(graph, arrays)[0], atol=1e-6)
    with pytest.raises(UsageError, match="compiled for batch=2; batch=30"):
        session.run([np.zeros((3, 40), np.float32)])


def test_memory_is_given_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(folder)
    before = driver.free
    session = open_with(monkeypatch, driver, folder)
    plan = read_plans(folder)[0]
    assert before - driver.free == plan.arena_bytes + plan.weights_bytes
    del session
    gc.collect()
    assert driver.free == before and driver.memory == {}


def test_verification_runs_on_the_device_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, target = residual_network(), get_target("cuda-sm86")
    monkeypatch.setattr(device, "driver_module", lambda: FakeDriver(folder))
    found = target.verify(graph, folder, [random_codes(graph)])
    found.check()
    assert found.differing == 0
    wrong = FakeDriver(folder)
    wrong.cuMemcpyHtoDAsync = lambda *_: (Error.CUDA_SUCCESS,)  # type: ignore[method-assign]
    monkeypatch.setattr(device, "driver_module", lambda: wrong)
    found = target.verify(graph, folder, [random_codes(graph)])
    assert found.differing > 0 and found.failures == (f"{found.differing} output values differ on Fake Card",)


def test_no_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match=r"no GPU is here; run\(..., emulate=True\)"):
        open_with(monkeypatch, FakeDriver(folder, devices=0), folder)
    driver = FakeDriver(folder)
    driver.cuInit = lambda *_: (Error.CUDA_ERROR_NO_DEVICE,)  # type: ignore[method-assign]
    with pytest.raises(UnsupportedError, match="no GPU can be used here.*NO_DEVICE"):
        open_with(monkeypatch, driver, folder)


def test_too_little_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = read_plans(folder)[0]
    needed = plan.arena_bytes + plan.weights_bytes
    with pytest.raises(ConstraintError, match=rf"needs {needed} bytes of GPU memory and {needed - 1} are available on Fake Card"):
        open_with(monkeypatch, FakeDriver(folder, free=needed - 1), folder)
    torn = FakeDriver(folder)  # enough is free, but not in one piece
    torn.cuMemAlloc = lambda _: (Error.CUDA_ERROR_OUT_OF_MEMORY, None)  # type: ignore[method-assign]
    with pytest.raises(ConstraintError, match=rf"the model's constants: {plan.weights_bytes} bytes of GPU memory are needed and {1 << 30} are available"):
        open_with(monkeypatch, torn, folder)


def test_a_card_without_code_is_compiled_for_at_load(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    asked = []
    monkeypatch.setattr(device, "compile_at_load", lambda text, headers, arch, why: asked.append((arch, why)) or b"compiled")
    driver = FakeDriver(folder, arch=(12, 0), known=False)
    open_with(monkeypatch, driver, folder)
    assert driver.loaded == [b"fatbin", b"compiled"] and asked[0][0] == 120
    assert "Fake Card is sm_120, the artefact has code for sm_80, sm_86, sm_89, sm_90: compiling its sources at load" in caplog.text


def test_without_bindings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    real = __import__

    def no_cuda(name: str, *rest: Any) -> Any:
        if name.startswith("cuda"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr("builtins.__import__", no_cuda)
    with pytest.raises(MissingToolError, match=r"pip install 'qcompiler\[cuda\]'"):
        Device()
    with pytest.raises(UnsupportedError, match=r"card is new; NVRTC .* is not installed: pip install 'qcompiler\[cuda\]'"):
        device.compile_at_load(b"", folder, 120, "card is new")


def test_other_errors_of_the_driver_are_not_hidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(folder)
    driver.cuModuleLoadData = lambda raw: (Error.CUDA_ERROR_INVALID_VALUE, None)  # type: ignore[method-assign]
    with pytest.raises(Exception, match="cuModuleLoadData: CUDA_ERROR_INVALID_VALUE"):
        open_with(monkeypatch, driver, folder)
