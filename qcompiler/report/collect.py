"""From what a compile leaves behind to the rows of its report."""

from __future__ import annotations

from collections.abc import Iterable

from qcompiler.passes.base import Note, Step
from qcompiler.progress import StageTime
from qcompiler.report.data import PassNote, SiteNote, Stage


def pass_notes(steps: Iterable[Step]) -> tuple[PassNote, ...]:
    """One row per executed pass, its sites split into taken and refused.

    Raises:
        ValueError: a pass refused a site without a reason.
    """
    return tuple(
        PassNote(
            name=step.name,
            kind=step.kind.name,
            taken=tuple(_site(note) for note in step.notes if note.taken),
            refused=tuple(_site(note) for note in step.notes if not note.taken),
            seconds=step.seconds,
        )
        for step in steps
    )


def stages(times: Iterable[StageTime]) -> tuple[Stage, ...]:
    """One row per finished stage of the compile."""
    return tuple(Stage(name=t.name, seconds=t.seconds, peak_bytes=t.peak_bytes) for t in times)


def _site(note: Note) -> SiteNote:
    return SiteNote(site=note.site, text=note.reason, figures=note.data)
