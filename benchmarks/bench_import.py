"""`make bench-import`: how much of ONNX is read, and how exactly. Prints the table of docs/onnx_import.md.

python -m benchmarks.bench_import [--write docs/onnx_import.md] [--parts backend,trained]
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.import_trained import qonnx, quantized_elsewhere, two_ways
from benchmarks.onnx_backend import DIFFERENT, EQUAL, FIXED, UNSUPPORTED, cases, run_case
from benchmarks.onnx_local import compare_locally, runtime_codes, without_saturation

SAMPLES = 4
BEGIN, END = "<!-- table begins -->", "<!-- table ends -->"


def backend() -> str:
    """ONNX's own test models."""
    lines = ["| test models of the onnx package | models | equal | equal, operands fixed | not supported | different |", "|---|---|---|---|---|---|"]
    missing: Counter[str] = Counter()
    for kind in ("node", "simple", "pytorch-converted", "pytorch-operator", "light"):
        outcomes = [run_case(case) for case in cases(kind)]
        found = Counter(o.kind for o in outcomes)
        missing.update(o.detail for o in outcomes if o.kind == UNSUPPORTED)
        share = (found[EQUAL] + found[FIXED]) / len(outcomes)
        lines.append(
            f"| {kind} | {len(outcomes)} | {found[EQUAL]} | {found[FIXED]} | {found[UNSUPPORTED]} ({1 - share:.0%}) | {found[DIFFERENT]} |"
        )
    ops = sorted({m.group(1) for text in missing if (m := re.match(r"([\w.]+): no converter", text))})
    return "\n".join([*lines, "", f"Ops of these models without a converter: {', '.join(ops)}."])


def _sqnr(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    noise = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    return "equal" if noise == 0 else f"{10 * np.log10(sum(float((a**2).sum()) for a, _ in pairs) / noise):.1f} dB"


def quantized() -> str:
    """Networks that other tools quantized, against ONNX Runtime."""
    import onnx
    import onnxruntime

    from benchmarks import peers
    from benchmarks.workloads import WORKLOADS
    from qcompiler.executors.reference import run_reference
    from qcompiler.frontend.onnx import import_onnx
    from qcompiler.imported import bring_in
    from qcompiler.passes.base import Context

    lines = [
        "| network | quantized by | codes that differ, each op fed the runtime's codes | largest step | end to end, runtime optimized | end to end, not optimized | the runtime's two forms against each other |",
        "|---|---|---|---|---|---|---|",
    ]
    makers = (("efficientnet-lite0", "ort_static"), ("efficientnet-lite0", "nncf"), ("minilm-l6", "ort_dynamic"), ("minilm-l6", "nncf"))
    for name, maker in makers:
        workload = WORKLOADS[name]
        with tempfile.TemporaryDirectory() as folder:
            path = getattr(peers, maker)(workload, Path(folder))
            graph, _, _ = bring_in(import_onnx(path), Context(), None, False)
            safe = without_saturation(onnx.load(path)).SerializeToString()
            samples = workload.evaluation()[:SAMPLES]
            outputs = {}
            levels = onnxruntime.GraphOptimizationLevel
            for level in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL):
                options = onnxruntime.SessionOptions()
                options.graph_optimization_level, options.log_severity_level = level, 3
                session = onnxruntime.InferenceSession(safe, options, providers=["CPUExecutionProvider"])
                outputs[level] = [session.run(None, {v.name: s[v.name] for v in graph.inputs})[0] for s in samples]
            ours = [run_reference(graph, [s[v.name] for v in graph.inputs])[0] for s in samples]
            feed = {v.name: samples[0][v.name] for v in graph.inputs}
            local = compare_locally(graph, runtime_codes(path, feed), feed)
        share = f"{local.differing} of {local.values}" if local.values else "no codes between ops"
        on, off = (outputs[level] for level in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL))
        ends = [_sqnr(list(zip(theirs, ours, strict=True))) for theirs in (on, off)]
        lines.append(
            f"| {name} | {maker} | {share} | {local.max_lsb if local.values else ''} | {ends[0]} | {ends[1]} | {_sqnr(list(zip(on, off, strict=True)))} |"
        )
    return "\n".join(lines)


# The peak of /proc belongs to this program alone; that of getrusage is inherited from the process that started it.
_MEASURE = """
import pathlib, re, time
import {module}
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
start = time.process_time()
kept = {call}
print(time.process_time() - start, peak() - before)
"""


def size() -> str:
    """A model of 1 GB in one file: time and peak memory in processes of their own."""
    import subprocess
    import sys

    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rows, layers = 4096, 15
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.onnx"
        nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(layers)]
        weight = rng.random((rows, rows), np.float32)
        weights = [numpy_helper.from_array(weight, f"w{i}") for i in range(layers)]
        ends = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [1, rows]) for i in (0, layers)]
        graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
        del weights, graph
        total = path.stat().st_size
        rows_ = []
        for name, module, call in (
            ("onnx.load", "onnx", f"onnx.load({str(path)!r})"),
            ("import", "qcompiler.frontend.onnx", f"qcompiler.frontend.onnx.import_onnx({str(path)!r})"),
        ):
            for _ in range(2):  # the first reads the file into the system's cache
                code = _MEASURE.format(module=module, call=call)
                done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            seconds, peak = map(float, done.stdout.split())
            rows_.append(f"| {name} | {seconds:.2f} s | {peak / total:.2f} times the file |")
    return "\n".join([f"| a model of {total / 1e9:.2f} GB in one file | processor time | peak memory |", "|---|---|---|", *rows_])


def damaged() -> str:
    """Damaged files: read, or refused with a message; anything else ends the bench."""
    from tests.frontend.onnx_import.test_mutants import FORMS, outcomes

    lines = [f"| damaged files, {MUTANTS} each | read | refused | other errors, hangs |", "|---|---|---|---|"]
    for form in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            found = outcomes(form, Path(folder), MUTANTS, seed=1)
        lines.append(f"| .{form} | {found['read']} | {found['refused']} | 0 |")
    return "\n".join(lines)


MUTANTS = 1000
PARTS = {
    "backend": backend, "trained": quantized_elsewhere, "quantized": quantized, "two_ways": two_ways, "qonnx": qonnx,
    "damaged": damaged, "size": size,
}  # fmt: skip


def main() -> None:
    """Print the tables, and put them into a document between its marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated")
    given = parser.parse_args()
    tables = []
    for part in given.parts.split(","):
        start = time.perf_counter()
        tables.append(PARTS[part]())
        print(tables[-1], f"\n({part}: {time.perf_counter() - start:.0f} s)\n", flush=True)
    if given.write and given.parts == ",".join(PARTS):  # a part alone is no whole table
        text = given.write.read_text(encoding="utf-8")
        head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
        given.write.write_text(f"{head}{BEGIN}\n{chr(10).join(f'{t}{chr(10)}' for t in tables)}{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
