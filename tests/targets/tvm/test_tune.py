"""Tuning: proposals, records, bad trials, a farm on loopback of which one machine is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.ir import DType, Graph
from qcompiler.ir.dims import symbol
from qcompiler.targets import get_target
from support.integer_networks import IntegerLayers, int8

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

from qcompiler.kernels.cpu.library import CpuLibrary  # noqa: E402
from qcompiler.kernels.cpu.product import Tile  # noqa: E402
from qcompiler.targets.tvm import database as tuning_database  # noqa: E402
from qcompiler.targets.tvm import tune as tuning  # noqa: E402
from qcompiler.targets.tvm.database import Database, default_path, fingerprint, known_tiles, open_database  # noqa: E402
from qcompiler.targets.tvm.machine import host_machine  # noqa: E402
from qcompiler.targets.tvm.runners import LocalRunner, RpcRunner  # noqa: E402


def two_layers() -> Graph:
    b = IntegerLayers("two")
    return b.graph(b.linear(b.linear(b.codes("x", 12, 32), 48), 16))


class Fake:
    """A runner whose times follow from the tile, with failures."""

    def __init__(self) -> None:
        self.asked = 0
        self.closed = False

    def seconds(self, library: Path, arguments: Any) -> float | None:
        assert library.is_file()
        self.asked += 1
        return None if self.asked % 3 == 0 else 1e-6 * self.asked

    def close(self) -> None:
        self.closed = True


def test_records_resume_and_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, graph = host_machine(), two_layers()
    device = fingerprint(machine)
    monkeypatch.setenv("QC_KERNEL_DATABASE", str(tmp_path))
    path = default_path(device)
    lines: list[str] = []
    first = Fake()
    found = tuning.tune(graph, machine, open_database(path, device), first, 2, progress=lines.append)
    assert first.closed and first.asked == 4 and all(t.trials == 2 for t in found)
    assert all("GOPS of" in line and "s left" in line for line in lines)
    second = Fake()
    again = tuning.tune(graph, machine, open_database(path, device), second, 3)
    assert second.asked == 2 and [t.trials for t in again] == [3, 3]  # the first four were not repeated
    tiles = known_tiles(machine)
    assert {t.key for t in found} <= set(tiles)
    key = found[0].key
    database = open_database(path, device)
    database.add(key, Tile(1, 1), 1e-12)
    from qcompiler.targets.tvm.lower import lower

    notes = [k.note for k in lower(graph, CpuLibrary(machine.isa, known_tiles(machine))).kernels]
    assert any(note.startswith(str(Tile(1, 1))) and note.endswith("tuned") for note in notes)


def test_damaged_and_foreign_records(tmp_path: Path) -> None:
    device = fingerprint(host_machine())
    path = tmp_path / "records.json"
    for text in ("{", "[]", '{"format": 9}', json.dumps({"format": 1, "device": device, "trials": {"a": [[{"no": 1}, 1.0]]}})):
        path.write_text(text)
        with pytest.raises(UsageError, match="is damaged .*remove it"):
            open_database(path, device)
    path.write_text(json.dumps({"format": 1, "device": {**device, "processor": "another"}, "trials": {}}))
    with pytest.raises(UsageError, match="of another device .processor: 'another' there"):
        open_database(path, device)


def test_own_records_come_before_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = host_machine()
    device = fingerprint(machine)
    monkeypatch.setenv("QC_KERNEL_DATABASE", str(tmp_path / "own"))
    monkeypatch.setattr(tuning_database, "SHIPPED", tmp_path / "shipped")
    own, shipped = open_database(default_path(device), device), open_database(tmp_path / "shipped" / default_path(device).name, device)
    shipped.add("a", Tile(1, 1), 1.0)
    shipped.add("b", Tile(1, 2), 1.0)
    own.add("b", Tile(2, 2), 2.0)
    assert known_tiles(machine) == {"a": Tile(1, 1), "b": Tile(2, 2)}


def test_shipped_records_are_whole() -> None:
    paths = list(tuning_database.SHIPPED.glob("*.json"))
    assert paths
    for path in paths:
        device = json.loads(path.read_text(encoding="utf-8"))["device"]
        assert open_database(path, device).best() and default_path(device).name == path.name


def test_proposals_follow_the_model() -> None:
    machine = host_machine()
    _, (task, *_) = tuning.tasks_of(two_layers(), machine.isa)
    database = Database({})
    rng = np.random.default_rng(0)
    assert tuning.propose(task, machine.isa, database, rng, 4, True)[0] == task.tiles[0]
    for index, tile in enumerate(task.tiles[:: max(1, len(task.tiles) // 16)]):
        database.add(task.key, tile, 1e-6 * tile.rows + 1e-9 * index)  # fewer rows are faster here
    chosen = tuning.propose(task, machine.isa, database, rng, 8, True)
    tried = {Tile(**t) for t, _ in database.trials[task.key]}
    assert len(set(chosen)) == 8 and not tried & set(chosen)
    assert np.mean([t.rows for t in chosen[:6]]) < np.mean([t.rows for t in task.tiles])


def test_a_trial_that_ends_the_worker_costs_one_trial(tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    source.write_text("#include <stdlib.h>\n__attribute__((constructor)) static void end(void) { abort(); }\n")
    bad = tmp_path / "bad.so"
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(bad)], check=True)
    runner = LocalRunner()
    try:
        assert runner.seconds(bad, []) is None and runner.restarts == 1
        machine = host_machine()
        plan, (task, *_) = tuning.tasks_of(two_layers(), machine.isa)
        assert tuning.measure(plan, task, task.tiles[0], machine, runner, tmp_path) is not None
        assert tuning.measure(plan, task, task.tiles[-1], machine, runner, tmp_path) is not None
        assert list(tmp_path.glob("trial_*")) == []
        process = runner._process
    finally:
        runner.close()
    assert process is not None and process.poll() is not None


def test_what_cannot_be_tuned() -> None:
    b = IntegerLayers("dynamic")
    x = b.input("x", DType.int8, (symbol("n"), 8), int8(0.02))
    graph = b.graph(b.linear(x, 8))
    with pytest.raises(UsageError, match="dynamic dimensions .n.: tune it compiled for fixed ones"):
        tuning.tasks_of(graph, host_machine().isa)
    arguments = (1, 0, None, None, None, print)
    with pytest.raises(UsageError, match="not this machine's CPU: name a tracker"):
        get_target("tvm-cpu:znver4").tune_kernels(two_layers(), *arguments)
    with pytest.raises(UnsupportedError, match="are not tuned; those of tvm-cpu are"):
        get_target("onnx").tune_kernels(two_layers(), *arguments)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_a_tracker_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="no RPC tracker at 127.0.0.1:.*rpc_tracker"):
        RpcRunner("127.0.0.1", free_port(), "k", timeout=2)


@pytest.fixture
def farm() -> Iterator[tuple[int, list[subprocess.Popen[bytes]]]]:
    """A tracker and two servers."""
    port = free_port()
    environment = {**os.environ, "TVM_NUM_THREADS": "1"}

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *arguments]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    processes = [start("tvm.exec.rpc_tracker", "--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1))]
    try:
        _wait_for(port)
        for _ in range(2):
            own = free_port()
            processes.append(
                start(
                    "tvm.exec.rpc_server", "--host", "127.0.0.1", "--port", str(own), "--port-end", str(own + 1),
                    "--tracker", f"127.0.0.1:{port}", "--key", "bench",
                )
            )  # fmt: skip
        yield port, processes
    finally:
        for process in processes:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _wait_for(port: int) -> None:
    for _ in range(240):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the tracker did not start")


def test_a_farm_goes_on_after_it_lost_a_machine(farm: tuple[int, list[subprocess.Popen[bytes]]], tmp_path: Path) -> None:
    from tvm import rpc

    port, processes = farm
    tracker = rpc.connect_tracker("127.0.0.1", port)
    for _ in range(240):
        if tracker.text_summary().count("server:bench") >= 2:
            break
        time.sleep(0.5)
    with pytest.raises(UsageError, match="knows no machine of key 'other'"):
        RpcRunner("127.0.0.1", port, "other")
    machine, graph = host_machine(), two_layers()
    runner = RpcRunner("127.0.0.1", port, "bench")
    database = open_database(tmp_path / "farm.json", {"processor": "key bench"})
    done: list[str] = []

    def lose_one(line: str) -> None:
        if not done:
            _end(processes[1])
        done.append(line)

    found = tuning.tune(graph, machine, database, runner, 3, progress=lose_one)
    assert all(t.trials == 3 and t.best_seconds is not None for t in found)
    assert all(seconds is not None for rows in database.trials.values() for _, seconds in rows)
