"""Measured decisions of finished passes on disk, so that a compile which was killed need not measure them again.

One JSON file per pass, in a folder that belongs to one model, recipe and set of calibration data (`rounding.checkpoint`).
A pass replays what it finds exactly as it replays a lock.
"""

from __future__ import annotations

import json
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.lock import plain
from qcompiler.passes.base import Context, PassConfig
from qcompiler.passes.rounding.checkpoint import Checkpoint, replace_file

FOLDER = "decisions"


class KeptDecisions:
    """Of one compilation; without a checkpoint folder in the context, nothing is read or written."""

    def __init__(self, context: Context) -> None:
        """Open, or begin, the folder.

        Raises:
            UsageError: it belongs to another run, naming what differs, or cannot be written.
        """
        self.folder = Checkpoint(context, FOLDER, PassConfig()).folder

    def read(self, name: str) -> Any:
        """What a pass decided; None if it was not finished.

        Raises:
            UsageError: the file is damaged.
        """
        file = None if self.folder is None else self.folder / f"{name}.json"
        if file is None or not file.is_file():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} is damaged ({error}); delete it to decide anew") from error

    def write(self, name: str, decision: Any) -> None:
        """Keep what a finished pass decided."""
        if self.folder is not None:
            replace_file(self.folder / f"{name}.json", json.dumps(plain(decision)).encode())
