"""Started with the driver of `cuda_driver.c` in front of the system's: a session, profiles and figures through the real bindings.

    python run_on_driver.py FOLDER

FOLDER holds an artefact of `residual_network`. Prints one JSON object.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.gpu_kernels import figures
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, GraphBuilder, Level
from qcompiler.kernels.gpu.emulator import Region, build
from qcompiler.targets import get_target
from qcompiler.targets.cuda import profile as profile_module
from qcompiler.targets.cuda.device import CudaSession, Device
from qcompiler.targets.cuda.plan import HEADERS, SOURCE, read_plans
from qcompiler.targets.cuda.profile import profile_session
from support.integer_networks import random_codes, residual_network

RUN = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint), ctypes.c_void_p)


def run_in_emulator(folder: Path, session: CudaSession, seen: list[str]) -> Any:
    """What the driver calls for every kernel: parameters have to be the plan's, then the emulator runs it on the driver's memory."""
    library, launches = build((folder / SOURCE).read_text(), folder / HEADERS), session.plan.launches

    def run(name: bytes, sizes: Any, parameters: int) -> None:
        launch = launches[len(seen) % len(launches)]
        seen.append(name.decode())
        raw = ctypes.string_at(parameters, len(launch.pack(session._bases)))
        if (seen[-1], tuple(sizes[:6]), raw) != (launch.kernel, (*launch.grid, *launch.block), launch.pack(session._bases)):
            seen[-1] = f"{seen[-1]} has other parameters than the plan"
            return
        regions = []
        for p in launch.pointers:
            held = (ctypes.c_uint8 * p["size"]).from_address(session._bases[p["space"]] + p["first"])
            regions.append(Region(p["name"], np.ctypeslib.as_array(held), p["access"]))
        library.launch(launch.kernel, launch.grid, launch.block, lambda places: launch.pack({}, list(places)), regions)

    return RUN(run)


def main() -> None:
    folder = Path(sys.argv[1])
    driver = ctypes.CDLL("libcuda.so.1")
    for launch in read_plans(folder)[0].launches:
        driver.test_parameters(launch.kernel.encode(), len(launch.pack({"arena": 0, "weights": 0})))
    graph, seen = residual_network(), []
    session = CudaSession(folder)
    call = run_in_emulator(folder, session, seen)
    driver.test_run_with(call)
    arrays = random_codes(graph, 1)
    got, wanted = session.run(arrays), run_reference(graph, arrays)
    driver.test_run_with(RUN())
    profile_module.compile_at_load = lambda *_: b"code"  # NVRTC looks for a real driver
    profile = profile_session(session, folder, arrays, 1 << 12)
    b = GraphBuilder("float", Level.FLOAT)
    x = b.input("x", DType.float32, (2, 2))
    values = [np.ones((2, 2), np.float32)]
    timed = get_target("cuda-sm86").measure(folder, b.build([b.op("relu", x)]), values, 1, 0.01, arrays)
    figures.compile_at_load = profile_module.compile_at_load
    figures.measure_copy = lambda device: 100.0
    figures.compile_network = lambda *_: (SimpleNamespace(folder=folder, graph=graph), [arrays])
    figures.quantize_inputs = lambda _, given: given
    device = Device()
    rows = [figures._product(device, 128), *figures._weight_only(device, 64, 128), *figures._minilm(device)]
    print(
        json.dumps(
            {
                "differing": int(sum((g != w).sum() for g, w in zip(got, wanted, strict=True))), "values": int(wanted[0].size), "seen": seen,
                "kernels": [k.kernel for k in profile.kernels], "ms": [k.ms for k in profile.kernels], "peak": profile.peak_gops,
                "shares": [k.share for k in profile.kernels], "gops": [k.gops for k in profile.kernels], "rounds": timed.rounds,
                "rows": [r["what"] for r in rows], "events": driver.test_events(),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
