"""Compilation targets, one family per folder. Import as `qcompiler.targets`."""

from __future__ import annotations

from collections.abc import Callable

from qcompiler.errors import UsageError, did_you_mean
from qcompiler.targets.base import Emission, Kernel, KernelChoice, Measurement, Session, Simulation, Target

__all__ = [
    "Emission",
    "Kernel",
    "KernelChoice",
    "Measurement",
    "Session",
    "Simulation",
    "Target",
    "get_target",
    "known_targets",
]


def _onnx(option: str) -> Target:
    from qcompiler.targets.onnx.target import onnx_target

    return onnx_target(option)


def _onnxruntime_cpu(option: str) -> Target:
    from qcompiler.targets.onnx.target import onnxruntime_cpu_target

    return onnxruntime_cpu_target(option)


def _mcu(core: str) -> Callable[[str], Target]:
    def make(option: str) -> Target:
        from qcompiler.targets.mcu.target import mcu_target

        return mcu_target(core, option)

    return make


def _fpga_hls(option: str) -> Target:
    from qcompiler.targets.fpga_hls.target import fpga_target

    return fpga_target(option)


def _cuda(arch: int) -> Callable[[str], Target]:
    def make(option: str) -> Target:
        from qcompiler.targets.cuda.target import cuda_target

        return cuda_target(arch, option)

    return make


def _tvm_cpu(option: str) -> Target:
    from qcompiler.targets.tvm.target import tvm_cpu_target

    return tvm_cpu_target(option)


# name -> (factory taking what stands after the colon, one line of description)
_TARGETS: dict[str, tuple[Callable[[str], Target], str]] = {
    "onnx": (_onnx, "portable model.onnx, standard-domain ops in Q/DQ form, opset 21"),
    "onnxruntime-cpu": (_onnxruntime_cpu, "model.onnx with ONNX Runtime's own CPU kernels; `:ISA` for another machine"),
    "tvm-cpu": (_tvm_cpu, "a library of kernels for this machine's CPU by TVM; `:CPU` (LLVM's name) for another"),
    "host-c": (_mcu("host-c"), "the C project of the microcontrollers, for this machine"),
    **{
        core: (_mcu(core), f"plain C project for {core}, {note}; `:flash=1M,ram=320K` or `:PART` for its memory")
        for core, note in (
            ("cortex-m0plus", "portable kernels"),
            ("cortex-m3", "portable kernels"),
            ("cortex-m4", "DSP kernels"),
            ("cortex-m7", "DSP kernels"),
            ("cortex-m33", "DSP kernels"),
            ("cortex-m55", "Helium kernels"),
        )
    },
    "fpga-hls": (_fpga_hls, "streaming dataflow in C++ for Vitis HLS; `:PART@MHZ` (`fpga-hls:xc7z020@100`) for its FPGA"),
    **{
        f"cuda-sm{arch}": (_cuda(arch), f"CUDA kernels and a plan of launches for {cards}; emulated on a CPU")
        for arch, cards in ((80, "A100"), (86, "RTX 30 and A10"), (89, "RTX 40 and L40S"), (90, "H100 and H200"))
    },
}


def known_targets() -> dict[str, str]:
    """Names and one-line descriptions."""
    return {name: description for name, (_, description) in _TARGETS.items()}


def get_target(name: str) -> Target:
    """The description of a target, `NAME` or `NAME:OPTION`.

    Raises:
        UsageError: unknown name or option, with what is known.
    """
    base, _, option = name.partition(":")
    if base not in _TARGETS:
        raise UsageError(f"unknown target {name!r}; known: {', '.join(_TARGETS)}.{did_you_mean(base, _TARGETS)}")
    return _TARGETS[base][0](option)
