"""`make bench-import`: how much of ONNX is read, and how exactly. Prints the tables of docs/onnx_import.md.

    python -m benchmarks.bench_import [--write docs/onnx_import.md] [--parts backend trained] [--only ROW ...] [--keep FOLDER]

Each part is a table of its own, and each row can be had alone: a row that is written replaces the one of that name.
`--keep` keeps what exporters and other quantizers made, which takes most of the time, and takes it from there again.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.import_brevitas import brevitas
from benchmarks.import_networks import families, quantized
from benchmarks.import_trained import qonnx, quantized_elsewhere, two_ways
from benchmarks.onnx_backend import DIFFERENT, EQUAL, FIXED, UNSUPPORTED, cases, run_case

Rows = Sequence[str]


def backend(only: Rows, keep: Path | None) -> str:
    """ONNX's own test models."""
    lines = ["| test models of the onnx package | models | equal | equal, operands fixed | not supported | different |", "|---|---|---|---|---|---|"]
    missing: Counter[str] = Counter()
    for kind in ("node", "simple", "pytorch-converted", "pytorch-operator", "light"):
        if only and kind not in only:
            continue
        outcomes = [run_case(case) for case in cases(kind)]
        found = Counter(o.kind for o in outcomes)
        missing.update(o.detail for o in outcomes if o.kind == UNSUPPORTED)
        share = (found[EQUAL] + found[FIXED]) / len(outcomes)
        lines.append(
            f"| {kind} | {len(outcomes)} | {found[EQUAL]} | {found[FIXED]} | {found[UNSUPPORTED]} ({1 - share:.0%}) | {found[DIFFERENT]} |"
        )
    ops = sorted({m.group(1) for text in missing if (m := re.match(r"([\w.]+): no converter", text))})
    return "\n".join(lines if only else [*lines, "", f"Ops of these models without a converter: {', '.join(ops)}."])


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


def size(only: Rows, keep: Path | None) -> str:
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


def damaged(only: Rows, keep: Path | None) -> str:
    """Damaged files: read, or refused with a message; anything else ends the bench."""
    from tests.frontend.onnx_import.test_mutants import FORMS, outcomes

    lines = [f"| damaged files, {MUTANTS} each | read | refused | other errors, hangs |", "|---|---|---|---|"]
    for form in FORMS:
        if only and f".{form}" not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = outcomes(form, Path(folder), MUTANTS, seed=1)
        lines.append(f"| .{form} | {found['read']} | {found['refused']} | 0 |")
    return "\n".join(lines)


MUTANTS = 1000
PARTS: dict[str, Callable[[Rows, Path | None], str]] = {
    "backend": backend, "families": families, "trained": quantized_elsewhere, "quantized": quantized, "two_ways": two_ways,
    "qonnx": qonnx, "brevitas": brevitas, "damaged": damaged, "size": size,
}  # fmt: skip


def _row_name(line: str) -> str:
    return line.split("|")[1].strip() if line.startswith("|") else line[:20]


def write_part(text: str, part: str, table: str) -> str:
    """A document with the table of a part, or single rows of it, put between its marks; rows go by their first cell.

    Raises:
        ValueError: the document has no such marks.
    """
    begin, end = f"<!-- {part} begins -->", f"<!-- {part} ends -->"
    if begin not in text or end not in text:
        raise ValueError(f"the document has no marks {begin} and {end}")
    head, rest = text.split(begin)
    old, tail = rest.split(end)
    before, now = old.strip().splitlines(), table.splitlines()
    if before[:2] == now[:2]:
        rows: dict[str, list[str]] = {}
        for line in now[2:]:
            rows.setdefault(_row_name(line), []).append(line)
        kept = list(dict.fromkeys(_row_name(line) for line in (*before[2:], *now[2:])))
        older = {k: [line for line in before[2:] if _row_name(line) == k] for k in kept}
        now = [*now[:2], *(line for k in kept for line in rows.get(k, older[k]))]
    return f"{head}{begin}\n{chr(10).join(now)}\n{end}{tail}"


def main() -> None:
    """Print the tables, and put them into a document between their marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="document whose tables are replaced")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="first cell of the rows to make")
    parser.add_argument("--keep", type=Path, help="folder for exported and quantized models, used again")
    given = parser.parse_args()
    for part in given.parts:
        start = time.perf_counter()
        table = PARTS[part](given.only, given.keep)
        print(table, f"\n({part}: {time.perf_counter() - start:.0f} s)\n", flush=True)
        if given.write:
            given.write.write_text(write_part(given.write.read_text(encoding="utf-8"), part, table), encoding="utf-8")


if __name__ == "__main__":
    main()
