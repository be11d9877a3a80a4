import sqlite3

import pytest

from qcompiler.errors import UsageError
from qcompiler.search.goal import Goal, Limit, pareto_front
from qcompiler.search.store import DONE, FAILED, Figure, Store, Trial


def trial(key="a", loss=1.0, size=10.0, status=DONE, stage="fast"):
    figures = {} if status == FAILED else {"loss": Figure(loss, "simulated"), "size_bytes": Figure(size, "analytic")}
    return Trial(stage, key, 0, {"groups": {"g": key}}, status, figures, 0.5, "" if figures else "sick")


def test_trials_come_back_as_they_were_recorded(tmp_path):
    store = Store(tmp_path / "t.sqlite")
    study = store.study("one", {"model": "m"})
    kept = [study.record(trial(k), {"best": k}) for k in "abc"] + [study.record(trial("d", status=FAILED))]
    store.close()
    again = Store(tmp_path / "t.sqlite").study("one", {"model": "m"})
    assert again.trials() == kept and [t.number for t in kept] == [0, 1, 2, 3]
    assert again.state == {"best": "c"}
    assert again.find("fast", "b") == kept[1] and again.find("exact", "b") is None
    assert not kept[3].ok and kept[3].value("loss") == float("inf")


def test_another_problem_is_refused_and_the_difference_named(tmp_path):
    store = Store(tmp_path / "t.sqlite")
    store.study("one", {"model": "m", "seed": 0, "version of torch": "2.13"})
    with pytest.raises(UsageError) as error:
        store.study("one", {"model": "m", "seed": 1, "version of numpy": "2"})
    text = str(error.value)
    assert "seed: 0 then, 1 now" in text and "version of torch: 2.13 then, absent now" in text and "model" not in text


def test_other_studies_with_features_are_offered(tmp_path):
    store = Store(tmp_path / "t.sqlite")
    for name in ("first", "second", "third"):
        study = store.study(name, {"model": name})
        study.record(trial("a"))
        study.record(trial("b", status=FAILED))
        if name != "third":
            study.features = {"rows": {"a": [[1.0]]}}
    found = store.others("second")
    assert [(name, [t.key for t in trials]) for name, _, trials in found] == [("first", ["a"])]


@pytest.mark.parametrize("content", [b"not a database at all, only text" * 50, b"SQLite format 3\0" + b"\7" * 4000])
def test_damaged_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.sqlite"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"broken\.sqlite.*name another --store"):
        Store(path)
    assert path.read_bytes() == content  # nothing was written into what is not ours


def test_truncated_and_foreign_databases_are_refused(tmp_path):
    path = tmp_path / "t.sqlite"
    store = Store(path)
    study = store.study("one", {})
    for i in range(200):
        study.record(trial(f"key{i}"))
    store.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UsageError, match="--store"):
        Store(path)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(UsageError, match="database of another program"):
        Store(foreign)


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot use"):
        Store(tmp_path / "file" / "t.sqlite")


def test_goal_ranks_by_limit_then_objective_then_loss():
    goal = Goal("size_bytes", "loss", 2.0)
    a, b, c = trial("a", 1.0, 10.0), trial("b", 1.5, 5.0), trial("c", 3.0, 1.0)
    failed = trial("d", status=FAILED)
    assert goal.best([a, c, failed, b]) == b and not goal.meets(c) and not goal.meets(failed)
    assert goal.best([c]) == c and goal.best([failed]) is None
    tie = trial("e", 0.5, 5.0)
    assert goal.best([b, tie]) == tie


def test_front_keeps_what_nothing_beats():
    points = [trial(str(i), loss, size) for i, (loss, size) in enumerate([(1, 9), (2, 5), (3, 5), (4, 1), (5, 2)])]
    front = pareto_front([*points, trial("x", status=FAILED)], ("size_bytes", "loss"))
    assert [(t.value("size_bytes"), t.value("loss")) for t in front] == [(1, 4), (5, 2), (9, 1)]


@pytest.mark.parametrize(
    ("figure", "text", "bound", "relative"),
    [("latency_ms", "5ms", 5.0, False), ("latency_ms", "0.4x", 0.4, True), ("latency_ms", "300us", 0.3, False),
     ("size_bytes", "4MB", 4e6, False), ("size_bytes", "0.3x", 0.3, True), ("size_bytes", "1200", 1200.0, False)],
)  # fmt: skip
def test_limits_are_read(figure, text, bound, relative):
    found = Limit.parse(figure, text)
    assert found.bound == pytest.approx(bound) and found.relative is relative


@pytest.mark.parametrize("text", ["", "fast", "-1MB", "0MB", "4MiB", "5ms", "1.2.3MB", "nanMB"])
def test_bad_limits_are_refused(text):
    with pytest.raises(UsageError, match="is no limit"):
        Limit.parse("size_bytes", text)
