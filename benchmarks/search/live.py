"""`tune` as it runs: where its time goes, and what worker processes bring.

    python -m benchmarks.search.live [NETWORK] [--trials 32] [--samples 256] [--size 0.22x] [--workers 2]

The search runs once in one process and once with workers, each from nothing. Trials per hour are those of the phase
`trials`. Processes need cores of their own: on a busy machine look at how busy they were.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

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


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="ds_cnn", choices=sorted(MODELS))
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--samples", type=int, default=256, help="evaluation samples; half of them decide")
    parser.add_argument("--size", default="0.2x", help="limit, of float")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    rates, losses = {}, {}
    for count in (1, given.workers):
        tuned = run(given.network, given.trials, given.samples, given.size, count)
        seconds = tuned.data["seconds"]
        fast = [t for t in tuned.result.trials if t.stage == "fast"]
        rates[count] = 3600 * len(fast) / seconds["trials"]
        losses[count] = {t.key: t.value("loss") for t in fast}
        busy = sum(t.seconds for t in fast) / (count * seconds["trials"])
        phases = ", ".join(f"{n} {s:.1f} s" for n, s in seconds.items() if n != "overhead")
        print(f"{count} process{'es' if count > 1 else ''}: {phases}")
        print(f"  overhead {seconds['overhead']:.1%}; {rates[count]:.0f} trials per hour, busy {busy:.0%} of the time")
    assert losses[1] == losses[given.workers], "results depend on the number of workers"
    print(f"{given.workers} processes: {rates[given.workers] / rates[1]:.2f} times the trials per hour; the same trials and losses")


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
