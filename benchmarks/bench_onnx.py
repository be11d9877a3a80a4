"""INT8 ONNX models beside float and beside the peers: accuracy, speed, compile time, memory, size.

    python -m benchmarks.bench_onnx [--models minilm-l6] [--rows ours ort-static] [--json FILE]

Accuracy is against the float model on data that no one calibrated with. Latency is on one thread, batch 1, as a
ratio to the float model in ONNX Runtime within the same interleaved run. Compile time and peak memory are those
of a process that does nothing else, from the torch module to the file on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.runtimes import OPEN, instruction_sets, time_interleaved
from benchmarks.workloads import WORKLOADS, Workload


@dataclass(frozen=True)
class Row:
    """A line of the table: an artefact in a runtime."""

    title: str
    builder: str
    runtime: str = "onnxruntime"


FLOAT = Row("float, torch.onnx export", "float")
ROWS = {
    "ours": Row("qcompiler `onnxruntime-cpu`, w8a8", "ours"),
    "ours-from-lock": Row("the same from its lock file", "ours-from-lock"),
    "ours-dynamic": Row("qcompiler `onnxruntime-cpu`, w8a8-dynamic", "ours-dynamic"),
    "ours-portable": Row("qcompiler `onnx`, w8a8, in ONNX Runtime", "ours-portable"),
    "ours-openvino": Row("qcompiler `onnx`, w8a8, in OpenVINO", "ours-portable", "openvino"),
    "ort-static": Row("ORT quantize_static, min-max, U8S8", "ort-static"),
    "ort-static-7bit": Row("the same with reduce_range", "ort-static-7bit"),
    "ort-dynamic": Row("ORT quantize_dynamic", "ort-dynamic"),
    "nncf": Row("NNCF, in ONNX Runtime", "nncf"),
    "nncf-openvino": Row("NNCF, in OpenVINO", "nncf", "openvino"),
}


def build(workload: str, builder: str, folder: Path) -> dict[str, Any]:
    """Build in a process of its own: path, seconds, peak_bytes, bytes, or error with its last line."""
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.build", workload, builder, str(folder)]
    result = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if result.returncode != 0:
        return {"error": result.stderr.strip().splitlines()[-1]}
    built = json.loads(result.stdout.splitlines()[-1])
    path = Path(built["path"])
    weights = path.with_name(path.name + ".data")
    return built | {"bytes": path.stat().st_size + (weights.stat().st_size if weights.exists() else 0)}


def bench(name: str, rows: list[str], folder: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """Every figure of one model: row -> figures; the first row is float."""
    workload = WORKLOADS[name]
    wanted = {"float": FLOAT} | {row: ROWS[row] for row in rows}
    if "ours-from-lock" in rows and "ours" not in rows:
        raise SystemExit("row ours-from-lock compiles again what row ours compiled: name both")
    built: dict[str, dict[str, Any]] = {}
    for row in wanted.values():
        if row.builder not in built:
            print(f"{name}: building {row.builder}", file=sys.stderr, flush=True)
            built[row.builder] = build(name, row.builder, folder / row.builder)
    if "path" in built.get("ours-from-lock", {}):
        same = _read(built["ours-from-lock"]["path"]) == _read(built["ours"]["path"])
        built["ours-from-lock"]["same_bytes"] = "yes" if same else "NO"
    if "error" in built["float"]:
        raise SystemExit(f"{name}: no float model to compare with: {built['float']['error']}")
    table = {key: {"title": row.title} | built[row.builder] for key, row in wanted.items()}
    sessions = {}
    for key, row in wanted.items():
        if "error" in table[key]:
            continue
        try:
            sessions[key] = OPEN[row.runtime](Path(table[key].pop("path")))
        except Exception as error:  # whatever a runtime has against a peer's file belongs in the table
            table[key]["error"] = f"{row.runtime} does not load it: {str(error).strip().splitlines()[-1]}"
    _judge(workload, sessions, table)
    timed = time_interleaved(sessions, workload.evaluation()[0], seconds)
    for key, (milliseconds, ratio) in timed.items():
        table[key] |= {"latency_ms": milliseconds, "latency_ratio": ratio}
    return table


def _judge(workload: Workload, sessions: dict[str, Any], table: dict[str, dict[str, Any]]) -> None:
    samples = workload.evaluation()
    outputs = {key: [run(sample) for sample in samples] for key, run in sessions.items()}
    for key, found in outputs.items():
        table[key] |= workload.score(outputs["float"], found, samples)


COLUMNS = (
    ("agreement", "agreement", "{:.3f}"),
    ("cosine", "mean cosine", "{:.4f}"),
    ("spearman", "Spearman", "{:.4f}"),
    ("sqnr_db", "SQNR dB", "{:.1f}"),
    ("latency_ratio", "latency / float", "{:.2f}"),
    ("latency_ms", "ms", "{:.2f}"),
    ("seconds", "compile s", "{:.1f}"),
    ("peak_bytes", "peak MB", "{:.0f}"),
    ("bytes", "size MB", "{:.1f}"),
    ("same_bytes", "same bytes", "{}"),
)


def markdown(title: str, table: dict[str, dict[str, Any]]) -> str:
    """The table as the README shows it."""
    columns = [c for c in COLUMNS if any(c[0] in row for row in table.values())]
    lines = [f"**{title}**", "", "| | " + " | ".join(c[1] for c in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in table.values():
        if "error" in row:
            lines.append(f"| {row['title']} | failed: {row['error']} |" + " |" * (len(columns) - 1))
            continue
        cells = [_cell(row.get(key), key, form) for key, _, form in columns]
        lines.append(f"| {row['title']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _cell(value: Any, key: str, form: str) -> str:
    if value is None:
        return ""
    return form.format(value / 1e6 if key in ("bytes", "peak_bytes") else value)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    packages = ("qcompiler", "torch", "onnxruntime", "onnx", "nncf", "openvino")
    return {
        "cpu": instruction_sets(), "python": platform.python_version(), "threads": 1,
        "versions": {name: version(name) for name in packages},
    }  # fmt: skip


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="float is always measured")
    parser.add_argument("--seconds", type=float, default=3.0, help="of timing per row")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    arguments = parser.parse_args()
    about = machine()
    print("CPU: " + (", ".join(about["cpu"]) or "unknown") + "; 1 thread; Python " + about["python"], end="; ")
    print(", ".join(f"{name} {number}" for name, number in about["versions"].items()))
    results = {}
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = bench(name, arguments.rows, Path(folder), arguments.seconds)
        print("\n" + markdown(WORKLOADS[name].title, results[name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"schema_version": 1, "machine": about, "models": results}, indent=2))


if __name__ == "__main__":
    main()
