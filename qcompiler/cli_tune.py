"""The `tune` command: options, live progress, results."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qcompiler import cli_support as support
from qcompiler.errors import UsageError

if TYPE_CHECKING:
    from qcompiler.search.result import Progress
    from qcompiler.search.tune import Tuned

MaxDrop = Annotated[
    float | None, typer.Option("--max-drop", metavar="D", help="absolute drop of the metric; for sqnr minus the least dB")
]
MaxLatency = Annotated[str | None, typer.Option("--max-latency", metavar="L", help="like 5ms, or 0.4x of float")]
MaxSize = Annotated[str | None, typer.Option("--max-size", metavar="S", help="like 4MB, or 0.3x of float")]
MaxRam = Annotated[str | None, typer.Option("--max-ram", metavar="S", help="like 64kB; microcontrollers")]
MaxInstructions = Annotated[
    str | None, typer.Option("--max-instructions", metavar="N", help="like 3.5M per inference, counted by a simulator")
]
Objective = Annotated[
    str | None, typer.Option("--objective", metavar="WHAT", help="with --max-drop: latency, size, ram or instructions, minimised")
]
Solver = Annotated[
    str, typer.Option("--solver", metavar="NAME", help="guided (boosted trees), ilp, pareto, greedy, evolution or bisection")
]
Budget = Annotated[str | None, typer.Option("--budget", metavar="TIME", help="time for trials, like 90s, 20m or 2h")]
Trials = Annotated[int, typer.Option("--trials", metavar="N", min=0, help="accuracy trials")]
Generation = Annotated[int, typer.Option("--generation", metavar="N", min=1, help="trials proposed together")]
Verified = Annotated[int, typer.Option("--verify-top", metavar="N", min=5, help="configurations compiled and measured at the end")]
StoreFile = Annotated[Path | None, typer.Option("--store", metavar="FILE", help="SQLite file of trials; default OUT.trials.sqlite")]
WorkersForm = Annotated[str | None, typer.Option("--workers", metavar="WORKERS", help="local:N or dask://HOST:PORT")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="S", min=0.1, help="seconds after which a trial counts as failed")]
Sensitivity = Annotated[str, typer.Option("--sensitivity", metavar="NAME", help="provider that proposals start from")]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def parse_budget(text: str | None) -> float | None:
    """Seconds of `90s`, `20m`, `2h`. Raises UsageError for another form."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None:
        raise UsageError(f"--budget {text!r} is no time: give a number with s, m or h, like 20m")
    return float(match[1]) * _UNITS[match[2]]


def limits(*given: Any) -> Any:
    """The user's limits, checked: see `Limits`."""
    from qcompiler.search.limits import Limits

    return Limits(*given)


def settings(trials: int, budget: str | None, *rest: Any) -> Any:
    """How long and how: see `Settings`."""
    from qcompiler.search.result import Settings

    return Settings(trials, parse_budget(budget), *rest)


def check_place(out: Path, force: bool) -> bool:
    """Whether an existing OUT may be replaced: it was asked for, or OUT is an earlier end of a search.

    Raises UsageError where it may not, or where nothing can be written.
    """
    from qcompiler.artifact import check_output
    from qcompiler.search.tune import TUNE_NAME

    replace = force or (out / TUNE_NAME).is_file()  # the same command again goes on from its trials
    check_output(out, force=replace)
    return replace


def run(
    request: Any, limits: Any, settings: Any, out: Path, store: Path | None, force: bool, as_json: bool, **options: Any
) -> None:
    """Search, save, show."""
    from qcompiler.search.tune import tune

    replace = check_place(out, force)
    place = store or out.with_name(f"{out.name}.trials.sqlite")
    with Display() as display:
        try:
            tuned = tune(request, limits, settings, place, study=out.name, show=display.update, **options)
        except KeyboardInterrupt:
            support.say_error(
                f"interrupted; {display.seen} trials are kept in {place}, the same command goes on from there"
            )
            raise typer.Exit(support.INTERRUPTED) from None
    tuned.save(out, force=replace)
    show(tuned, out, as_json=as_json)


def show(tuned: Tuned, out: Path, *, as_json: bool) -> None:
    """Results on stdout."""
    from qcompiler.search.reporting import proof

    if as_json:
        support.print_json({"out": str(out), **tuned.data})
        return
    best, base, goal = tuned.result.best, tuned.result.baseline, tuned.goal
    names = dict.fromkeys((goal.objective, goal.limit, "drop", "sqnr_db", "size_bytes", "latency_ms"))
    rows = [
        (name, _number(best.figures.get(name)), _number(base.figures.get(name)))
        for name in names
        if name in best.figures
    ]
    support.print_table(f"{len(tuned.result.trials)} trials", ["figure", "chosen", "recipe as it was"], rows)
    if best.key == base.key:
        typer.echo("nothing that was measured beat the recipe as it was: it is kept")
    correlation = tuned.result.correlation
    if correlation is not None:
        typer.echo(
            f"sensitivity {correlation.provider} ranks {correlation.configurations} random configurations with "
            f"correlation {correlation.spearman:.2f}"
        )
    for certificate in tuned.result.certificates[-2:]:
        typer.echo(proof(certificate))
    typer.echo(f"written to {out}: recipe.yaml, tune.json, report.html (stopped by {tuned.result.stopped_by})")


def _number(figure: Any) -> str:
    return "" if figure is None else f"{figure.value:.6g} {figure.kind}{', noisy' if figure.noisy else ''}"


class Display:
    """Progress on stderr where it is a terminal: stage, trial, best so far, estimated time left."""

    def __init__(self) -> None:
        self.seen = 0
        self._bar: Any = None
        self._task: Any = None
        self._stage = ""
        self._start = time.monotonic()

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
                TextColumn("left"), TimeRemainingColumn(), TextColumn("best: {task.fields[best]}"),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, progress: Progress) -> None:
        """After a trial."""
        self.seen += 1
        if self._bar is None:
            return
        stage = {"fast": "accuracy trials", "exact": "compiled and measured"}.get(progress.stage, progress.stage)
        if stage != self._stage:
            self._stage = stage
            self._task = self._bar.add_task(stage, total=progress.total, best=progress.best)
        self._bar.update(self._task, completed=progress.done, total=progress.total, best=progress.best)
