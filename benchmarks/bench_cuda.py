"""CUDA kernels: random cases and whole networks in the emulator, what the assembler reports, and figures of a GPU.

    python -m benchmarks.bench_cuda [--parts fuzz networks resources gpu] [--cases N] [--families NAME ...]
        [--networks NAME ...] [--inputs N] [--seed S] [--json FILE]

`fuzz`: N random programs over all families of kernels, every integer compared with the reference (float16 products
with a tolerance). `networks`: ResNet-8, one layer of MiniLM-L6 and one of SmolLM2, every launch compared (of programs with float
islands on the first sample, fed the reference's numbers; `run_db` are whole runs against the reference). `resources`: registers,
spills and shared memory of the kernels of these networks, of every tile of the matrix product and of one of each other
kernel, for all architectures. `gpu` needs a GPU and is left out where there is none. Exit status 1 if an integer differs or a register
is spilled.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_kernels.figures import gpu_figures
from benchmarks.gpu_kernels.networks import NETWORKS, compile_network
from benchmarks.gpu_kernels.run import ALL_FAMILIES, draw_case, one_of_each, run_cases
from qcompiler.boundary import quantize_inputs
from qcompiler.errors import MissingToolError, UnsupportedError
from qcompiler.ir import Level
from qcompiler.kernels.gpu import gemm
from qcompiler.kernels.gpu.emulator import CUDA
from qcompiler.kernels.gpu.launch import Buffer, in_order, source
from qcompiler.kernels.gpu.nvcc import fatbin
from qcompiler.kernels.gpu.rescale import make_rescale
from qcompiler.targets.cuda.plan import read_plans

PARTS = ("fuzz", "networks", "resources", "gpu")


def fuzz(cases: int, seed: int, families: Sequence[str]) -> list[dict[str, Any]]:
    """Random cases by family."""
    each = -(-cases // len(ALL_FAMILIES))
    rows = []
    for family in families:
        drawn = [draw_case(family, seed + i) for i in range(each)]
        failures = run_cases(drawn)
        for case, what in failures[:5]:
            print(f"{family}, seed {case.seed}: {what}", file=sys.stderr)
        launched = Counter(launch.kernel.name for case in drawn for launch in case.launches)
        rows.append({"family": family, "cases": each, "kernels": len(launched), "launches": launched.total(), "differing": len(failures)})
    return rows


def networks(names: Sequence[str], inputs: int, folder: Path) -> list[dict[str, Any]]:
    """Whole networks through `compile`, then more samples in the emulator."""
    rows = []
    for name in names:
        compiled, samples = compile_network(name, inputs)
        out = compiled.save(folder / name)
        plan = read_plans(out)[0]
        codes = [quantize_inputs(compiled.graph, s) for s in samples]
        found = compiled.target.verify(compiled.graph, out, codes)
        found.check()
        rows.append(
            {
                "network": name, "recipe": NETWORKS[name], "samples": len(codes), "launches": len(plan.launches),
                "kernels": len({launch.kernel for launch in plan.launches}),
                "values": sum(c.values for c in found.ops["emulator"]),
                "differing": sum(c.differing for c in found.ops["emulator"]) + (found.differing if compiled.graph.level is Level.INTEGER else 0),
                "run_db": "equal" if found.sqnr_db == float("inf") else f"{found.sqnr_db:.1f}",
                "weights_bytes": plan.weights_bytes, "arena_bytes": plan.arena_bytes,
            }
        )  # fmt: skip
    return rows


def resources(folder: Path) -> list[dict[str, Any]]:
    """What ptxas reports, for the networks compiled before, for every tile, and for one of each other kernel."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for path in sorted(folder.glob("*/kernels.json")):
        rows |= {(r["kernel"], r["arch"]): r for r in json.loads(path.read_text(encoding="utf-8"))}
    x, y = (in_order(Buffer(n, 1 << 20), np.dtype(np.int8), (1024, 1024)) for n in "xy")
    weights = gemm.pack_weights("w", np.ones((1024, 1024), np.int8), None, 0)
    rescale = make_rescale("dyadic", np.ones(1024), np.ones(1024), 0, -128, 127)
    text = source([*(gemm.linear(x, weights, y, rescale, tile) for tile in gemm.TILES), *one_of_each()])
    (folder / "tiles.cu").write_text(text, encoding="utf-8")
    rows |= {(r["kernel"], r["arch"]): r for r in fatbin(folder / "tiles.cu", CUDA, folder / "tiles.fatbin")}
    return [rows[key] for key in sorted(rows)]


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of rows with equal keys."""
    if not rows:
        return "(none)"
    head = list(rows[0])
    lines = ["| " + " | ".join(h.replace("_", " ") for h in head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(r[h]) for h in head) + " |" for r in rows)])


def by_kernel(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per kernel: registers on each architecture, spills and shared memory of the worst."""
    found: dict[str, dict[str, Any]] = {}
    for r in rows:
        row = found.setdefault(r["kernel"], {"kernel": f"`{r['kernel']}`", "registers": "", "spill_bytes": 0, "shared_bytes": 0})
        row["registers"] += f"{' / ' if row['registers'] else ''}{r['registers']}"
        for key in ("spill_bytes", "shared_bytes"):
            row[key] = max(row[key], r[key])
    return list(found.values())


def main() -> int:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--families", nargs="+", choices=ALL_FAMILIES, default=list(ALL_FAMILIES))
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=10, help="samples of each network")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {"schema_version": 1}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "fuzz" in options.parts:
            results["fuzz"] = fuzz(options.cases, options.seed, options.families)
            print(f"\n{table(results['fuzz'])}", flush=True)
        if "networks" in options.parts:
            results["networks"] = networks(options.networks, options.inputs, folder)
            print(f"\n{table(results['networks'])}", flush=True)
        if "resources" in options.parts:
            results["resources"] = resources(folder)
            print(f"\nRegisters on sm_80 / 86 / 89 / 90\n\n{table(by_kernel(results['resources']))}", flush=True)
    if "gpu" in options.parts:
        try:
            card, rows = gpu_figures()
            results["gpu"] = {"card": card, "figures": rows}
            print(f"\nMeasured on {card}\n\n{table(rows)}", flush=True)
        except (MissingToolError, UnsupportedError) as problem:
            print(f"\nNo figures of a GPU: {problem}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    wrong = sum(r["differing"] for part in ("fuzz", "networks") for r in results.get(part, ()))
    return 1 if wrong or any(r["spill_bytes"] for r in results.get("resources", ())) else 0


if __name__ == "__main__":
    sys.exit(main())
