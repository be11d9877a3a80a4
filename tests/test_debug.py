"""QC_DEBUG and QC_DUMP: what a pass run prints, and dumps that parse back."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.debug import after_pass, load_dump
from qcompiler.errors import UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, GraphBuilder, Level
from qcompiler.passes.base import Context, Kind, Note, Pass, Result, run_passes


class Look(Pass):
    name = "look_around"
    kind = Kind.EXACT
    requires = (Level.FLOAT,)

    def run(self, graph, context):
        return Result(graph, True, (Note("a.b", True, "was fine"), Note("a.c", False, "too small")))


def make_graph():
    builder = GraphBuilder("small")
    x = builder.input("x", DType.float32, (2, 16))
    weight = builder.const(np.linspace(-1, 1, 64, dtype=np.float32).reshape(4, 16))
    return builder.build([builder.op("linear", x, weight, None)])


@pytest.mark.parametrize(
    ("level", "shown", "hidden"),
    [
        ("0", [], ["look_around"]),
        ("1", ["[exact] look_around: changed", "1 taken, 1 refused"], ["too small"]),
        ("2", ["refused a.c: too small"], ["was fine"]),
        ("3", ["taken a.b: was fine"], ["linear("]),
        ("4", ["linear("], []),
    ],
)
def test_each_level_prints_more(monkeypatch, capsys, level, shown, hidden):
    monkeypatch.setenv("QC_DEBUG", level)
    monkeypatch.delenv("QC_DUMP", raising=False)
    run_passes(make_graph(), [Look()], Context(), after=after_pass())
    text = capsys.readouterr().err
    assert all(part in text for part in shown)
    assert not any(part in text for part in hidden)


def test_dumps_are_numbered_and_read_back_to_the_same_function(monkeypatch, tmp_path):
    monkeypatch.setenv("QC_DUMP", str(tmp_path / "dump"))
    graph = make_graph()
    run_passes(graph, [Look(), Look()], Context(), after=after_pass())
    names = sorted(path.name for path in (tmp_path / "dump").glob("*.txt"))
    assert names == ["000_look_around.txt", "001_look_around.txt"]
    x = np.linspace(0, 1, 32, dtype=np.float32).reshape(2, 16)
    back = load_dump(tmp_path / "dump" / "001_look_around.txt")
    np.testing.assert_array_equal(run_reference(back, [x])[0], run_reference(graph, [x])[0])


def test_bad_values_are_usage_errors(monkeypatch, tmp_path):
    monkeypatch.setenv("QC_DEBUG", "5")
    with pytest.raises(UsageError, match="QC_DEBUG=5"):
        after_pass()
    monkeypatch.setenv("QC_DEBUG", "0")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QC_DUMP", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="cannot write dump"):
        run_passes(make_graph(), [Look()], Context(), after=after_pass())


def test_damaged_dumps_are_usage_errors(monkeypatch, tmp_path):
    monkeypatch.setenv("QC_DUMP", str(tmp_path))
    run_passes(make_graph(), [Look()], Context(), after=after_pass())
    path = tmp_path / "000_look_around.txt"
    weights = path.with_suffix(".safetensors")
    data = weights.read_bytes()
    weights.write_bytes(data[:-9])
    with pytest.raises(UsageError, match="cannot read graph"):
        load_dump(path)
    weights.write_bytes(data)
    path.write_text(path.read_text().replace("linear", "linar"))
    with pytest.raises(UsageError, match="cannot read graph"):
        load_dump(path)
    with pytest.raises(UsageError, match="cannot read graph"):
        load_dump(tmp_path / "absent.txt")
