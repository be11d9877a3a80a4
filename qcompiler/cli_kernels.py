"""`qcompiler tune-kernels`: measured tiles for the kernels of a program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import qcompiler
from qcompiler import cli_support as support
from qcompiler.cli_support import guarded
from qcompiler.errors import UsageError

if TYPE_CHECKING:
    from qcompiler.ir import Graph
    from qcompiler.targets import Target


@guarded
def tune_kernels(
    model: Annotated[str, typer.Argument(metavar="MODEL|OUT", help="artefact folder, or a model to compile first")],
    target: Annotated[str | None, typer.Option("--target", "-t", metavar="TARGET", help="default: the artefact's; for models tvm-cpu")] = None,
    recipe: Annotated[str, typer.Option("--recipe", "-r", metavar="RECIPE", help="for models; see `qcompiler recipes`")] = "w8a8-int",
    calibration: Annotated[str | None, typer.Option("--calibration", "-c", metavar="CALIB", help="for models: .npz or module.py:factory")] = None,
    trials: Annotated[int, typer.Option("--trials", metavar="N", min=1, help="per kernel")] = 64,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0)] = 0,
    database: Annotated[Path | None, typer.Option("--database", metavar="FILE", help="file of records; default: this device's")] = None,
    rpc: Annotated[str | None, typer.Option("--rpc", metavar="HOST:PORT", help="tracker of a device farm")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="of the farm's devices")] = None,
    json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure tiles for the kernels of MODEL; compile takes the best. Interrupted, it goes on."""
    from qcompiler.targets import get_target

    if (rpc is None) is not (key is None):
        raise UsageError("--rpc HOST:PORT and --key K belong together")
    graph, own = _graph_of(model, target or "tvm-cpu", recipe, calibration)
    chosen: Target = own if target is None else get_target(target)
    found = chosen.tune_kernels(graph, trials, seed, database, _address(rpc), key, lambda line: typer.echo(line, err=True))
    if json:
        return support.print_json(found)
    rows = [
        (k["key"], str(k["trials"]), _micros(k["default_seconds"]), _micros(k["best_seconds"]), k["tile"]) for k in found["kernels"]
    ]
    support.print_table(f"tuned kernels, records in {found['database']}", ["kernel", "trials", "default us", "best us", "tile"], rows)


def _graph_of(model: str, target: str, recipe: str, calibration: str | None) -> tuple[Graph, Any]:
    if Path(model).is_dir() and (Path(model) / "recipe.lock.yaml").is_file():
        compiled = qcompiler.load(Path(model))
    else:
        compiled = qcompiler.compile(model, target=target, recipe=recipe, calibration=calibration)
    return compiled.graph, compiled.target


def _address(text: str | None) -> tuple[str, int] | None:
    """HOST:PORT. Raises UsageError for anything else."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--rpc takes HOST:PORT, got {text!r}")
    return host, int(port)


def _micros(seconds: float | None) -> str:
    return "failed" if seconds is None else f"{seconds * 1e6:.1f}"
