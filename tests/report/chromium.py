"""Headless Chromium for the tests: load a page, run its script, return the DOM."""

from __future__ import annotations

import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

from support.tools import requires_tool

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def dump_dom(page: Path, state: str = "") -> Dom:
    """The DOM of `page#state` after its script ran. Skips the test if Chromium is not installed."""
    program = requires_tool("chromium", "chromium-browser")
    address = page.resolve().as_uri() + (f"#{state}" if state else "")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *_FLAGS, f"--user-data-dir={profile}", "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    dom = Dom()
    dom.feed(done.stdout)
    return dom


class Dom(HTMLParser):
    """What the tests ask of a page: table rows, the attributes of tags, text."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._table: str | None = None
        self._body = self._cell = self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "table":
            self._table = found.get("id")
        elif tag == "tbody":
            self._body = True
        elif tag == "tr":
            self._hidden = "hidden" in found
            if self._row_wanted():
                self.tables.setdefault(self._table, []).append([])
        elif tag in ("td", "th") and self._row_wanted():
            self._cell = True
            self.tables[self._table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._table = None
        elif tag == "tbody":
            self._body = False
        elif tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.tables[self._table][-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every `tag`."""
        return [attributes for name, attributes in self.tags if name == tag]

    def _row_wanted(self) -> bool:
        return self._table is not None and self._body and not self._hidden
