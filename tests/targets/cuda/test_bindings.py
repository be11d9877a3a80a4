"""Sessions, profiles and figures through the real bindings, on a driver of the tests: what a GPU's driver is called with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qcompiler.kernels.gpu import peak
from qcompiler.kernels.gpu.emulator import CUDA
from qcompiler.kernels.gpu.launch import Buffer, in_order, source
from qcompiler.kernels.gpu.run import emulate, read
from qcompiler.targets.cuda import emit
from qcompiler.targets.cuda.device import compile_at_load
from qcompiler.targets.cuda.emit import emit_artefact
from qcompiler.targets.cuda.plan import read_plans
from support import run_on_driver
from support.integer_networks import residual_network
from support.tools import requires_nvrtc, requires_tool

SUPPORT = Path(run_on_driver.__file__).parent


def test_through_the_real_bindings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requires_nvrtc()
    compiler = requires_tool("gcc")
    monkeypatch.setattr(emit, "fatbin", lambda source, headers, output: output.write_bytes(b"fatbin") and [])
    emit_artefact(residual_network(), 86, tmp_path, {})
    library = tmp_path / "driver" / "libcuda.so.1"
    library.parent.mkdir()
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", str(SUPPORT / "cuda_driver.c"), "-o", str(library), "-ldl"], check=True)
    paths = {"LD_LIBRARY_PATH": str(library.parent), "PYTHONPATH": os.pathsep.join([str(SUPPORT.parent), str(SUPPORT.parent.parent)])}
    done = subprocess.run(
        [sys.executable, run_on_driver.__file__, str(tmp_path)], env={**os.environ, **paths}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    plan = read_plans(tmp_path)[0]
    kernels = [launch.kernel for launch in plan.launches]
    assert found["seen"] == kernels and found["differing"] == 0 and found["values"] > 0
    # the driver says 2 ms for 20 runs of anything
    assert found["kernels"] == kernels and np.allclose(found["ms"], 0.1)
    work = 2 * 4 * peak.THREADS // 32 * peak.CHAINS * 4096 * peak.PRODUCTS
    assert found["peak"] == pytest.approx(2 * work / 0.1 / 1e6)
    first = plan.launches[0]
    roof = max(2 * first.work / found["peak"], sum(p["size"] for p in first.pointers) / (2 * 4096 / 0.1 / 1e6)) / 1e6
    assert found["shares"][0] == pytest.approx(roof / 0.1) and found["gops"][0] == pytest.approx(2 * first.work / 0.1 / 1e6)
    assert found["rounds"] >= 5 and found["events"] == 0
    assert [row.partition(",")[0] for row in found["rows"]][:4] == ["int8 product 128^3 with rescale", *["W4A16"] * 3]


def test_the_peak_kernel_adds_ones() -> None:
    requires_tool("g++")
    out = in_order(Buffer("peak", 4 * peak.THREADS), np.dtype(np.int32), (1, peak.THREADS))
    launch, memory = peak.peak(out, 3), {}
    emulate([launch], memory)
    assert (read(out, memory) == 4 * peak.CHAINS * 32 * 3).all()
    requires_nvrtc()
    assert compile_at_load(source([launch]).encode(), CUDA, 90, "a test").startswith(b"\x7fELF")
    assert launch.work == peak.THREADS // 32 * peak.CHAINS * 3 * 16 * 8 * 32
