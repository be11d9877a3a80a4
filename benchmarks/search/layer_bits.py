"""Bits {2, 3, 4, 8} for the weights of every layer, at the size of uniform bits (see docs/search.md).

    python -m benchmarks.search.layer_bits efficientnet-lite0|smollm2 [--bits 3.5] [--out FOLDER]

Weights of 2 to 4 bits are symmetric in groups of 64 along the inputs, those of 8 bits per channel; activations stay
real. EfficientNet-Lite0's are rounded to nearest, SmolLM2's by GPTQ, all solutions with the same codes. The mean counts
codes; scales come on top for all alike. Intervals are over the reported samples, all solutions on the same ones. Everything is `simulated`: the torch executor with rounded weights.

Losses that were measured are kept in the folder, so that a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.search.weight_bits import BITS, WeightBits, efficientnet, smollm2
from qcompiler.search.sensitivity import get_provider
from qcompiler.search.solvers import (
    Evolution,
    Problem,
    Row,
    pareto_front,
    solve_evolution,
    solve_greedy,
    solve_ilp,
    solve_quadratic,
)

PROVIDERS = {
    "efficientnet-lite0": ("weight_mse", "lim", "layer_sqnr", "kl", "loss", "hessian", "mask"),
    "smollm2": ("weight_mse", "lim", "layer_sqnr"),
}
BUDGETS = {"efficientnet-lite0": (3.0, 4.0), "smollm2": (3.5,)}
EVOLUTION = {"efficientnet-lite0": Evolution(2, 8, (1,), 2), "smollm2": Evolution(2, 4, (1,), 8)}
SPLITS = {
    "efficientnet-lite0": {"other crops": "same", "other photographs": "report"},
    "smollm2": {"other text": "report"},
}
"""Samples that are reported, beside those that decide."""
STEPS = {"efficientnet-lite0": 4, "smollm2": 0}
"""Sequential quadratic programs at most: two runs for every layer each, which SmolLM2's 210 layers do not get."""
MIXED = 4
"""Most providers whose sensitivities are averaged, the best alone first."""
CLUSTERS = 3
"""Thirds of the depth that layers of one kind are measured in together, for the calibrated sensitivity."""

DRAWS = 2000
"""Bootstrap over the reported samples."""


class Kept:
    """JSON values by name in a folder; what is there is not computed again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder / "figures.json"
        self.values = json.loads(self.path.read_text()) if self.path.exists() else {}

    def get(self, name: str, make: Callable[[], object]) -> object:
        """The value of that name."""
        if name not in self.values:
            self.values[name] = make()
            self.path.write_text(json.dumps(self.values))
        return self.values[name]

    def array(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of that name, in a file of its own."""
        path = self.folder / f"{name}.npy"
        if not path.exists():
            np.save(path, make())
        return np.asarray(np.load(path))


