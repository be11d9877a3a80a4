"""From what a compile leaves behind to the rows of its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qcompiler.passes.base import Note, Step
from qcompiler.progress import StageTime
from qcompiler.report.data import Decision, Option, PassNote, SiteNote, Stage


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


def decisions(recorded: Mapping[str, Any]) -> tuple[Decision, ...]:
    """The measured choices of a lock file, one row per site.

    Args:
        recorded: by pass name: `{site: choice}`, a list of choices that name their `site`, or one choice. A
            choice is a plain value, or a mapping with `chosen` (or `method`), and if known `scores` (name to
            number or None), `unit`, `kind` (how the scores were obtained) and `why`. Other keys, such as the
            vectors a lock file needs, are left out.
    """
    rows: list[Decision] = []
    for name, value in sorted(recorded.items()):
        if isinstance(value, list | tuple):
            rows += [_decision(name, "", choice) for choice in value]
        elif isinstance(value, Mapping) and not _CHOICE_KEYS & value.keys():
            rows += [_decision(name, str(site), choice) for site, choice in sorted(value.items())]
        else:
            rows.append(_decision(name, "", value))
    return tuple(rows)


_CHOICE_KEYS = {"chosen", "method"}


def _decision(name: str, site: str, choice: Any) -> Decision:
    if not isinstance(choice, Mapping):
        text = "in the lock file" if isinstance(choice, list | tuple) else str(choice)
        return Decision(kind=name, site=site, chosen=text)
    return Decision(
        kind=name,
        site=str(choice.get("site", site)),
        chosen=str(choice.get("chosen", choice.get("method", "in the lock file"))),
        options=tuple(Option(name=str(n), score=score) for n, score in choice.get("scores", {}).items()),
        unit=str(choice.get("unit", "")),
        score_kind=choice.get("kind", "measured"),
        why=str(choice.get("why", "")),
    )


def _site(note: Note) -> SiteNote:
    return SiteNote(site=note.site, text=note.reason, figures=note.data)
