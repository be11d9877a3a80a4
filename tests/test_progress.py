"""Stages are timed; they are shown only where that was asked for."""

from __future__ import annotations

import pytest

from qcompiler.progress import Stages, peak_memory


def test_stages_are_recorded_in_order_and_only_when_they_end():
    with Stages(["a", "b", "c"], show=False) as stages:
        with stages.stage("a"):
            stages.update("inside", 1, 2)
        with pytest.raises(ValueError), stages.stage("b"):
            raise ValueError
        with stages.stage("c"):
            pass
    assert [t.name for t in stages.times] == ["a", "c"]
    assert all(t.seconds >= 0 and 0 < t.peak_bytes <= peak_memory() for t in stages.times)


@pytest.mark.parametrize("show", [True, False])
def test_progress_goes_to_stderr_or_nowhere(capsys, show):
    with Stages(["capture"], show=show) as stages, stages.stage("capture"):
        stages.update("sample", 1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert bool(err) is show


def test_memory_counts_what_was_used():
    before = peak_memory()
    block = bytearray(max(before, 64 << 20))
    assert peak_memory() >= before + len(block) // 2
