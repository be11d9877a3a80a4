"""Trials in one SQLite file: every result is committed before the next trial starts, and a run resumes from it.

A study is one search problem: its fingerprint (model, data, target, recipe, space, metric, versions, ...) decides
whether what was measured before may be used again. One file may hold many studies, under different names; the
others are what a cost model transfers from. One process writes; workers report to it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompiler.errors import UsageError

APPLICATION_ID = 0x51435354  # "QCST" in the file's header: tells our databases from others
SCHEMA = 1
DONE, FAILED = "done", "failed"

_TABLES = """
CREATE TABLE studies (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, fingerprint TEXT NOT NULL, features TEXT, state TEXT);
CREATE TABLE trials (
    study INTEGER NOT NULL REFERENCES studies(id), stage TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL,
    config TEXT NOT NULL, status TEXT NOT NULL, figures TEXT NOT NULL, seconds REAL NOT NULL, error TEXT NOT NULL,
    PRIMARY KEY (study, stage, key));
"""


@dataclass(frozen=True)
class Figure:
    """One number with how it was obtained.

    Attributes:
        value: in the unit that its name says.
        kind: `measured` (on the artefact), `simulated` (fake quantization, an instruction-set simulator) or
            `analytic` (a formula).
        environment: what it depends on beside the program: machine, runtime, threads. "" if nothing.
        noisy: the repetitions spread too far to tell 10 % apart.
    """

    value: float
    kind: str
    environment: str = ""
    noisy: bool = False

    def __post_init__(self) -> None:
        assert self.kind in ("measured", "simulated", "analytic"), self.kind


@dataclass(frozen=True)
class Trial:
    """One evaluated configuration.

    Attributes:
        stage: `fast` (fake quantization), `exact` (full compile and measurement), ...
        key: canonical hash of the configuration.
        number: order in which it was recorded, from 0.
        config: by names, as `Space.describe` gives it.
        status: `done` or `failed`.
        figures: by name.
        seconds: the evaluation took.
        error: what failed.
    """

    stage: str
    key: str
    number: int
    config: Mapping[str, Any]
    status: str
    figures: Mapping[str, Figure]
    seconds: float
    error: str = ""

    @property
    def ok(self) -> bool:
        """True if there are figures."""
        return self.status == DONE

    def value(self, name: str) -> float:
        """A figure's number; infinity where the trial failed or has no such figure."""
        found = self.figures.get(name)
        return float("inf") if found is None else found.value

    def to_dict(self) -> dict[str, Any]:
        """For `tune.json`."""
        return {
            "number": self.number, "stage": self.stage, "config": dict(self.config), "status": self.status,
            "seconds": self.seconds, "error": self.error,
            "figures": {name: f.__dict__ for name, f in self.figures.items()},
        }  # fmt: skip


