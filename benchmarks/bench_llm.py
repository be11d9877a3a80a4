"""A causal language model in few bits: perplexity, size and time, beside float and beside the peers.

    python -m benchmarks.bench_llm [--rows w4a16 float ...] [--anew] [--json FILE]

SmolLM2-135M-Instruct; perplexity on 12 windows of 512 tokens of English text, calibration on 32 other windows for
every method. Embedding and vocabulary layer stay in float in every row. Each row is kept in out/bench-llm as it is
finished, and a second run shows what is there; `--anew` computes the rows asked for again. A row that was cut off
continues behind the blocks it had finished.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import llm_rows

FOLDER = Path("out/bench-llm")
COLUMNS = (
    ("perplexity", "perplexity", "{:.2f}"),
    ("megabytes", "MB", "{:.0f}"),
    ("seconds", "rounding, s", "{:.0f}"),
    ("cpu_seconds", "CPU, s", "{:.0f}"),
    ("tokens_per_second", "decode tokens/s", "{:.1f}"),
    ("ratio_to_float", "of float", "{:.2f}x"),
    ("ratio_to_fused_float", "of float with fused attention", "{:.2f}x"),
)

Row = Callable[[Path], dict[str, Any]]
ROWS: dict[str, Row] = {**llm_rows.ROWS}
"""A row takes its working folder, which it may find as an earlier run left it, and gives its figures: `title`,
`executor` and those of COLUMNS that it has."""


def result(name: str, anew: bool) -> dict[str, Any]:
    """Figures of a row, from disk where they are."""
    folder = FOLDER / name
    file = folder / "figures.json"
    if file.is_file() and not anew:
        found: dict[str, Any] = json.loads(file.read_text())
        return found
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{name}: computing", file=sys.stderr, flush=True)
    figures = ROWS[name](folder)
    file.write_text(json.dumps(figures, indent=1))
    return figures


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    heads = ["SmolLM2-135M", *(title for _, title, _ in COLUMNS), "run by"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for figures in rows.values():
        cells = [form.format(figures[key]) if key in figures else "" for key, _, form in COLUMNS]
        lines.append("| " + " | ".join([figures["title"], *cells, figures["executor"]]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run or show rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--anew", action="store_true", help="compute the rows again")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    rows = {name: result(name, options.anew) for name in options.rows}
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
