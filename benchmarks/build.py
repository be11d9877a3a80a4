"""Build one artefact in a process of its own, and report its seconds and peak memory.

    python -m benchmarks.build WORKLOAD BUILDER FOLDER

The last line on stdout is JSON. Importing the libraries is outside the clock on every side; capture or export
is inside. Peak memory is the process's whole resident set, libraries and model included.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.workloads import WORKLOADS, Workload


def ours(workload: Workload, folder: Path, **how: Any) -> Path:
    """The public API, from the torch module to the saved folder."""
    import qcompiler as qc

    model, example = workload.load()
    calibration, shapes = workload.calibration(), workload.dynamic_shapes()
    compiled = qc.compile(model, example, calibration=calibration, dynamic_shapes=shapes, **how)
    return compiled.save(folder / "artefact", force=True) / "model.onnx"


def ours_from_lock(workload: Workload, folder: Path) -> Path:
    """Compile again from the lock file that `ours` left in the folder beside this one."""
    return ours(workload, folder, lock=folder.parent / "ours" / "artefact")


# What the compiler imports when it first needs it.
OURS = (
    "qcompiler.api",
    "qcompiler.frontend.export",
    "torch.export._trace",
    "onnx",
    "onnxruntime",
    "scipy.optimize",
    "matplotlib.pyplot",
)

# Builder -> (function, modules imported before the clock starts).
BUILDERS: dict[str, tuple[Callable[[Workload, Path], Path], tuple[str, ...]]] = {
    "float": (peers.export_float, ("onnxscript",)),
    "ours": (functools.partial(ours, target="onnxruntime-cpu", recipe="w8a8"), OURS),
    "ours-from-lock": (ours_from_lock, OURS),
    "ours-portable": (functools.partial(ours, target="onnx", recipe="w8a8"), OURS),
    "ours-dynamic": (functools.partial(ours, target="onnxruntime-cpu", recipe="w8a8-dynamic"), OURS),
    "ort-static": (peers.ort_static, ("onnxscript", "onnxruntime.quantization")),
    "ort-static-7bit": (
        functools.partial(peers.ort_static, reduce_range=True),
        ("onnxscript", "onnxruntime.quantization"),
    ),
    "ort-dynamic": (peers.ort_dynamic, ("onnxscript", "onnxruntime.quantization")),
    "nncf": (peers.nncf, ("onnxscript", "nncf", "nncf.onnx")),
}


def peak_memory() -> int:
    """Bytes of the largest resident set of this process.

    Linux counts getrusage's ru_maxrss across exec, so that a child would report its parent's size; VmHWM
    begins anew.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def main(name: str, builder: str, folder: str) -> None:
    """Build and print the line."""
    import torch

    torch.set_num_threads(1)
    workload = WORKLOADS[name]
    build, modules = BUILDERS[builder]
    for module in (*modules, *(("transformers",) if workload.transformer else ())):
        importlib.import_module(module)
    start = time.perf_counter()
    path = build(workload, Path(folder))
    seconds = time.perf_counter() - start
    print(json.dumps({"path": str(path), "seconds": seconds, "peak_bytes": peak_memory()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
