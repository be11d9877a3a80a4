"""`tune` as it runs: where its time goes, and what worker processes bring.

    python -m benchmarks.search.live [NETWORK] [--trials 64 192] [--samples 512] [--size 0.22x] [--workers 2]

For every number of trials the search runs once in one process and once with workers, each in a new interpreter and from
nothing, so that imports count as overhead. Trials per hour are those of the phase `trials`, in which the workers are
started as well. Processes need cores of their own: on a busy machine look at how busy they were, and at the seconds of
processor time in a trial, which say whether the cores slow each other down.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import MODELS
from qcompiler.compilation import Request
from qcompiler.search.limits import Limits
from qcompiler.search.result import Settings
from qcompiler.search.tune import Tuned, tune


def run(name: str, trials: int, samples: int, size: str, workers: int) -> Tuned:
    """One search on a Fashion-MNIST network, from nothing."""
    model = MODELS[name]
    module, example = model.load()
    request = Request(
        module, example, target="host-c", recipe="w8a8-int", calibration=[(x[None],) for x in model.calibration(128)],
        evaluation=[(x[None],) for x in model.evaluation(samples)[0]],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        form = f"local:{workers}" if workers > 1 else None
        return tune(request, Limits(size=size), Settings(trials=trials), Path(folder) / "trials.sqlite", workers=form)


def outline(name: str, trials: int, samples: int, size: str, workers: int) -> dict[str, Any]:
    """What is compared of one search; runs in an interpreter of its own."""
    import torch

    torch.set_num_threads(1)
    tuned = run(name, trials, samples, size, workers)
    fast = [t for t in tuned.result.trials if t.stage == "fast"]
    return {
        "seconds": tuned.data["seconds"], "losses": {t.key: t.value("loss") for t in fast},
        "busy": sum(t.seconds for t in fast), "median": float(np.median([t.seconds for t in fast])),
    }  # fmt: skip


def apart(*arguments: Any) -> dict[str, Any]:
    """`outline` in a new interpreter."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(outline, *arguments).result()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="ds_cnn", choices=sorted(MODELS))
    parser.add_argument("--trials", type=int, nargs="+", default=[64, 192], help="64 is the command's default")
    parser.add_argument("--samples", type=int, default=512, help="evaluation samples; half of them decide")
    parser.add_argument("--size", default="0.2x", help="limit, of float")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    print("| trials | processes | seconds | overhead | trials per hour | busy | s / trial (median) |\n|---|---|---|---|---|---|---|")
    gains, lines = {}, []
    for trials in given.trials:
        found = {n: apart(given.network, trials, given.samples, given.size, n) for n in (1, given.workers)}
        rates = {}
        for count, one in found.items():
            seconds = one["seconds"]
            rates[count] = 3600 * len(one["losses"]) / seconds["trials"]
            busy = one["busy"] / (count * seconds["trials"])
            print(
                f"| {trials} | {count} | {seconds['total']:.0f} | {seconds['overhead']:.1%} | {rates[count]:.0f} | {busy:.0%} | "
                f"{one['median']:.3f} |", flush=True,
            )  # fmt: skip
            phases = ", ".join(f"{n} {s:.1f} s" for n, s in seconds.items() if n != "overhead")
            lines.append(f"- {trials} trials, {count} process{'es' if count > 1 else ''}: {phases}")
        assert found[1]["losses"] == found[given.workers]["losses"], "results depend on the number of workers"
        gains[trials] = rates[given.workers] / rates[1]
    print("\n" + "\n".join(lines) + "\n")
    for trials, gain in gains.items():
        print(f"{trials} trials, {given.workers} processes: {gain:.2f} times the trials per hour; the same trials and losses")


if __name__ == "__main__":
    main()
