"""Small trained networks of `benchmarks/models`, by every way into the compiler: tables of `make bench-import`.

Fashion-MNIST is needed (Debian: dataset-fashion-mnist).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.import_networks import decibels, working_folder

NETWORKS = ("resnet8", "ds_cnn", "mobilenet_v1_025")
CALIBRATED, SAMPLES, LARGE_SAMPLES = 64, 16, 4
"""Samples: of calibration, and compared code by code, of small and of large networks."""
QONNX_PINS = ("qonnx==1.0.0", "onnx==1.17.0", "onnxruntime==1.22.1", "numpy==2.4.6", "setuptools")
"""The executor of QONNX does not run with newer ones, so it has an environment of its own."""


class _Reader:
    """ONNX Runtime's form of calibration data."""

    def __init__(self, images: np.ndarray) -> None:
        self._rest: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._rest, None)
        return None if image is None else {"x": image[None]}


def _exported(name: str, folder: Path, folded: bool = True) -> Path:
    """Batch norms are folded in float32 by the older exporter, and left alone by the newer one, told not to optimize."""
    import torch

    from benchmarks.models import MODELS

    network, example = MODELS[name].load()
    path = folder / "float.onnx"
    if folded:
        torch.onnx.export(network, example, path, dynamo=False, opset_version=17, input_names=["x"])
    else:
        torch.onnx.export(network, example, path, dynamo=True, optimize=False, input_names=["x"], external_data=False, verbose=False)
    return path


def quantized_elsewhere(only: Sequence[str], keep: Path | None) -> str:
    """Networks that ONNX Runtime quantized: against the runtime, and as C."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    import qcompiler as qc
    from benchmarks.models import MODELS
    from benchmarks.onnx_local import compare_locally, runtime_tensors, without_saturation

    lines = [
        "| network quantized by ONNX Runtime | form | codes that differ, each op fed the runtime's codes | end to end, runtime optimized | end to end, not optimized | the runtime's two forms against each other | as C: integers that differ from the reference |",
        "|---|---|---|---|---|---|---|",
    ]
    levels = onnxruntime.GraphOptimizationLevel
    for name in NETWORKS:
        if only and name not in only:
            continue
        images, _ = MODELS[name].evaluation(SAMPLES)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            quant_pre_process(_exported(name, folder), folder / "prepared.onnx")
            for form in ("QDQ", "QOperator"):
                path, safe = folder / f"{form}.onnx", folder / f"{form}-safe.onnx"
                quantize_static(
                    folder / "prepared.onnx", path, _Reader(MODELS[name].calibration(CALIBRATED)), quant_format=QuantFormat[form],
                    per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                )  # fmt: skip
                onnx.save(without_saturation(onnx.load(path)), safe)
                theirs = {}
                for level in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL):
                    options = onnxruntime.SessionOptions()
                    options.graph_optimization_level, options.log_severity_level = level, 3
                    session = onnxruntime.InferenceSession(safe, options, providers=["CPUExecutionProvider"])
                    theirs[level] = [session.run(None, {"x": image[None]})[0] for image in images]
                graph = _program(path)
                ours = [_run(graph, image) for image in images]
                local = [compare_locally(graph, runtime_tensors(safe, {"x": i[None]}), {"x": i[None]}) for i in images[:4]]
                compiled = qc.compile(path, target="host-c", evaluation=[(i[None],) for i in images])
                wrong = sum(int((compiled.run(i[None], raw=True)[0] != compiled.reference(i[None], raw=True)[0]).sum()) for i in images)
                on, off = theirs[levels.ORT_ENABLE_ALL], theirs[levels.ORT_DISABLE_ALL]
                columns = [decibels(list(zip(a, b, strict=True))) for a, b in ((on, ours), (off, ours), (on, off))]
                share = f"{sum(r.differing for r in local)} of {sum(r.values for r in local)}"
                lines.append(f"| {name} | {form} | {share} | {' | '.join(columns)} | {wrong} |")
    return "\n".join(lines)


def _program(path: Path) -> Any:
    from qcompiler.frontend.onnx import import_onnx
    from qcompiler.imported import bring_in
    from qcompiler.passes.base import Context

    return bring_in(import_onnx(path), Context(), None, False)[0]


def _run(graph: Any, image: np.ndarray) -> np.ndarray:
    """Real output of the reference for a real input."""
    from qcompiler.boundary import dequantize_outputs, quantize_inputs
    from qcompiler.executors.reference import run_reference

    return dequantize_outputs(graph, run_reference(graph, quantize_inputs(graph, [image[None]])))[0]


def two_ways(only: Sequence[str], keep: Path | None) -> str:
    """The same network by torch.export and by its ONNX export."""
    import qcompiler as qc
    from benchmarks import peers
    from benchmarks.models import MODELS
    from benchmarks.workloads import WORKLOADS

    lines = [
        "| network, w8a8 | batch norms in the ONNX file | codes of weights that differ | codes of activations that differ | outputs | against float, by torch.export | against float, by ONNX |",
        "|---|---|---|---|---|---|---|",
    ]
    cases: list[tuple[str, str]] = [(n, f) for n in NETWORKS for f in ("as trained", "folded in float32")]
    cases += [("efficientnet-lite0", "folded in float32"), ("minilm-l6", "none")]
    for name, norms in cases:
        if only and name not in only:
            continue
        if name in WORKLOADS:
            workload = WORKLOADS[name]
            network, example = workload.load()
            data = [tuple(s[k] for k in workload.inputs) for s in workload.calibration()]
            samples = workload.evaluation()
            judged = [tuple(s[k] for k in workload.inputs) for s in samples]
            tried = judged[:LARGE_SAMPLES]
            shapes = workload.dynamic_shapes()
        else:
            network, example = MODELS[name].load()
            data = [(image[None],) for image in MODELS[name].calibration(CALIBRATED)]
            judged = tried = [(image[None],) for image in MODELS[name].evaluation(SAMPLES)[0]]
            shapes = None
        with working_folder(keep, f"two_ways-{name}-{norms.split()[0]}") as folder:
            path = folder / "float.onnx"
            if not path.exists():
                path = peers.export_float(WORKLOADS[name], folder) if name in WORKLOADS else _exported(name, folder, "folded" in norms)
            options: dict[str, Any] = {"target": "onnx", "calibration": data, "allow_slow": True}
            direct = qc.compile(network, example, dynamic_shapes=shapes, **options)
            by_file = qc.compile(path, **options)
        weights = [[v.data for v in c.graph.constants() if v.quant is not None] for c in (direct, by_file)]
        steps = [_activations(c.graph, tried) for c in (direct, by_file)]
        runs = [c.run if name in WORKLOADS else c.reference for c in (direct, by_file)]
        found = [[run(*s)[0] for s in judged] for run in runs]
        wanted = _float_outputs(network, judged)
        if name in WORKLOADS and WORKLOADS[name].transformer:  # tokens of the text, not what fills it up to the length
            masks = [s["attention_mask"].astype(bool) for s in samples]
            wanted, *found = ([a[m] for a, m in zip(arrays, masks, strict=True)] for arrays in (wanted, *found))
        ends = [decibels(list(zip(*pair, strict=True))) for pair in (found, (wanted, found[0]), (wanted, found[1]))]
        lines.append(f"| {name} | {norms} | {_differing(*weights)} | {_differing(*steps)} | {' | '.join(ends)} |")
    return "\n".join(lines)


def _float_outputs(network: Any, samples: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    import torch

    with torch.no_grad():
        return [network(*map(torch.from_numpy, sample)).numpy() for sample in samples]


def _activations(graph: Any, samples: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Codes of every quantized activation, in program order."""
    from qcompiler.executors.reference import run_reference

    found: list[np.ndarray] = []
    values = [v for node in graph.nodes for v in node.outputs if v.quant is not None and v.dtype.bits <= 8]
    for sample in samples:
        run_reference(graph, sample, values, lambda _, array: found.append(array))
    return found


