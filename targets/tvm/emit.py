"""The artefact of a CPU: a library, its constants, and what is known of its kernels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.ir import Graph, Value
from qcompiler.kernels.cpu.library import CpuLibrary
from qcompiler.targets.base import Emission, KernelChoice
from qcompiler.targets.tvm.build import VmSession, compile_module, link_library, load_library
from qcompiler.targets.tvm.lower import KernelInfo, Lowered, lower
from qcompiler.targets.tvm.machine import Machine

LIBRARY, CONSTANTS, PROGRAM = "lib.so", "constants.safetensors", "program.json"
FORMAT = 2


def emit_cpu(graph: Graph, machine: Machine, folder: Path, tiles: Mapping[str, Any], metadata: Mapping[str, str]) -> Emission:
    """Compile a graph into an existing folder."""
    library = CpuLibrary(machine.isa, tiles)
    lowered = lower(graph, library)
    executable = compile_module(lowered.module, machine.tvm_target())
    link_library(executable, folder / LIBRARY, machine.triple, machine.host)
    save_file({f"c{i}": array for i, array in enumerate(lowered.constants)}, folder / CONSTANTS)
    (folder / PROGRAM).write_text(json.dumps(_program(graph, machine, lowered, metadata), indent=1), encoding="utf-8")
    rows = tuple(choice for kernel in lowered.kernels for choice in kernel_choices(kernel))
    used = {key: asdict(tile) for key, tile in sorted(library.used.items())}
    return Emission((folder / LIBRARY, folder / CONSTANTS, folder / PROGRAM), rows, used)


def _program(graph: Graph, machine: Machine, lowered: Lowered, metadata: Mapping[str, str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "cpu": machine.cpu,
        "triple": machine.triple,
        "isa": machine.isa.name,
        "inputs": [[v.name, v.dtype.numpy.name, len(v.shape)] for v in graph.inputs],
        "constants": [[str(array.dtype), list(array.shape)] for array in lowered.constants],
        "kernels": [
            {"name": k.name, "kernel": k.kernel, "modules": [n.where() for n in k.nodes], "macs": k.macs, "note": k.note}
            for k in lowered.kernels
        ],
        "metadata": dict(metadata),
    }


def kernel_choices(kernel: KernelInfo) -> list[KernelChoice]:
    """One row per node of a kernel; the elementwise ops behind an anchor are part of its kernel."""
    rows = []
    for index, node in enumerate(kernel.nodes):
        first = next((v for v in node.operands if v.data is None), None) or (node.operands[0] if node.operands else node.outputs[0])
        kinds = [first, *([node.inputs[1]] if _is_product(node.op) and node.inputs[1] is not None else [])]
        name = kernel.kernel if index == 0 else f"epilogue of {kernel.kernel}"
        rows.append(KernelChoice(node.origin.module, node.op, " x ".join(_type(v) for v in kinds), name, kernel.note, kernel.slow if index == 0 else ""))
    return rows


def _is_product(op: str) -> bool:
    return op in ("linear", "matmul", "conv", "weight_only_linear", "dynamic_linear")


def _type(value: Value) -> str:
    return str(value.dtype.name)


def open_cpu(folder: Path, machine: Machine) -> VmSession:
    """The artefact of a folder.

    Raises:
        UsageError: files are missing or damaged, or of another format.
        UnsupportedError: it was compiled for another CPU than this one.
    """
    try:
        program = json.loads((folder / PROGRAM).read_text(encoding="utf-8"))
        constants = load_file(folder / CONSTANTS)
        inputs = [(str(n), str(k), int(r)) for n, k, r in program["inputs"]]
    except Exception as error:  # whatever a damaged file makes of the readers
        raise UsageError(f"cannot read the program of {folder}: {type(error).__name__}: {error}") from None
    if program.get("format") != FORMAT:
        raise UsageError(f"the program of {folder} has format {program.get('format')}, this version reads {FORMAT}; compile the model again")
    arrays = [_constant(folder, constants, f"c{i}", *kind) for i, kind in enumerate(program["constants"])]
    check_runs_here(machine)
    if not (folder / LIBRARY).is_file():
        raise UsageError(f"{folder / LIBRARY} is missing")
    return VmSession(load_library(folder / LIBRARY), arrays, inputs)


def _constant(folder: Path, constants: Mapping[str, np.ndarray], name: str, kind: str, shape: list[int]) -> np.ndarray:
    """A constant of the type and shape that the code takes it for."""
    found = constants.get(name)
    if found is None or str(found.dtype) != kind or list(found.shape) != shape:
        what = "missing" if found is None else f"{found.dtype}{list(found.shape)}"
        raise UsageError(f"{folder / CONSTANTS} does not belong to the program: {name} is {what}, not {kind}{shape}")
    return found


def check_runs_here(machine: Machine) -> None:
    """Refuse code with instructions that this CPU lacks: it would end the process.

    Raises:
        UnsupportedError: naming them.
    """
    from qcompiler.targets.tvm.machine import missing_features

    missing = missing_features(machine)
    if missing:
        raise UnsupportedError(
            f"the artefact is for {machine.cpu} ({machine.isa.name}); this CPU lacks {', '.join(missing[:8])}. Compile it for "
            "tvm-cpu without a name to run it here"
        )
