"""The README names what exists: commands, recipes, targets, files, make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from qcompiler.cli import app
from qcompiler.recipe import recipe_names
from qcompiler.targets import known_targets

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = set(get_command(app).commands)


def _first_cells(heading: str) -> set[str]:
    """The names in the first column of the table that follows a table heading."""
    table = README.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE))


def test_command_table_is_complete() -> None:
    table = README.partition("| command | does |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert {name for cell in cells for name in re.findall(r"`(?:qcompiler )?([a-z-]+)", cell)} == COMMANDS


def test_target_and_recipe_tables_are_complete() -> None:
    assert _first_cells("target") == set(known_targets())
    assert _first_cells("recipe") == set(recipe_names())


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in set(re.findall(r"\bmake ([a-z-]+)", README)) - {"are"}:
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), name
