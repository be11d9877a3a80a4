"""Predicted DSP, block RAM, LUTs and flip-flops of units beside what yosys maps them to (series 7).

    python -m benchmarks.fpga.learn_resources

DSP and block RAM must be equal, LUTs and flip-flops within 20 % for every held-out unit. All are the closed forms of
`model/resources.py`, which were made with the first units of synthesis.jsonl at hand; the held-out ones were drawn and
synthesised when the forms were done. Boosted trees learn from the first units what the forms leave, as a test whether they
leave anything that can be learned. `python -m benchmarks.fpga.make_dataset` makes the data set.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from benchmarks.fpga.learned import LEARNED, learn
from benchmarks.fpga.make_dataset import HELD_OUT, layer, rows
from qcompiler.targets.fpga_hls.model.resources import unit_usage
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.verilog.synthesis import Usage

WITHIN = 0.2
Known = tuple[list[int], list[Unit], list[Usage]]


def known(held_out: bool) -> Known:
    """Numbers, units and what synthesis found, of the held-out units or of the others."""
    chosen = sorted((row for row in rows() if (row["index"] >= HELD_OUT) == held_out), key=lambda row: row["index"])
    measured = [Usage(**{k: row[k] for k in ("lut", "ff", "dsp", "bram", "uram")}) for row in chosen]
    return [row["index"] for row in chosen], [layer(row["index"]) for row in chosen], measured


def values(usages: Sequence[Usage], name: str) -> np.ndarray:
    """One resource of all."""
    return np.array([getattr(use, name) for use in usages], float)


def off(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Relative errors."""
    return np.abs(predicted - real) / real


def row(kind: str, name: str, units: Known, predicted: np.ndarray) -> tuple[str, float]:
    """A line of the table, and the largest error."""
    real = values(units[2], name)
    error = off(predicted, real)
    worst = int(error.argmax())
    unit = units[1][worst]
    return (
        f"| {name.upper()} | {kind} | {len(real)} | {100 * np.median(error):.1f} % | {100 * np.quantile(error, 0.9):.1f} % |"
        f" {100 * np.mean(error <= WITHIN):.0f} % | {100 * error[worst]:.1f} %, {type(unit).__name__} {units[0][worst]}:"
        f" {predicted[worst]:.0f} for {real[worst]:.0f} | {spearmanr(predicted, real)[0]:.4f} |"
    ), float(error[worst])


def main() -> int:
    """Print the table; 1 if a DSP or block RAM differs, or LUTs or flip-flops of a held-out unit are further off than 20 %."""
    seen, unseen = known(False), known(True)
    closed = {held: [unit_usage(unit) for unit in units[1]] for held, units in ((False, seen), (True, unseen))}
    both = list(zip([*closed[False], *closed[True]], [*seen[2], *unseen[2]], strict=True))
    differing = {name: sum(getattr(a, name) != getattr(b, name) for a, b in both) for name in ("dsp", "bram")}
    print(f"{len(both)} units; units whose DSP differ: {differing['dsp']}, block RAM: {differing['bram']}\n")
    print("| resource | model | units | median off | 90 % within | within 20 % | worst | rank correlation |\n|" + "---|" * 8)
    fine = not any(differing.values())
    trees = learn(seen[1], seen[2]).predict(unseen[1])
    for name in LEARNED:
        text, worst = row("closed forms, held out", name, unseen, values(closed[True], name))
        fine &= worst <= WITHIN
        print(text)
        print(row("the same and trees, held out", name, unseen, trees[name])[0])
        print(row("closed forms, the others", name, seen, values(closed[False], name))[0])
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
