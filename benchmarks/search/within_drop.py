"""`tune --metric agreement --max-drop 0.02` on EfficientNet-Lite0 for ONNX Runtime, beside uniform w8a8 of the same run.

    python -m benchmarks.search.within_drop [--trials 24] [--judged 252] [--out out/within-drop]

Half of the crops decide, as many others are reported. Few would not tell: of a hundred, each that flips is half of the
limit. Trials are kept: a run that was cut off goes on. At the end the two artefacts run in turns, which tells which is
faster whatever else the machine does: run the command again on a quiet one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import data
from benchmarks.workloads import WORKLOADS
from qcompiler.boundary import quantize_inputs
from qcompiler.compilation import Request, run_compilation
from qcompiler.errors import ConstraintError
from qcompiler.search.limits import Limits
from qcompiler.search.result import Progress, Settings
from qcompiler.search.tune import Tuned, tune
from qcompiler.targets.base import Measurement
from qcompiler.targets.timing import measure_pair

DROP = 0.02
PLAIN, VARIED = 64, 96
"""Calibration crops as they are, and in other light; not of the photographs that judge."""
RECIPE = {"base": "auto", "passes": {"correct_bias": {"prefix": "float", "samples": 64, "memory": 1 << 30}}}
"""Uniform w8a8, with biases corrected as trials simulate it."""
SECONDS = 20.0


def show(progress: Progress) -> None:
    """A line per trial."""
    print(f"{progress.stage} {progress.done} of {progress.total}, {progress.seconds:.1f} s, best: {progress.best}", flush=True)


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--generation", type=int, default=8)
    parser.add_argument("--judged", type=int, default=252, help="crops that decide, as many of each of seven photographs")
    parser.add_argument("--out", type=Path, default=Path("out/within-drop"))
    given = parser.parse_args()
    module, example = WORKLOADS["efficientnet-lite0"].load()
    crops = [(x[None],) for x in data.crops("evaluation", 2 * given.judged, seed=1)]
    crops_as_they_are, to_vary = data.crops("calibration", PLAIN, seed=0), data.crops("calibration", VARIED, seed=3)
    calibration = [(x[None],) for x in (*crops_as_they_are, *data.varied(to_vary, seed=5))]
    request = Request(
        module, example, target="onnxruntime-cpu", recipe=RECIPE, calibration=calibration, evaluation=crops,
        metric="agreement",
    )  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    settings = Settings(trials=given.trials, generation=given.generation)
    try:
        tuned = tune(request, Limits(drop=DROP), settings, given.out / "trials.sqlite", show=show)
    except ConstraintError as error:
        raise SystemExit(f"nothing keeps the limit: {error}") from error
    best, base = tuned.result.best, tuned.result.baseline
    print("\n| | drop, crops that decided | agreement, other crops | latency / float | MB |\n|---|---|---|---|---|")
    report = tuned.compiled.report.accuracy
    for name, trial, other in (("uniform w8a8", base, ""), ("found", best, f"{report.agreement:.3f}" if report else "")):
        noisy = ", noisy" if trial.figures["latency_ratio"].noisy else ""
        print(f"| {name} | {trial.value('drop'):.3f} | {other} | {trial.value('latency_ratio'):.3f}{noisy} | {trial.value('size_bytes') / 1e6:.2f} |")
    print(f"\nknobs of what was found: {best.config['global']}; layers in float: "
          f"{[g for g, c in best.config['groups'].items() if c == 'float']}")  # fmt: skip
    print(f"seconds: { {n: round(s, 3) for n, s in tuned.data['seconds'].items()} }")
    print(f"rank correlation of {tuned.data['sensitivity']}")
    assert best.value("drop") <= DROP + 1e-12
    note = "" if base.value("drop") <= DROP else "; uniform w8a8 itself breaks the limit"
    if best.key == base.key:
        print(f"never slower than uniform w8a8: yes, it is uniform w8a8{note}")
        return
    found = in_turns(request, tuned)
    slower = found.ratio > 1 + 2 * 0.93 * found.spread / found.rounds**0.5  # two standard errors of a median
    print(
        f"found / uniform w8a8, in turns: {found.ratio:.3f} ({found.latency_ms:.2f} and {found.baseline_ms:.2f} ms, {found.rounds} "
        f"rounds, spread {found.spread:.1%}{', noisy' if found.noisy else ''})\n"
        f"never slower than uniform w8a8: {'no' if slower else 'yes'}{note}"
    )


def in_turns(request: Request, tuned: Tuned) -> Measurement:
    """What was found beside uniform w8a8, both as artefacts."""
    uniform = run_compilation(request)
    folders = (tuned.compiled.folder, Path(uniform.folder.name))
    sessions = [uniform.target.open(f, request.threads) for f in folders]
    samples = [
        quantize_inputs(graph, request.evaluation[0]) for graph in (tuned.compiled.graph, uniform.graph)
    ]  # fmt: skip
    return measure_pair(
        lambda: sessions[0].run(samples[0]), lambda: sessions[1].run(samples[1]), SECONDS, request.threads
    )


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
