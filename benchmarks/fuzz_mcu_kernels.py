"""Random calls of the microcontroller kernels against the reference interpreter, on every instruction set.

    python -m benchmarks.fuzz_mcu_kernels [--cases N] [--seed S] [--isa portable dsp mve]

The same cases run on this machine (portable C, with sanitizers) and on emulated Cortex-M4 and Cortex-M55 (QEMU). Every
result is compared with ==. Exit status 1 if one differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.mcu_kernels.build import WHERE, build, run_cases
from benchmarks.mcu_kernels.generators import draw_cases
from qcompiler.kernels.mcu.pack import PROFILES

CHUNK = 2000  # cases in memory at a time


def main() -> int:
    """Run; the number of differing cases decides the status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000, help="in all, over both rounding profiles (10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isa", nargs="+", choices=list(WHERE), default=list(WHERE))
    options = parser.parse_args()
    runs: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    each = -(-options.cases // len(PROFILES))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for profile in PROFILES:
            commands = {isa: build(folder, profile, isa) for isa in options.isa}
            for first in range(0, each, CHUNK):
                cases = draw_cases(min(CHUNK, each - first), profile, options.seed + first)
                for isa, command in commands.items():
                    failures = run_cases(command, cases, isa, folder)
                    runs.update((isa, case.kernel) for case in cases)
                    wrong.update((isa, failure.case.kernel) for failure in failures)
                    for failure in failures[:5]:
                        print(f"{isa}: {failure}", file=sys.stderr)
    print("| kernel | " + " | ".join(options.isa) + " |\n|---|" + "---|" * len(options.isa))
    for kernel in sorted({kernel for _, kernel in runs}):
        cells = [f"{runs[isa, kernel]} cases, {wrong[isa, kernel]} differ" for isa in options.isa]
        print(f"| {kernel} | " + " | ".join(cells) + " |")
    print(f"{sum(runs.values())} cases, {sum(wrong.values())} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
