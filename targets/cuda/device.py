"""The artefact on a GPU, through the driver API (`cuda-bindings`); nothing of the compiler is needed."""

from __future__ import annotations

import ctypes
import logging
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import ConstraintError, InternalError, MissingToolError, UnsupportedError
from qcompiler.kernels.gpu.nvcc import ARCHITECTURES
from qcompiler.targets.cuda.plan import FATBIN, HEADERS, SOURCE, plan_for, read_plans
from qcompiler.targets.cuda.session import checked_inputs, output_of, read_weights

logger = logging.getLogger(__name__)

EXTRA = "pip install 'qcompiler[cuda]'"
WARM_UP, REPEATS = 3, 20


def driver_module() -> Any:
    """The bindings of the CUDA driver.

    Raises:
        MissingToolError: they are not installed.
    """
    try:
        from cuda.bindings import driver
    except ImportError:
        raise MissingToolError(f"running on a GPU needs the bindings of the CUDA driver: {EXTRA}") from None
    return driver


class Device:
    """The first GPU, its context and a stream.

    Attributes:
        name: of the card.
        arch: compute capability, 80 for 8.0.
    """

    def __init__(self) -> None:
        """Open the device.

        Raises:
            MissingToolError: the bindings are not installed.
            UnsupportedError: there is no driver or no GPU.
        """
        self.driver = driver_module()
        try:
            self.call("cuInit", 0)
            count = self.call("cuDeviceGetCount")
        except (InternalError, RuntimeError) as error:
            raise UnsupportedError(f"no GPU can be used here ({error}); run(..., emulate=True) runs the kernels on the CPU") from None
        if count == 0:
            raise UnsupportedError("no GPU is here; run(..., emulate=True) runs the kernels on the CPU")
        handle = self.call("cuDeviceGet", 0)
        self.context = self.call("cuDevicePrimaryCtxRetain", handle)
        self.activate()
        self._handle = handle
        self.name = self.call("cuDeviceGetName", 100, handle).split(b"\0")[0].decode()
        self.arch = 10 * self.attribute("COMPUTE_CAPABILITY_MAJOR") + self.attribute("COMPUTE_CAPABILITY_MINOR")
        self.stream = self.call("cuStreamCreate", 0)

    def attribute(self, name: str) -> int:
        """A number of the device, by the driver's name of it."""
        return int(self.call("cuDeviceGetAttribute", getattr(self.driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}"), self._handle))

    def activate(self) -> None:
        """Make the device current for this thread."""
        self.call("cuCtxSetCurrent", self.context)

    def call(self, name: str, *arguments: Any) -> Any:
        """One call of the driver; its result, None if it has none.

        Raises:
            InternalError: naming call and error.
        """
        error, *results = getattr(self.driver, name)(*arguments)
        if int(error) != 0:
            raise InternalError(f"{name}: {getattr(error, 'name', error)}")
        return results[0] if results else None

    def allocate(self, size: int, what: str) -> int:
        """Device memory.

        Raises:
            ConstraintError: there is not enough, with what is needed and what is available.
        """
        free = self.call("cuMemGetInfo")
        if size <= free:
            try:
                return int(self.call("cuMemAlloc", max(size, 256)))
            except InternalError as error:  # no piece of this size is free, or another process was faster
                if "OUT_OF_MEMORY" not in str(error):
                    raise
        raise ConstraintError(f"{what}: {size} bytes of GPU memory are needed and {free} are available on {self.name}; free some, or use a smaller batch")

    def upload(self, to: int, array: np.ndarray) -> None:
        """Copy an array to the device, in stream order."""
        if array.nbytes:
            self.call("cuMemcpyHtoDAsync", to, array.ctypes.data, array.nbytes, self.stream)

    def download(self, array: np.ndarray, source: int) -> None:
        """Copy into an array from the device, in stream order."""
        if array.nbytes:
            self.call("cuMemcpyDtoHAsync", array.ctypes.data, source, array.nbytes, self.stream)

    def synchronize(self) -> None:
        """Wait for the stream."""
        self.call("cuStreamSynchronize", self.stream)

    def start(self, function: Any, grid: Sequence[int], block: Sequence[int], parameters: Any) -> None:
        """Put a kernel on the stream; `parameters`: its struct, as an array of ctypes."""
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(parameters))
        self.call("cuLaunchKernel", function, *grid, *block, 0, self.stream, ctypes.addressof(pointers), 0)

    def milliseconds(self, run: Callable[[], None], repeats: int = REPEATS) -> float:
        """Mean time of what `run` puts on the stream, after a warm-up."""
        begin, end = (self.call("cuEventCreate", 0) for _ in range(2))
        for _ in range(WARM_UP):
            run()
        self.call("cuEventRecord", begin, self.stream)
        for _ in range(repeats):
            run()
        self.call("cuEventRecord", end, self.stream)
        self.call("cuEventSynchronize", end)
        total = float(self.call("cuEventElapsedTime", begin, end))
        for event in (begin, end):
            self.call("cuEventDestroy", event)
        return total / repeats


def load_module(device: Device, folder: Path) -> Any:
    """The kernels for the card: from the fatbin, or compiled by NVRTC if the fatbin has no code for it.

    Raises:
        UnsupportedError: no code for the card, and no NVRTC.
    """
    try:
        return device.call("cuModuleLoadData", (folder / FATBIN).read_bytes())
    except InternalError as error:
        if "NO_BINARY" not in str(error) and "UNSUPPORTED_PTX" not in str(error):
            raise
    known = ", ".join(f"sm_{a}" for a in ARCHITECTURES)
    logger.warning("%s is sm_%d, the artefact has code for %s: compiling its sources at load", device.name, device.arch, known)
    why = f"{device.name} is sm_{device.arch}, and the artefact has code for {known}"
    return device.call("cuModuleLoadData", compile_at_load((folder / SOURCE).read_bytes(), folder / HEADERS, device.arch, why))


def compile_at_load(text: bytes, headers: Path, arch: int, why: str) -> bytes:
    """Code for an architecture by NVRTC.

    Raises:
        UnsupportedError: NVRTC is not installed, with `why` it is needed.
        InternalError: the sources do not compile.
    """
    try:
        from cuda.bindings import nvrtc
    except ImportError:
        raise UnsupportedError(f"{why}; NVRTC would compile the sources at load and is not installed: {EXTRA}") from None

    def call(name: str, *arguments: Any) -> Any:
        error, *results = getattr(nvrtc, name)(*arguments)
        if int(error) != 0:
            raise InternalError(f"{name}: {getattr(error, 'name', error)}")
        return results[0] if results else None

    try:
        program = call("nvrtcCreateProgram", text, SOURCE.encode(), 0, [], [])
    except (InternalError, RuntimeError) as error:  # the bindings are there, the library is not
        raise UnsupportedError(f"{why}; NVRTC cannot be loaded ({error}): {EXTRA}") from None
    options = [f"--gpu-architecture=sm_{arch}".encode(), b"--std=c++17", f"--include-path={headers}".encode()]
    try:
        call("nvrtcCompileProgram", program, len(options), options)
    except InternalError as error:
        log = b" " * call("nvrtcGetProgramLogSize", program)
        call("nvrtcGetProgramLog", program, log)
        raise InternalError(f"CUDA kernels do not compile for sm_{arch}: {error}\n{log.decode(errors='replace')[-3000:]}") from None
    code = b" " * call("nvrtcGetCUBINSize", program)
    call("nvrtcGetCUBIN", program, code)
    return code


def _release(device: Device, addresses: Sequence[int], module: Any) -> None:
    device.activate()
    for address in addresses:
        device.call("cuMemFree", address)
    device.call("cuModuleUnload", module)


class CudaSession:
    """A loaded artefact: constants and arena in device memory, all launches of a plan in one CUDA graph.

    Attributes:
        plan: that was run last, the first one at the start.
        device: it runs on.
    """

    def __init__(self, folder: Path, device: Device | None = None) -> None:
        """Load the kernels, upload the constants, capture the launches of the first plan.

        Raises:
            MissingToolError, UnsupportedError: no GPU, no driver, or no code for the card.
            ConstraintError: too little GPU memory.
        """
        self._plans = read_plans(folder)
        self.plan = self._plans[0]
        weights = read_weights(folder, self.plan)
        self.device = device or Device()
        self._module = load_module(self.device, folder)
        names = {launch.kernel for plan in self._plans for launch in plan.launches}
        self._functions = {name: self.device.call("cuModuleGetFunction", self._module, name.encode()) for name in names}
        self._arena_bytes = max(plan.arena_bytes for plan in self._plans)  # one arena for all plans
        needed = self.plan.weights_bytes + self._arena_bytes
        free = self.device.call("cuMemGetInfo")
        if needed > free:
            raise ConstraintError(f"the model needs {needed} bytes of GPU memory and {free} are available on {self.device.name}")
        self._bases = {
            "weights": self.device.allocate(self.plan.weights_bytes, "the model's constants"),
            "arena": self.device.allocate(self._arena_bytes, "the model's arena"),
        }
        self.device.upload(self._bases["weights"], weights)
        self.device.synchronize()
        self._graphs = {0: self._capture()}
        self._graph = self._graphs[0]
        freed = weakref.finalize(self, _release, self.device, tuple(self._bases.values()), self._module)
        freed.atexit = False  # the driver frees what a process leaves behind

    def select(self, arrays: Sequence[np.ndarray]) -> None:
        """Make the plan for these inputs the current one; its launches are captured when it is used first.

        Raises:
            UsageError: the artefact has plans for other sizes only.
        """
        index = plan_for(self._plans, arrays)
        self.plan = self._plans[index]
        if index not in self._graphs:
            self._graphs[index] = self._capture()
        self._graph = self._graphs[index]

    def launch_all(self) -> None:
        """Put every launch of the plan on the stream."""
        for index in range(len(self.plan.launches)):
            self.launch(index)

    def launch(self, index: int) -> None:
        """Put one launch of the plan on the stream."""
        launch = self.plan.launches[index]
        raw = ctypes.create_string_buffer(launch.pack(self._bases))
        self.device.start(self._functions[launch.kernel], launch.grid, launch.block, raw)

    def _capture(self) -> Any:
        mode = self.device.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self.device.call("cuStreamBeginCapture", self.device.stream, mode)
        self.launch_all()
        graph = self.device.call("cuStreamEndCapture", self.device.stream)
        return self.device.call("cuGraphInstantiate", graph, 0)

    def replay(self) -> None:
        """All launches, from the graph, on the stream."""
        self.device.call("cuGraphLaunch", self._graph, self.device.stream)

    def upload(self, arrays: Sequence[np.ndarray]) -> None:
        """Make the plan for these inputs the current one and put them into its arena."""
        self.device.activate()
        self.select(arrays)
        for tensor, array in zip(self.plan.inputs, checked_inputs(self.plan, arrays)):
            self.device.upload(self._bases["arena"] + tensor.offset, array)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs, in codes, for inputs in codes."""
        self.upload(arrays)
        arena = self._bases["arena"]
        self.replay()
        image = np.zeros(self.plan.arena_bytes, np.uint8)
        for tensor in self.plan.outputs:
            self.device.download(image[tensor.offset : tensor.offset + tensor.size], arena + tensor.offset)
        self.device.synchronize()
        return [output_of(t, image) for t in self.plan.outputs]
