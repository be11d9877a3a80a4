"""Random integer programs through the CPU kernels against the reference interpreter, every integer compared with ==.

    python -m benchmarks.fuzz_tvm_kernels [--cases N] [--cpu NAME] [--state FILE] [--seconds S]

Products, convolutions, softmaxes, norms, tables, sums, pools and data movement over random shapes, types, roundings
and factors. `--cpu` compiles for another CPU whose instructions this one has: `haswell` for the kernels of AVX2, `x86-64`
for those of SSE2. `--state` keeps what is done, so that a run that ended early (`--seconds`) goes on where it stopped. Exit
status 1 if an integer differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cpu_kernels.fuzz import cases_of, differing, refused

TOGETHER = 90
"""Cases in one library."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print counts by family."""
    from qcompiler.targets.tvm.machine import machine_named, missing_features

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--cpu", default="", help="LLVM's name; default: this machine's")
    parser.add_argument("--state", type=Path, help="what is done by now; default: out/fuzz-tvm-CPU.json")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after about so long; the same command goes on")
    options = parser.parse_args(arguments)
    machine = machine_named(options.cpu)
    if missing_features(machine):
        parser.error(f"this machine cannot run code for {machine.cpu}: it has no {', '.join(missing_features(machine))}")
    path = options.state or Path(f"out/fuzz-tvm-{machine.cpu}.json")
    state = json.loads(path.read_text()) if path.is_file() else {"done": 0, "wrong": []}
    started = time.monotonic()
    while state["done"] < options.cases and time.monotonic() - started < options.seconds:
        cases = cases_of(state["done"], min(TOGETHER, options.cases - state["done"]))
        without = refused(cases, machine)
        found = differing([case for case in cases if case not in without], machine)
        state["refused"] = state.get("refused", 0) + len(without)
        state["wrong"] += [[family, seed, count] for (family, seed), count in found.items()]
        state["done"] += len(cases)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(state))
        print(f"{state['done']} of {options.cases}; {len(state['wrong'])} differ", file=sys.stderr, flush=True)
    wrong = Counter(family for family, _, _ in state["wrong"])
    print("| family | cases | differ |\n|---|---|---|")
    for family, count in sorted(Counter(family for family, _ in cases_of(0, state["done"])).items()):
        print(f"| {family} | {count} | {wrong[family]} |")
    print(f"\n{state['done']} cases, {state.get('refused', 0)} refused, {len(state['wrong'])} differ: {state['wrong'][:10]}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
