"""The lock file: everything a compile decided, so that it can be repeated without measuring anything.

`recipe.lock.yaml` holds the resolved recipe, the target with its instruction set, the seed, every measured
decision, the hashes of model and data, and the versions that produced them. A compile that is given a lock
replays the decisions in place of measuring; on the same class of machine and versions the artefact is
byte-identical. Where something differs, the compile is refused and the error names what differs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

import qcompiler
from qcompiler.errors import InternalError, UsageError
from qcompiler.recipe import Recipe
from qcompiler.validation import explain

LOCK_NAME = "recipe.lock.yaml"
# Per-channel factors make long lists; libyaml writes and reads them ten times as fast where PyYAML was built with it.
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LOCKED_PACKAGES = ("torch", "numpy", "scipy", "onnx", "onnxruntime")
"""Packages whose version can change the bytes of an artefact."""


class Lock(BaseModel):
    """The contents of `recipe.lock.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    target: str
    isa: tuple[str, ...] = ()
    """Instruction-set features that decisions were made for."""
    seed: int
    threads: int
    recipe: Recipe
    calibration_samples: int
    """Samples calibrated on: the first of the data that was given."""
    random_calibration: bool = False
    """The calibration data was random: accuracy figures of this artefact mean nothing."""
    hashes: dict[str, str]
    ranges: dict[str, tuple[int, int | None]] = {}
    """Least and largest size of dynamic dimensions, as far as they were declared."""
    versions: dict[str, str]
    decisions: dict[str, Any]

    def to_yaml(self) -> str:
        data = self.model_dump(mode="json")
        data["recipe"] = self.recipe.to_dict()
        return yaml.dump(data, Dumper=_DUMPER, sort_keys=True, width=110)


def plain(value: Any) -> Any:
    """The value after a trip through JSON: numbers, strings, lists and dicts only.

    A decision that is replayed from a lock is then of the same type as a measured one.

    Raises InternalError for what JSON cannot hold.
    """
    return json.loads(json.dumps(value, default=_from_numpy))


def _from_numpy(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise InternalError(f"a decision must be plain JSON, found {type(value).__name__}")


def read_lock(path: str | Path) -> Lock:
    """The lock in a file, or in an artefact folder. Raises UsageError where it cannot be read."""
    path = Path(path)
    if path.is_dir():
        path = path / LOCK_NAME
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read lock file {path}: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"lock file {path}: expected a mapping, found {type(data).__name__}")
    try:
        return Lock.model_validate(data)
    except ValidationError as error:
        raise UsageError(explain(error, Lock, f"lock file {path}")) from None


def check_lock(lock: Lock, *, isa: Iterable[str], hashes: Mapping[str, str]) -> None:
    """Raise UsageError naming everything that differs between a lock and the compile that wants to use it."""
    here = {
        "isa": ", ".join(isa),
        **{f"hash of the {name}": value for name, value in hashes.items()},
        **{f"version of {name}": value for name, value in current_versions().items()},
    }
    locked = {
        "isa": ", ".join(lock.isa),
        **{f"hash of the {name}": value for name, value in lock.hashes.items()},
        **{f"version of {name}": value for name, value in lock.versions.items()},
    }
    differing = [
        f"  {name}: {locked.get(name, 'absent')} in the lock, {here.get(name, 'absent')} here"
        for name in sorted({*here, *locked})
        if here.get(name) != locked.get(name)
    ]
    if differing:
        raise UsageError(
            "the lock does not fit this compile:\n"
            + "\n".join(differing)
            + "\nCompile without the lock to decide anew."
        )


def current_versions() -> dict[str, str]:
    """Versions that can change the bytes of an artefact."""
    versions = {"qcompiler": qcompiler.__version__, "python": platform.python_version()}
    for package in LOCKED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def hash_arrays(arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    """SHA-256 over names, dtypes, shapes and contents, in the order given."""
    digest = hashlib.sha256()
    for name, array in arrays:
        update_hash(digest, name, array)
    return f"sha256:{digest.hexdigest()}"


def update_hash(digest: hashlib._Hash, name: str, array: np.ndarray) -> None:
    """Add one named array to a running hash."""
    array = np.asarray(array)
    digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
