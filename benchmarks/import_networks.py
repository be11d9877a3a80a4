"""Real networks and architectures from ONNX files, against ONNX Runtime: tables of `make bench-import`."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.onnx_arithmetic import run_with, runtime_bodies
from benchmarks.onnx_local import compare_locally, optimized_file, runtime_tensors, without_saturation

SAMPLES = 4
MAKERS = (("efficientnet-lite0", "ort_static"), ("efficientnet-lite0", "nncf"), ("minilm-l6", "ort_dynamic"), ("minilm-l6", "nncf"))
FORMS = {"optimized": "ORT_ENABLE_ALL", "not optimized": "ORT_DISABLE_ALL"}
OTHER_PROCESSOR = "Nehalem"
"""x86-64 without AVX and without fused multiply-add, as QEMU names it."""


def decibels(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """Power of the first ones over that of the differences."""
    noise = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    return "equal" if noise == 0 else f"{10 * np.log10(sum(float((a**2).sum()) for a, _ in pairs) / noise):.1f} dB"


@contextmanager
def working_folder(keep: Path | None, name: str) -> Iterator[Path]:
    """A folder for what exporters and other tools make; below `keep` it stays and is used again."""
    if keep is not None:
        folder = keep / name
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


# The same program runs here and in the emulator.
_RUN = """
import sys
import numpy as np, onnxruntime
path, data, out, level = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
options.log_severity_level, options.intra_op_num_threads = 3, 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
feeds = dict(np.load(data))
count = len(next(iter(feeds.values())))
np.save(out, np.stack([session.run(None, {k: v[i] for k, v in feeds.items()})[0] for i in range(count)]))
"""


def run_runtime(path: Path, feeds: Mapping[str, np.ndarray], form: str, emulator: Sequence[str] = ()) -> np.ndarray:
    """First output of ONNX Runtime for each sample, in a process of its own; feeds have a leading sample axis."""
    with tempfile.TemporaryDirectory() as place:
        data, out = Path(place) / "data.npz", Path(place) / "out.npy"
        np.savez(data, **feeds)
        command = [*emulator, os.path.realpath(sys.executable), "-c", _RUN, str(path), str(data), str(out), FORMS[form]]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
        return np.load(out)


def _other_processor() -> list[str] | None:
    """How to run a program of this machine on a processor with other instructions."""
    program = shutil.which("qemu-x86_64")
    return None if program is None or platform.machine() not in ("x86_64", "AMD64") else [program, "-cpu", OTHER_PROCESSOR]


def quantized(only: Sequence[str], keep: Path | None) -> str:
    """Networks that other tools quantized, against ONNX Runtime."""
    import onnx

    from benchmarks import peers
    from benchmarks.workloads import WORKLOADS
    from qcompiler.executors.reference import run_reference
    from qcompiler.frontend.onnx import import_onnx
    from qcompiler.imported import bring_in
    from qcompiler.passes.base import Context

    lines = [
        "| network, quantized by | the runtime's form | the file imported as it is run, real ops rounded as by its kernels | integer program: results on codes that differ, each op fed the runtime's tensors | largest step | real ops, largest relative difference | integer program end to end | the runtime's other form | the runtime itself on a CPU without AVX (first sample) | integer program on the first sample |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    emulator = _other_processor()
    for name, maker in MAKERS:
        if only and f"{name}, {maker}" not in only:
            continue
        workload = WORKLOADS[name]
        with working_folder(keep, f"{name}-{maker}") as folder:
            path, safe = folder / "model.onnx", folder / "safe.onnx"
            if not path.exists():
                getattr(peers, maker)(workload, folder)
            onnx.save(without_saturation(onnx.load(path)), safe)
            graph, _, _ = bring_in(import_onnx(path), Context(), None, False)
            samples = workload.evaluation()[:SAMPLES]
            feeds = {v.name: np.stack([s[v.name] for s in samples]) for v in graph.inputs}
            ours = np.stack([run_reference(graph, [s[v.name] for v in graph.inputs])[0] for s in samples])
            theirs = {form: run_runtime(safe, feeds, form) for form in FORMS}
            feed, first = {k: v[0] for k, v in feeds.items()}, {k: v[:1] for k, v in feeds.items()}
            for form, other in permutations(FORMS):
                runs = optimized_file(safe, folder) if form == "optimized" else safe
                local = compare_locally(graph, runtime_tensors(runs, feed), feed)
                written = import_onnx(runs)
                bodies = runtime_bodies(written, onnx.load(runs))
                exact = np.stack([run_with(written, [s[v.name] for v in written.inputs], bodies)[0] for s in samples])
                elsewhere = "needs qemu-x86_64 on x86-64"
                if emulator is not None:
                    elsewhere = decibels([(theirs[form][:1], run_runtime(safe, first, form, emulator))])
                steps = f"{local.differing} of {local.values} | {local.max_lsb} | {local.max_rel:.1e}"
                same, *ends = [decibels([(theirs[form], x)]) for x in (exact, ours, theirs[other])]
                here = decibels([(theirs[form][:1], ours[:1])])
                lines.append(f"| {name}, {maker} | {form} | {same} | {steps} | {' | '.join(ends)} | {elsewhere} | {here} |")
    return "\n".join(lines)


def _export(name: str, path: Path) -> str:
    """Export a family with random weights and dynamic axes; returns which exporter did it."""
    import torch

    from tests.support.architectures import LISTED

    family = LISTED[name]
    module, sample = family.make(), family.sample(*family.sizes[0])
    keywords = sample if isinstance(sample, dict) else {}
    args = () if isinstance(sample, dict) else sample
    if getattr(getattr(module, "config", None), "use_cache", False):
        module.config.use_cache = False
    options: dict[str, Any] = {"kwargs": keywords or None, "f": path, "external_data": False, "verbose": False}
    if isinstance(sample, dict):
        shapes: Any = {k: dict.fromkeys(family.dynamic.get(k, {}), torch.export.Dim.DYNAMIC) for k in sample}
    else:
        shapes = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in family.dynamic)
    try:
        torch.onnx.export(module, args, dynamo=True, opset_version=20, dynamic_shapes=shapes, **options)
    except torch.onnx.errors.OnnxExporterError as error:
        print(f"{name}: {str(error).splitlines()[0]}; exported by tracing", file=sys.stderr)
        axes = {k: dict(v) for k, v in family.dynamic.items()}
        torch.onnx.export(module, args, dynamo=False, opset_version=17, input_names=list(keywords), dynamic_axes=axes, **options)
        return "tracing"
    return "torch.export"


def families(only: Sequence[str], keep: Path | None) -> str:
    """The promised architectures by torch.onnx, imported, at several sizes of their dynamic axes."""
    import onnxruntime
    from torch.utils import _pytree as pytree

    from qcompiler.executors.torch_executor import TorchExecutor
    from qcompiler.frontend.onnx import import_onnx
    from tests.support.architectures import LISTED

    lines = ["| architecture | exported by | ops after import | sizes (batch, length) | largest relative difference |", "|---|---|---|---|---|"]
    for name, family in LISTED.items():
        if only and name not in only:
            continue
        with working_folder(keep, "families") as folder:
            path = folder / f"{name}.onnx"
            traced = path.with_suffix(".traced")
            if not path.exists() and _export(name, path) == "tracing":
                traced.touch()
            graph = import_onnx(path)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            worst = 0.0
            for size in family.sizes:
                arrays = [v.numpy() for v in pytree.tree_leaves(family.sample(*size))]
                feed = dict(zip([i.name for i in session.get_inputs()], arrays, strict=True))
                found = TorchExecutor(graph).run([feed[v.name] for v in graph.inputs])
                for ours, theirs in zip(found, session.run(None, feed), strict=True):
                    worst = max(worst, float(np.abs(ours.numpy().astype(np.float64) - theirs).max() / np.abs(theirs).max()))
            how = "tracing" if traced.exists() else "torch.export"
        lines.append(f"| {name} | {how} | {len(graph.nodes)} | {', '.join(map(str, family.sizes))} | {worst:.1e} |")
    return "\n".join(lines)
