"""Run ONNX files in ONNX Runtime and OpenVINO on one thread, and time them side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.workloads import Sample

Session = Callable[[Sample], np.ndarray]
"""One inference: the first output of a sample."""


def open_onnxruntime(path: Path) -> Session:
    """ONNX Runtime's CPU provider with its default optimizations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    first = [session.get_outputs()[0].name]
    return lambda sample: session.run(first, dict(zip(names, sample.values(), strict=True)))[0]


def open_openvino(path: Path) -> Session:
    """OpenVINO's CPU plug-in; float32 where it computes in float, as ONNX Runtime does."""
    import openvino

    config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(path), "CPU", config)
    request = model.create_infer_request()
    return lambda sample: np.array(request.infer(list(sample.values()))[model.output(0)])


OPEN = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}


def time_interleaved(
    sessions: dict[str, Session], sample: Sample, seconds: float
) -> dict[str, tuple[float, float]]:
    """Median milliseconds of each session, and its ratio to the first, all in turn within one run.

    Each round runs every session for about 20 ms, in an order that is reversed every other round; the ratio is
    the median over rounds of the ratio within the round, so that what slows a round slows both its sides.
    """
    repeats = {}
    for name, run in sessions.items():
        run(sample)
        repeats[name] = max(1, round(0.02 / _seconds(run, sample, 3)))
    times: dict[str, list[float]] = {name: [] for name in sessions}
    end, forward = time.perf_counter() + seconds * len(sessions), True
    while time.perf_counter() < end or len(next(iter(times.values()))) < 7:
        for name in sessions if forward else reversed(sessions):
            times[name].append(_seconds(sessions[name], sample, repeats[name]))
        forward = not forward
    first = next(iter(times.values()))
    return {
        name: (
            statistics.median(own) * 1e3,
            statistics.median(a / b for a, b in zip(own, first, strict=True)),
        )
        for name, own in times.items()
    }


def _seconds(run: Session, sample: Sample, repeats: int) -> float:
    """Mean seconds of one inference."""
    start = time.perf_counter()
    for _ in range(repeats):
        run(sample)
    return (time.perf_counter() - start) / repeats


def instruction_sets() -> list[str]:
    """Those of this CPU that decide about int8 speed; empty where the system does not say."""
    known = ("avx2", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    return [name for name in known if name in flags]
