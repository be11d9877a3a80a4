"""Integer programs of whole networks: integers that differ from the reference, and time beside ONNX Runtime.

Programs and counts are kept in a folder, so that a run that was ended goes on where it stopped; remove the folder to
start anew. Libraries are made in every run.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_integer import Case, case_of, kept
from benchmarks.cpu_kernels.products import SUMS
from benchmarks.workloads import WORKLOADS, _tokens

LARGE = ("efficientnet-lite0", "minilm-l6")
# `int16_products` of the recipe is the number in the mark; 4 and 8 cut weights, which GPTQ makes up for in part. Most tokens
# of MiniLM's padded sentences are padding, which says little of what the real model reads
LIMITED: dict[str, dict[str, Any]] = {
    "efficientnet-lite0": {"rounding": "gptq"},
    "minilm-l6": {"rounding": "gptq", "passes": {"round_gptq": {"float_target": 0.0, "next_norm": True}}},
}
NETWORKS = ("resnet8", "ds_cnn", "vit_tiny_fmnist", *LARGE, *(f"{name}{SUMS}{n}" for n in (2, 4) for name in LARGE), f"minilm-l6{SUMS}8")
STATE = "counts.json"


def model_case(name: str, inputs: int) -> Case:
    """A model with fixed shapes: MiniLM with sentences padded to the full length."""
    case = case_of(name, inputs)
    if name != "minilm-l6":
        return case
    samples = _tokens("calibration", 64, seed=0, pad=True)
    return replace(case, shapes=None, calibration=[tuple(s[k] for k in WORKLOADS[name].inputs) for s in samples])


def compile_both(case: Case, calibration: int, folder: Path, limits: dict[str, Any]) -> tuple[Any, Any]:
    """The integer program for this CPU and `w8a8` for ONNX Runtime, kept in `folder`."""
    import qcompiler as qc

    integers = {"base": "w8a8-int", "name": "w8a8-int", "never_slower": False, **limits}
    recipes: dict[str, Any] = {"tvm-cpu": integers, "onnxruntime-cpu": "w8a8"}
    for target, recipe in recipes.items():
        if not (folder / target).is_dir():
            module, example = case.load()
            compiled = qc.compile(
                module, example, target=target, recipe=recipe, calibration=case.calibration[:calibration],
                evaluation=case.evaluation[:1], dynamic_shapes=None, allow_slow=target == "onnxruntime-cpu",
            )  # fmt: skip
            compiled.save(folder / target)
    mine, peer = (qc.load(folder / target) for target in recipes)
    return mine, peer


def count_differing(compiled: Any, session: Any, case: Case, inputs: int, state: Path, library: str) -> dict[str, Any]:
    """Integers that differ from the reference over the first `inputs` samples, and the energies that make the SQNR.

    `library` is the hash of the code that runs: counts of other code are not gone on with.
    """
    from qcompiler.boundary import dequantize_outputs, quantize_inputs
    from qcompiler.executors.reference import run_reference
    from qcompiler.targets import get_target

    counts = json.loads(state.read_text()) if state.is_file() else {}
    if counts.get("library") != library:
        counts = {"library": library, "inputs": 0, "differing": 0, "signal": 0.0, "noise": 0.0}
    floats = get_target("onnxruntime-cpu").open_float(compiled.float_graph)  # type: ignore[attr-defined]
    for sample in case.evaluation[counts["inputs"] : inputs]:
        codes = quantize_inputs(compiled.graph, sample)
        got, wanted = session.run(codes), run_reference(compiled.graph, codes)
        real = kept(sample, np.asarray(floats.run(sample)[0], np.float64))
        counts["differing"] += sum(int((a != b).sum()) for a, b in zip(got, wanted, strict=True))
        counts["signal"] += float((real**2).sum())
        counts["noise"] += float(((real - kept(sample, dequantize_outputs(compiled.graph, got)[0])) ** 2).sum())
        counts["inputs"] += 1
        if counts["inputs"] % 10 == 0 or counts["inputs"] == inputs:
            state.write_text(json.dumps(counts))
            print(f"{compiled.graph.name}: {counts['inputs']} inputs, {counts['differing']} differ", file=sys.stderr, flush=True)
    return counts


def times(mine: Any, session: Any, peer: Any, sample: tuple[np.ndarray, ...], seconds: float) -> dict[str, float]:
    """Latency beside the float model and beside `w8a8`, both in ONNX Runtime."""
    from qcompiler.boundary import quantize_inputs
    from qcompiler.targets import get_target
    from qcompiler.targets.timing import measure_pair

    other = peer.session
    floats = get_target("onnxruntime-cpu").open_float(mine.float_graph)  # type: ignore[attr-defined]
    tensors, taken = [session.tensor(a) for a in quantize_inputs(mine.graph, sample)], quantize_inputs(peer.graph, sample)
    found = measure_pair(lambda: session.call(tensors), lambda: floats.run(sample), seconds)
    rival = measure_pair(lambda: session.call(tensors), lambda: other.run(taken), seconds)
    return {
        "ms": found.latency_ms, "float32_ms": found.baseline_ms, "ratio_float32": found.ratio, "spread": found.spread,
        "ort_int8_ms": rival.baseline_ms, "ratio_ort_int8": rival.ratio,
    }  # fmt: skip


def compile_kernels(compiled: Any, folder: Path) -> tuple[Any, float, int]:
    """The library as this version makes it of a program: (session, seconds of processor time, different kernels)."""
    folder.mkdir(exist_ok=True)
    started = time.process_time()
    kernels = compiled.target.emit(compiled.graph, folder).kernels
    spent = time.process_time() - started
    return compiled.target.open(folder), spent, len({k.kernel for k in kernels})


def model_row(name: str, inputs: int, calibration: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Figures of one network; without times where `seconds` is 0."""
    from qcompiler.metrics import energy_ratio_db

    network, _, summed = name.partition(SUMS)
    case = model_case(network, inputs)
    folder /= name.replace(", ", "-")
    limits: dict[str, Any] = {"int16_products": int(summed)} if summed else {}
    limits |= LIMITED[network] if summed in ("4", "8") else {}
    mine, peer = compile_both(case, calibration, folder, limits)
    session, spent, kernels = compile_kernels(mine, folder / "library")
    library = hashlib.sha256((folder / "library" / mine.target.artefact).read_bytes()).hexdigest()
    counts = count_differing(mine, session, case, inputs, folder / STATE, library)
    row: dict[str, Any] = {"name": name, "differing": counts["differing"], "inputs": counts["inputs"], "compile_cpu_s": spent}
    row |= {"sqnr_db": energy_ratio_db(counts["signal"], counts["noise"]), "kernels": kernels}
    return row | (times(mine, session, peer, case.evaluation[0], seconds) if seconds else {})