def _differing(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> str:
    if [a.shape for a in first] != [b.shape for b in second]:
        return "other tensors"
    return f"{sum(int((a != b).sum()) for a, b in zip(first, second, strict=True))} of {sum(a.size for a in first)}"


EXECUTE = """
import json, sys
import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model
model, data = cleanup_model(ModelWrapper(sys.argv[1])), np.load(sys.argv[2])
name = model.graph.input[0].name
found = [next(iter(execute_onnx(model, {name: x[None]}).values())) for x in data["x"]]
noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(found, data["y"]))
print(json.dumps([sum(int((a != b).sum()) for a, b in zip(found, data["y"])), data["y"].size, noise, float((data["y"] ** 2).sum())]))
"""


def qonnx(only: Sequence[str], keep: Path | None) -> str:
    """Programs written as QONNX: run by the executor of the qonnx package, and imported again."""
    import qcompiler as qc
    from benchmarks.environments import environment
    from benchmarks.models import MODELS
    from qcompiler.errors import UnsupportedError

    lines = ["| network written as QONNX | recipe | run by qonnx: outputs that differ | imported again |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        python = environment(folder / "venv", QONNX_PINS)
        for name in NETWORKS:
            if only and name not in only:
                continue
            network, example = MODELS[name].load()
            images = MODELS[name].calibration(CALIBRATED)
            for recipe in ("w8a8", "w8a8-pow2"):
                data = [(image[None],) for image in images]
                compiled = qc.compile(network, example, target="onnx", recipe=recipe, calibration=data, allow_slow=True)
                try:
                    path = compiled.save_qonnx(folder / "model.onnx")
                except UnsupportedError as error:
                    lines.append(f"| {name} | {recipe} | refused: {error} | |")
                    continue
                wanted = [_run(compiled.graph, image) for image in images[:SAMPLES]]
                np.savez(folder / "data.npz", x=images[:SAMPLES], y=np.stack(wanted))
                done = subprocess.run([python, "-c", EXECUTE, path, folder / "data.npz"], check=True, capture_output=True, text=True)
                wrong, count, noise, power = json.loads(done.stdout.splitlines()[-1])
                again = _program(path)
                back = decibels([(y, _run(again, image)) for y, image in zip(wanted, images, strict=False)])
                ratio = "" if noise == 0 else f" ({10 * np.log10(power / noise):.1f} dB)"
                lines.append(f"| {name} | {recipe} | {wrong} of {count}{ratio} | {back} |")
    return "\n".join(lines)
