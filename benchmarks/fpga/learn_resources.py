"""Predicted DSP, block RAM, LUTs and flip-flops of units beside what yosys maps them to (series 7).

    python -m benchmarks.fpga.learn_resources

DSP and block RAM are closed forms and must be equal. LUTs and flip-flops are learned: every unit is predicted by a model
that has seen no unit of its shape (five parts by shape, every kind of unit spread over all). The units are those of synthesis.jsonl, which
`python -m benchmarks.fpga.make_dataset` makes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from benchmarks.fpga.learned import LEARNED, kind, learn, shape
from benchmarks.fpga.make_dataset import layer, rows
from qcompiler.targets.fpga_hls.model.resources import unit_usage
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.verilog.synthesis import Usage

PARTS = 5
WITHIN = 0.2


def held_out(units: Sequence[Unit], measured: Sequence[Usage], seed: int = 0) -> dict[str, np.ndarray]:
    """Predictions of every unit by models that have not seen its shape."""
    rng = np.random.default_rng(seed)
    shapes = sorted(({shape(unit): kind(unit) for unit in units}).items(), key=repr)
    # shapes of one kind lie in all parts: of a kind that was never seen there is nothing to learn
    mixed = sorted(rng.permutation(len(shapes)), key=lambda i: shapes[i][1])
    part = {shapes[i][0]: place % PARTS for place, i in enumerate(mixed)}
    parts = np.array([part[shape(unit)] for unit in units])
    found = {name: np.zeros(len(units)) for name in LEARNED}
    for held in range(PARTS):
        seen, unseen = np.flatnonzero(parts != held), np.flatnonzero(parts == held)
        model = learn([units[i] for i in seen], [measured[i] for i in seen])
        for name, values in model.predict([units[i] for i in unseen]).items():
            found[name][unseen] = values
    return found


def main() -> int:
    """Print both tables; 1 if a DSP or block RAM differs, or the median of LUTs or flip-flops is further off than 20 %."""
    known = rows()
    units = [layer(row["index"]) for row in known]
    measured = [Usage(**{k: row[k] for k in ("lut", "ff", "dsp", "bram", "uram")}) for row in known]
    closed = [unit_usage(unit) for unit in units]
    differing = {name: sum(getattr(a, name) != getattr(b, name) for a, b in zip(closed, measured)) for name in ("dsp", "bram")}
    print(f"{len(units)} units; units whose DSP differ: {differing['dsp']}, block RAM: {differing['bram']}\n")
    print("| resource | held-out units | median off | 90 % within | within 20 % | rank correlation | closed form alone: median off |")
    print("|---|---|---|---|---|---|---|")
    fine = not any(differing.values())
    for name, predicted in held_out(units, measured).items():
        real = np.array([getattr(use, name) for use in measured], float)
        off = np.abs(predicted / real - 1)
        alone = np.median(np.abs(np.array([getattr(use, name) for use in closed]) / real - 1))
        fine &= bool(np.median(off) <= WITHIN)
        print(
            f"| {name.upper()} | {len(real)} | {100 * np.median(off):.1f} % | {100 * np.quantile(off, 0.9):.1f} % |"
            f" {100 * np.mean(off <= WITHIN):.0f} % | {spearmanr(predicted, real)[0]:.3f} | {100 * alone:.1f} % |"
        )
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
