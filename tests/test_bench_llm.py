"""The bench of language models: its measure, its table, rows kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench_llm, llm_rows


def test_perplexity_of_even_odds_and_of_certainty(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = [np.array([[1, 2, 3, 0]]), np.array([[3, 3, 1, 2]])]
    monkeypatch.setattr(llm_rows, "evaluation_windows", lambda: windows)
    assert llm_rows.perplexity(lambda ids: np.zeros((1, 4, 7), np.float32)) == pytest.approx(7)
    certain = {w.tobytes(): 50 * np.eye(7, dtype=np.float32)[np.roll(w, -1, 1)] for w in windows}
    assert llm_rows.perplexity(lambda ids: certain[ids.tobytes()]) == pytest.approx(1)


def test_a_finished_row_is_not_computed_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def row(folder: Path) -> dict[str, object]:
        calls.append(folder)
        return {"title": "a row", "executor": "nobody", "perplexity": 15.0 + len(calls)}

    monkeypatch.setattr(bench_llm, "FOLDER", tmp_path)
    monkeypatch.setitem(bench_llm.ROWS, "row", row)
    assert bench_llm.result("row", anew=False) == bench_llm.result("row", anew=False)
    assert len(calls) == 1
    table = bench_llm.table({"row": bench_llm.result("row", anew=True)})
    assert "| a row | 17.00 |" in table and "| nobody |" in table
