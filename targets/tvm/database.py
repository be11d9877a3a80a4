"""Measured tiles of one device, in one JSON file that is whole after every trial."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.targets.tvm.machine import Machine
from qcompiler.targets.tvm.version import VERSIONS

FORMAT = 1
VARIABLE = "QC_KERNEL_DATABASE"
"""Folder of the databases, if it is not the user's cache folder."""
SHIPPED = Path(__file__).parent / "records"
"""Records of products of the benches' networks, by device like the user's; `benchmarks/cpu_kernels/tiles.py` makes them."""


@dataclass
class Database:
    """Trials by kernel.

    Attributes:
        device: fingerprint of the machine that measured.
        trials: key of a product -> [(tile as a dictionary, seconds or None where the trial failed), ...].
        path: of the file, None for one that is not kept.
    """

    device: dict[str, str]
    trials: dict[str, list[tuple[dict[str, Any], float | None]]] = field(default_factory=dict)
    path: Path | None = None

    def add(self, key: str, tile: Any, seconds: float | None) -> None:
        """Record a trial and write the file."""
        self.trials.setdefault(key, []).append((asdict(tile), seconds))
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        work = self.path.with_suffix(f".{os.getpid()}.tmp")
        work.write_text(json.dumps({"format": FORMAT, "device": self.device, "trials": self.trials}, indent=0), encoding="utf-8")
        work.replace(self.path)

    def best(self) -> dict[str, Any]:
        """The fastest tile of every kernel."""
        from qcompiler.kernels.cpu.product import Tile

        found = {}
        for key, trials in self.trials.items():
            done = [(seconds, tile) for tile, seconds in trials if seconds is not None]
            if done:
                found[key] = Tile(**min(done, key=lambda pair: pair[0])[1])
        return found


def fingerprint(machine: Machine) -> dict[str, str]:
    """What measurements depend on: processor, instruction set, code generator."""
    return {"processor": _processor(), "cpu": machine.cpu, "isa": machine.isa.name, "tvm": VERSIONS["apache-tvm"]}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def default_path(device: dict[str, str]) -> Path:
    """Where the records of a device lie: one file per fingerprint."""
    base = os.environ.get(VARIABLE)
    folder = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qcompiler" / "kernels"
    name = hashlib.sha256(json.dumps(device, sort_keys=True).encode()).hexdigest()[:16]
    return folder / f"{name}.json"


def open_database(path: Path, device: dict[str, str]) -> Database:
    """The records of a file, or none yet.

    Raises:
        UsageError: the file is damaged, or of another device.
    """
    if not path.exists():
        return Database(device, {}, path)
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            raise ValueError(f"format {held['format']}")
        trials = {str(key): [(dict(tile), seconds) for tile, seconds in rows] for key, rows in held["trials"].items()}
        found = Database(dict(held["device"]), trials, path)
        found.best()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"tuning database {path} is damaged ({error}): remove it, or name another with --database") from None
    if found.device != device:
        changed = [f"{k}: {found.device.get(k)!r} there, {v!r} here" for k, v in device.items() if found.device.get(k) != v]
        raise UsageError(f"tuning database {path} is of another device ({'; '.join(changed)}): name another with --database")
    return found


def tiles_of(plain: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Tiles as a lock holds them.

    Raises:
        UsageError: they are none.
    """
    from qcompiler.kernels.cpu.product import Tile

    try:
        return {key: Tile(**tile) for key, tile in plain.items()}
    except (TypeError, AttributeError) as error:
        raise UsageError(f"the lock's tiles are no tiles ({error}): compile without the lock to decide anew") from None


def known_tiles(machine: Machine) -> dict[str, Any]:
    """Tuned tiles of this device, as `compile` takes them: the user's, else shipped ones; none where nothing was tuned."""
    if not machine.host:
        return {}
    device = fingerprint(machine)
    own = default_path(device)
    return {**open_database(SHIPPED / own.name, device).best(), **open_database(own, device).best()}
