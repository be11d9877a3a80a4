"""What the commands share: exit codes, JSON on stdout, logs on stderr, and the forms of command-line values."""

from __future__ import annotations

import functools
import json
import logging
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer
import yaml

from qcompiler.errors import QCError, UsageError

if TYPE_CHECKING:
    from qcompiler.evaluation import Metric

SCHEMA_VERSION = 1
INTERRUPTED = 130

P = ParamSpec("P")
R = TypeVar("R")


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose errors become one message on stderr and their exit code.

    An error that is not ours is a defect: it keeps its traceback and gives 1.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except QCError as error:
            say_error(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say_error("interrupted; nothing was written")
            raise typer.Exit(INTERRUPTED) from None
        except MemoryError:
            say_error("out of memory")
            raise typer.Exit(1) from None

    return run


def say_error(text: str) -> None:
    """One error on stderr, in red where that is a terminal."""
    typer.secho(f"error: {text}", fg="red" if sys.stderr.isatty() else None, err=True)


def set_up_logging(verbose: bool, quiet: bool) -> None:
    """Our log to stderr: warnings, with `verbose` everything, with `quiet` errors only."""
    level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    log = logging.getLogger("qcompiler")
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False


def print_json(data: Mapping[str, Any]) -> None:
    """One strict JSON object on stdout, with `schema_version`; numbers that JSON lacks become strings."""
    typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, **_finite(dict(data))}, indent=2, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout; in a pipe it is as wide as its contents."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: brackets in shapes are not markup
    console = Console(file=sys.stdout)
    console.print(table) if console.is_terminal else Console(file=sys.stdout, width=160).print(table)


def parse_metric(text: str | None) -> str | Metric | None:
    """A metric's name, or the function of `module.py:fn`, whose file is executed."""
    if text is None or ".py" not in text:
        return text
    from qcompiler.frontend.factory import load_callable, split_factory

    place = split_factory(text)
    if place is None:
        raise UsageError(f"metric {text!r} is not of the form module.py:function")
    found: Metric = load_callable(*place)
    return found


def parse_settings(items: Sequence[str]) -> dict[str, Any]:
    """`key=value` overrides of recipe fields; values are YAML, `a.b=c` sets a field inside a field."""
    changes: dict[str, Any] = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {item!r} is not of the form FIELD=VALUE")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {item!r}: the value is not YAML: {error}") from error
        *outer, last = key.replace("-", "_").split(".")
        place = changes
        for name in outer:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise UsageError(f"--set {item!r}: {name} was set to a plain value before")
        place[last] = value
    return changes


def parse_dynamic(items: Sequence[str]) -> dict[str, dict[int, str]] | None:
    """`input:axis=name,axis=name` per input, as the frontend's dynamic shapes; None without any."""
    shapes: dict[str, dict[int, str]] = {}
    for item in items:
        name, _, axes = item.partition(":")
        try:
            pairs = [part.split("=") for part in axes.split(",")]
            shapes.setdefault(name, {}).update({int(axis): dim.strip() for axis, dim in pairs})
        except ValueError:
            raise UsageError(
                f"--dynamic {item!r} is not of the form INPUT:AXIS=NAME,AXIS=NAME, like input_ids:0=batch,1=seq"
            ) from None
    return shapes or None


def parse_shapes(items: Sequence[str]) -> dict[str, tuple[int | str, ...]] | None:
    """`input=1x3x224x224` per input; what is no number names a dynamic dimension. None without any."""
    shapes: dict[str, tuple[int | str, ...]] = {}
    for item in items:
        name, separator, sizes = item.rpartition("=")
        parts = sizes.split("x") if sizes else []
        if not separator or not name or any(not part.strip() for part in parts):
            raise UsageError(f"--shape {item!r} is not of the form INPUT=SIZExSIZE, like x=1x3x224x224")
        shapes[name] = tuple(int(part) if part.strip().isdigit() else part.strip() for part in parts)
    return shapes or None


def recipe_with(recipe: str, settings: Sequence[str], ignore: Sequence[str], allow: Sequence[str]) -> Any:
    """The recipe that the command line describes."""
    from qcompiler.recipe import load_recipe

    loaded = load_recipe(recipe)
    changes = parse_settings(settings)
    if not (changes or ignore or allow):
        return loaded
    if ignore:
        changes["ignore"] = [*loaded.ignore, *ignore]
    if allow:
        changes["allow"] = [*loaded.allow, *allow]
    return load_recipe({"base": recipe, "name": f"{loaded.name} (changed)", **changes})


def existing_folder(out: Path) -> Path:
    """An artefact folder given on the command line."""
    if not out.is_dir():
        raise UsageError(f"{out} is no folder: give the folder that `compile -o` wrote")
    return out