class Bench:
    """One network and what is known of it."""

    def __init__(self, subject: WeightBits, kept: Kept) -> None:
        self.subject, self.kept = subject, kept
        self.sizes = [g.weights for g in subject.space.groups]
        self.bits = [np.array([float(n * b) for b in BITS]) for n in self.sizes]

    def loss(self, choices: Sequence[int], split: str) -> float:
        """Loss of a solution on the `judged` samples or on others."""
        if split != "judged":
            return float(self.reported(choices, split).mean())
        name = f"{self.subject.judged_by} {_digits(choices)}"
        return float(self.kept.get(name, lambda: self.subject.loss(tuple(choices), split)))  # type: ignore[arg-type]

    def reported(self, choices: Sequence[int], split: str) -> np.ndarray:
        """Losses by sample."""
        name = f"{split} {_digits(choices)}"
        return np.array(self.kept.get(name, lambda: self.subject.samples(tuple(choices), split).tolist()))

    def beside(self, choices: Sequence[int], other: Sequence[int], split: str) -> tuple[float, float, float]:
        """What is reported of `other` minus that of a solution, with its 95 % interval: both on the same redrawn samples."""
        pair = np.stack([self.reported(choices, split), self.reported(other, split)])
        rng = np.random.default_rng(0)
        drawn = pair[:, rng.integers(pair.shape[1], size=(DRAWS, pair.shape[1]))].mean(2)
        found = [self.subject.shown(b) - self.subject.shown(a) for a, b in drawn.T]
        low, high = np.percentile(found, (2.5, 97.5))
        one, two = pair.mean(1)
        return self.subject.shown(two) - self.subject.shown(one), float(low), float(high)

    def products(self, choices: tuple[int, ...], changes: Sequence[tuple[int, int]]) -> np.ndarray:
        """What `solve_quadratic` asks for."""
        return self.kept.array(f"around {_digits(choices)}", lambda: self.subject.products(choices, changes))

    def sensitivity(self, provider: str) -> list[np.ndarray]:
        """Table by layer and choice."""

        def make() -> list[list[float]]:
            self.subject.go_on_from(self.uniform(8))
            found = get_provider(provider).estimate(self.subject, self.uniform(8))  # type: ignore[arg-type]
            return [row.tolist() for row in found.table]

        return [np.array(row) for row in self.kept.get(f"sensitivity {provider}", make)]  # type: ignore[attr-defined]

    def calibrated(self, base: list[np.ndarray]) -> list[np.ndarray]:
        """`base`, scaled by what lowering all layers of one kind in one third of the depth to 3 bits really loses."""
        wide, three = self.uniform(8), BITS.index(3)
        before = self.loss(wide, "judged")
        scaled = [row.copy() for row in base]
        for members in self.subject.clusters(CLUSTERS):
            lowered = [three if g in members else c for g, c in enumerate(wide)]
            added = max(self.loss(lowered, "judged") - before, 1e-6)
            expected = sum(base[g][three] for g in members)
            for g in members:
                scaled[g] *= added / max(expected, 1e-30)
        return scaled

    def uniform(self, bits: int) -> tuple[int, ...]:
        """Every layer at that width."""
        return (BITS.index(bits),) * len(self.sizes)

    def problem(self, table: list[np.ndarray], mean_bits: float) -> Problem:
        """Least summed sensitivity within the mean."""
        return Problem(table, (Row("bits", self.bits, mean_bits * sum(self.sizes)),))

    def mean_bits(self, choices: Sequence[int]) -> float:
        """Of the codes."""
        return float(sum(n * BITS[c] for n, c in zip(self.sizes, choices, strict=True)) / sum(self.sizes))


def _digits(choices: Sequence[int]) -> str:
    return "".join(str(BITS[c]) for c in choices)


