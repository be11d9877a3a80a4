"""The `export` command: an artefact's program in a format of other compilers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import qcompiler
from qcompiler import cli_support as support
from qcompiler.errors import UsageError


def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="artefact folder")],
    qonnx: Annotated[Path, typer.Option("--qonnx", metavar="FILE", help="file to write the program to as QONNX")],
    force: Annotated[bool, typer.Option("--force", help="replace an existing file")] = False,
) -> None:
    """Write an artefact's program as QONNX, for FINN, hls4ml and others that read it."""
    compiled = qcompiler.load(support.existing_folder(out))
    if qonnx.exists() and not force:
        raise UsageError(f"{qonnx} exists: name another file, or pass --force to replace it")
    compiled.save_qonnx(qonnx)
    typer.echo(f"wrote {qonnx}")
