"""Memory that was freed goes back to the system."""

from __future__ import annotations

import pytest
import torch

from qcompiler.executors import freed_memory
from qcompiler.executors.freed_memory import FreedMemory, resident_bytes

PIECE, COUNT = 64 << 10, 800


@pytest.mark.skipif(not resident_bytes() or freed_memory._malloc_trim() is None, reason="the C library cannot trim its heap")
def test_gaps_in_the_heap_are_given_back() -> None:
    """Fifty megabytes in pieces small enough for the heap, every sixteenth of which stays alive."""
    memory = FreedMemory(growth=8 << 20)
    pieces = [torch.ones(PIECE // 4) for _ in range(COUNT)]
    kept = pieces[::16]
    del pieces
    before = resident_bytes()
    assert memory.give_back()
    assert before - resident_bytes() > PIECE * COUNT // 2
    assert all(float(p.sum()) == PIECE // 4 for p in kept)


def test_small_growth_is_left_alone() -> None:
    assert not FreedMemory(growth=1 << 40).give_back()


def test_other_systems_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory, "_malloc_trim", lambda: None)
    assert not FreedMemory(growth=0).give_back()
    monkeypatch.setattr(freed_memory, "STATM", freed_memory.STATM / "nothing")
    assert resident_bytes() == 0