def mixed(tables: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Mean of tables, each in units of what all layers at 3 bits add to it: what one provider misjudges, others correct."""
    three = BITS.index(3)
    units = [max(sum(float(row[three]) for row in table), 1e-30) for table in tables]
    return [np.mean([row / unit for row, unit in zip(rows, units, strict=True)], 0) for rows in zip(*tables, strict=True)]


def search(bench: Bench, name: str, mean_bits: float) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Solution of every provider alone, and ours: the best of all of them by measured loss, improved by measured losses."""
    found: dict[str, tuple[int, ...]] = {}
    lines = []
    tables = {p: bench.sensitivity(p) for p in PROVIDERS[name]}
    for provider, table in tables.items():
        problem = bench.problem(table, mean_bits)
        found[f"{provider}, greedy ranking"] = solve_greedy(problem).choices
        solution = solve_ilp(problem)
        found[f"{provider}, integer program"] = solution.choices
        certificate = solution.certificate
        front = pareto_front(problem.objective, problem.rows[0].table, width=4000)
        within = front.objective[front.cost <= problem.rows[0].bound * (1 + 1e-9)].min()
        gap = (within - certificate.bound) / max(abs(within), 1e-30)
        lines.append(
            f"- {provider}: integer program {certificate.objective:.6g}, bound {certificate.bound:.6g}, gap "
            f"{certificate.gap:.2e}; Pareto program {'exact' if front.exact else 'thinned'}, gap to that bound {gap:.2e}"
        )
    starts = dict(found)
    if name == "smollm2":
        for provider, table in tables.items():
            calibrated = bench.problem(bench.calibrated(table), mean_bits)
            starts[f"{provider}, calibrated"] = solve_ilp(calibrated).choices
    ranked = sorted(tables, key=lambda p: bench.loss(found[f"{p}, integer program"], "judged"))
    for count in range(2, min(MIXED, len(ranked)) + 1):
        solution = solve_ilp(bench.problem(mixed([tables[p] for p in ranked[:count]]), mean_bits))
        starts[f"the mean of {', '.join(ranked[:count])}"] = solution.choices
    best = min(starts.values(), key=lambda c: bench.loss(c, "judged"))
    start = next(label for label, choices in starts.items() if choices == best)
    problem = bench.problem(next(iter(tables.values())), mean_bits)

    def measure(batch: Sequence[tuple[int, ...]], stage: int = 0) -> list[float]:
        return [bench.loss(c, "judged") for c in batch]

    near = solve_quadratic(problem, best, bench.products, measure, STEPS[name])
    ours = solve_evolution(problem, near.choices, measure, EVOLUTION[name], seed=0)
    lines.append(
        f"- searched from {start}: {near.certificate.evaluations + ours.certificate.evaluations} measured losses after the solvers', from "
        f"{bench.loss(best, 'judged'):.5g} by sequential quadratic programs to {near.certificate.objective:.5g}, by evolution to "
        f"{ours.certificate.objective:.5g}"
    )
    return {**found, "searched": ours.choices}, lines


def float_loss(bench: Bench, split: str) -> float:
    """Of the float model."""
    return float(bench.kept.get(f"float {split}", lambda: bench.subject.float_loss(split)))  # type: ignore[arg-type]


def nearest(bench: Bench, split: str) -> float:
    """Of uniform 4 bits, rounded to nearest."""
    return float(bench.kept.get(f"nearest 4 {split}", lambda: bench.subject.nearest_loss(4, split)))  # type: ignore[arg-type]


def _figures(bench: Bench, of: Callable[[str], float], splits: Mapping[str, str]) -> str:
    return " | ".join(f"{bench.subject.shown(of(split)):.5g} | " for split in splits.values())


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=sorted(PROVIDERS))
    parser.add_argument("--bits", type=float, help="mean bits of the weights")
    parser.add_argument("--out", type=Path, default=Path("out/layer-bits"))
    given = parser.parse_args()
    start = time.perf_counter()
    folder = given.out / given.network
    subject = efficientnet() if given.network == "efficientnet-lite0" else smollm2(folder)
    bench = Bench(subject, Kept(folder))
    for mean_bits in [given.bits] if given.bits else BUDGETS[given.network]:
        solutions, lines = search(bench, given.network, mean_bits)
        for bits in (b for b in BITS if b < 8):
            solutions[f"uniform {bits}"] = bench.uniform(bits)
        splits = SPLITS[given.network]
        heads = " | ".join(f"{subject.figure}, {of} | minus searched, 95 %" for of in splits)
        print(f"\n| {given.network}, at most {mean_bits:g} mean bits | mean bits | {heads} |")
        print("|---|---|" + "---|---|" * len(splits))
        print(f"| float | 32 | {_figures(bench, lambda split: float_loss(bench, split), splits)} |")
        if given.network == "smollm2":
            row = _figures(bench, lambda split: nearest(bench, split), splits)
            print(f"| uniform 4, rounded to nearest | 4 | {row} |", flush=True)
        for name, choices in solutions.items():
            cells = []
            for split in splits.values():
                away, low, high = bench.beside(solutions["searched"], choices, split)
                more = f"{away:+.3g} ({low:+.3g} to {high:+.3g})" if name != "searched" else ""
                cells += [f"{subject.shown(bench.loss(choices, split)):.5g}", more]
            print(f"| {name} | {bench.mean_bits(choices):.2f} | {' | '.join(cells)} |", flush=True)
        print("\n" + "\n".join(lines), flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s of this run; every figure is simulated")


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
