"""The lock file: what is recorded, what is replayed, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.errors import InternalError, UsageError
from qcompiler.lock import LOCK_NAME, Lock, check_lock, current_versions, hash_arrays, plain, read_lock
from qcompiler.recipe import load_recipe

HASHES = {"model": "sha256:1", "calibration data": "sha256:2"}


def make_lock(**changes):
    fields = {
        "target": "onnxruntime-cpu",
        "isa": ("avx2",),
        "seed": 0,
        "threads": 1,
        "calibration_samples": 4,
        "recipe": load_recipe("w8a8"),
        "hashes": HASHES,
        "versions": current_versions(),
        "decisions": {"rounding/conv1": "hessian", "never_slower": [{"region": "a", "ms": 0.25}]},
    }
    return Lock(**{**fields, **changes})


def check(lock, **changes):
    check_lock(lock, **{"isa": ("avx2",), "hashes": HASHES, **changes})


def test_round_trip_from_file_and_folder(tmp_path):
    lock = make_lock()
    (tmp_path / LOCK_NAME).write_text(lock.to_yaml())
    assert read_lock(tmp_path) == lock
    assert read_lock(tmp_path / LOCK_NAME).to_yaml() == lock.to_yaml()


def test_a_fitting_lock_is_accepted():
    check(make_lock())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"hashes": {**HASHES, "model": "sha256:9"}},
            "hash of the model: sha256:1 in the lock, sha256:9 here",
        ),
        (
            {"hashes": {"model": "sha256:1"}},
            "hash of the calibration data: sha256:2 in the lock, absent here",
        ),
        ({"isa": ("avx2", "avx512_vnni")}, "isa: avx2 in the lock, avx2, avx512_vnni here"),
    ],
)
def test_what_differs_is_named(changes, expected):
    with pytest.raises(UsageError) as error:
        check(make_lock(), **changes)
    assert expected in str(error.value)
    assert str(error.value).count(" in the lock, ") == 1


def test_another_version_is_named():
    lock = make_lock(versions={**current_versions(), "onnxruntime": "1.0"})
    with pytest.raises(UsageError, match="version of onnxruntime: 1.0 in the lock"):
        check(lock)


def test_decisions_become_plain_json():
    measured = {"ms": np.float64(0.1), "codes": np.array([1, 2]), "pair": (1, "x")}
    assert plain(measured) == {"ms": 0.1, "codes": [1, 2], "pair": [1, "x"]}
    assert plain(plain(measured)) == plain(measured)
    with pytest.raises(InternalError, match="plain JSON"):
        plain({"a": object()})


@pytest.mark.parametrize("text", ["[]", "a: [", "schema_version: 1\n", "target: x\nsead: 0\n"])
def test_unreadable_locks_are_usage_errors(tmp_path, text):
    (tmp_path / LOCK_NAME).write_text(text)
    with pytest.raises(UsageError, match=LOCK_NAME):
        read_lock(tmp_path)


def test_hash_depends_on_name_dtype_shape_and_content():
    base = np.arange(6, dtype=np.float32)
    variants = [
        [("x", base)],
        [("y", base)],
        [("x", base.astype(np.float64))],
        [("x", base.reshape(2, 3))],
        [("x", base + 1)],
        [("x", base), ("x", base)],
    ]
    assert len({hash_arrays(arrays) for arrays in variants}) == len(variants)
    assert hash_arrays([("x", base.reshape(2, 3).T)]) == hash_arrays([("x", base.reshape(2, 3).T.copy())])