class Store:
    """An open database file, made if it is missing.

    Raises:
        UsageError: the file is damaged, no database, or not one of ours.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=10.0)
            with self._guard():
                self._open()
        except (sqlite3.Error, OSError) as error:
            raise self._unreadable(error) from error

    def _open(self) -> None:
        found = self._db.execute("PRAGMA application_id").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables == 0 and found == 0:
            self._db.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA};{_TABLES}")
        elif found != APPLICATION_ID:
            raise UsageError(f"{self.path} is a database of another program: name another --store")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA:
            raise UsageError(f"{self.path} has schema {version}, this version reads {SCHEMA}: name another --store")
        verdict = self._db.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise UsageError(f"{self.path} is damaged ({verdict}): delete it, or name another --store")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UsageError:
        return UsageError(
            f"cannot use {self.path} as a store of trials: {error}. Delete it if it is not needed, or name another "
            "--store"
        )

    def close(self) -> None:
        """Close the file; everything recorded is in it already."""
        self._db.close()

    def study(self, name: str, fingerprint: Mapping[str, Any]) -> Study:
        """The study of a name, made if it is new.

        Raises:
            UsageError: the name stands for another problem; the message says what differs.
        """
        text = json.dumps(fingerprint, sort_keys=True)
        with self._guard(), self._db:
            row = self._db.execute("SELECT id, fingerprint FROM studies WHERE name = ?", (name,)).fetchone()
            if row is None:
                cursor = self._db.execute("INSERT INTO studies (name, fingerprint) VALUES (?, ?)", (name, text))
                return Study(self, int(cursor.lastrowid or 0), name)
        if row[1] != text:
            raise UsageError(self._difference(name, json.loads(row[1]), json.loads(text)))
        return Study(self, row[0], name)

    def _difference(self, name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
        lines = [
            f"  {field}: {_short(before.get(field))} then, {_short(now.get(field))} now"
            for field in sorted({*before, *now})
            if before.get(field) != now.get(field)
        ]
        return (
            f"the trials of {name!r} in {self.path} belong to another search, their figures do not fit this one:\n"
            + "\n".join(lines)
            + "\nUndo the change, give another --store, or delete the old one."
        )

    def others(self, name: str) -> list[tuple[str, dict[str, Any], list[Trial]]]:
        """(name, features, trials that went well) of every other study that has features to learn from."""
        with self._guard():
            rows = self._db.execute(
                "SELECT id, name, features FROM studies WHERE name != ? AND features IS NOT NULL ORDER BY id", (name,)
            ).fetchall()
        return [(n, json.loads(f), [t for t in Study(self, i, n).trials() if t.ok]) for i, n, f in rows]


class Study:
    """The trials of one search problem."""

    def __init__(self, store: Store, identity: int, name: str) -> None:
        self.store, self.name, self._id = store, name, identity

    def find(self, stage: str, key: str) -> Trial | None:
        """The trial of a configuration, None if it has not been run."""
        with self.store._guard():
            row = self.store._db.execute(
                f"SELECT {_COLUMNS} FROM trials WHERE study = ? AND stage = ? AND key = ?", (self._id, stage, key)
            ).fetchone()
        return None if row is None else _trial(row)

    def trials(self, stage: str | None = None) -> list[Trial]:
        """All trials in the order they were recorded."""
        with self.store._guard():
            rows = self.store._db.execute(
                f"SELECT {_COLUMNS} FROM trials WHERE study = ? ORDER BY number", (self._id,)
            ).fetchall()
        return [t for t in map(_trial, rows) if stage in (None, t.stage)]

    def record(self, trial: Trial, state: Mapping[str, Any] | None = None) -> Trial:
        """Commit a trial, and with it the state of the search (best, front, recipe); returns it with its number."""
        db = self.store._db
        figures = json.dumps({name: list(f.__dict__.values()) for name, f in trial.figures.items()})
        with self.store._guard(), db:
            count = db.execute("SELECT count(*) FROM trials WHERE study = ?", (self._id,)).fetchone()[0]
            db.execute(
                "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (self._id, trial.stage, trial.key, count, json.dumps(trial.config, sort_keys=True), trial.status,
                 figures, trial.seconds, trial.error),
            )  # fmt: skip
            if state is not None:
                db.execute("UPDATE studies SET state = ? WHERE id = ?", (json.dumps(state), self._id))
        return Trial(**{**trial.__dict__, "number": count})

    @property
    def state(self) -> dict[str, Any] | None:
        """What was saved with the last trial."""
        return self._column("state")

    @property
    def features(self) -> dict[str, Any] | None:
        """What a cost model needs to know of this problem's options, for other searches."""
        return self._column("features")

    @features.setter
    def features(self, features: Mapping[str, Any]) -> None:
        with self.store._guard(), self.store._db as db:
            db.execute("UPDATE studies SET features = ? WHERE id = ?", (json.dumps(features), self._id))

    def _column(self, name: str) -> dict[str, Any] | None:
        with self.store._guard():
            text = self.store._db.execute(f"SELECT {name} FROM studies WHERE id = ?", (self._id,)).fetchone()[0]
        return None if text is None else json.loads(text)


_COLUMNS = "stage, key, number, config, status, figures, seconds, error"


def _trial(row: Any) -> Trial:
    stage, key, number, config, status, figures, seconds, error = row
    found = {name: Figure(*fields) for name, fields in json.loads(figures).items()}
    return Trial(stage, key, number, json.loads(config), status, found, seconds, error)


def _short(value: Any) -> str:
    text = "absent" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
