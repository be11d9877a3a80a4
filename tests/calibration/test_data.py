from __future__ import annotations

import logging
from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from qcompiler.calibration import RandomData, archive, load_samples
from qcompiler.calibration.archive import open_npz
from qcompiler.calibration.store import Spool
from qcompiler.errors import CalibrationError, UsageError
from qcompiler.ir import DType, Value
from support.small_graphs import BATCH, SEQ, mlp

X = np.arange(24, dtype=np.float32).reshape(8, 3)
IDS = np.arange(24).reshape(4, 6) % 5
MASK = np.ones((4, 6), np.int64)


def dense(batch=BATCH):
    return [Value(DType.float32, (batch, 3), name="x")]


def text():
    return [
        Value(DType.int64, (BATCH, SEQ), name="input_ids"),
        Value(DType.int64, (BATCH, SEQ), name="attention_mask"),
    ]


def rows(samples):
    return np.concatenate([s[0] for s in samples])


class Reader:
    """An ONNX Runtime CalibrationDataReader."""

    def __init__(self, key="x"):
        self.key, self.rewinds = key, 0
        self.rewind()

    def get_next(self):
        return next(self.items, None)

    def rewind(self):
        self.items = iter([{self.key: X[i : i + 1]} for i in range(8)])
        self.rewinds += 1


class Indexed:
    """A map-style data set that does not raise IndexError at its end."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return X[i % 8][None]


def npz(tmp_path, save=np.savez, **arrays):
    save(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


FORMS = {
    "list of arrays": lambda p: [X[i : i + 1] for i in range(8)],
    "list of tuples of tensors": lambda p: [(torch.from_numpy(X[i : i + 1]),) for i in range(8)],
    "tuple of dicts": lambda p: tuple({"x": X[i : i + 1]} for i in range(8)),
    "nested": lambda p: [[(X[i : i + 1],)] for i in range(8)],
    "lists of numbers": lambda p: [{"x": [row.tolist()]} for row in X],
    "generator": lambda p: (X[i : i + 1] for i in range(8)),
    "array": lambda p: X,
    "tensor that needs gradients": lambda p: torch.from_numpy(X.copy()).requires_grad_(),
    "array with a sample axis": lambda p: X[:, None],
    "mapping": lambda p: UserDict(x=torch.from_numpy(X)),
    "map-style data set": lambda p: Indexed(),
    "reader": lambda p: Reader(),
    "loader": lambda p: DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=1),
    "loader with labels": lambda p: DataLoader(
        TensorDataset(torch.from_numpy(X), torch.zeros(8)), batch_size=1
    ),
    "npz by name": lambda p: npz(p, x=X),
    "npz by position": lambda p: npz(p, np.savez, **{"arr_0": X}),
    "npz compressed": lambda p: str(npz(p, np.savez_compressed, x=X)),
    "npz in column order": lambda p: npz(p, x=np.asfortranarray(X)),
    "npz double precision": lambda p: npz(p, x=X.astype(np.float64)),
    "float16": lambda p: [X[i : i + 1].astype(np.float16) for i in range(8)],
    "bfloat16": lambda p: [torch.from_numpy(X[i : i + 1]).bfloat16() for i in range(8)],
    "read-only and strided": lambda p: [np.broadcast_to(X[i], (1, 3)) for i in range(8)],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples(form, tmp_path):
    samples = load_samples(FORMS[form](tmp_path), dense())
    assert len(samples) == 8
    for _ in range(2):  # re-iterable
        np.testing.assert_array_equal(rows(samples), X)
    np.testing.assert_array_equal(samples[-1][0], X[7:])
    for (array,) in samples:
        assert array.dtype == np.float32 and array.shape == (1, 3)
        assert array.flags.c_contiguous and array.flags.writeable
    assert samples.content_hash == load_samples([X[i : i + 1] for i in range(8)], dense()).content_hash


def test_hash_depends_on_values_order_and_shape():
    def digest(x, inputs=None):
        return load_samples(x, inputs or dense()).content_hash

    hashes = {digest(X), digest(X[::-1]), digest([X]), digest(X[:7]), digest(X + 1e-6)}
    assert len(hashes) == 5 and all(len(h) == 64 for h in hashes)


def test_samples_are_accepted_again_and_fit_another_graph(tmp_path):
    first = load_samples(X, dense())
    assert load_samples(first, mlp()[0]).content_hash == first.content_hash
    with pytest.raises(CalibrationError, match="inputs"):
        load_samples(first, text())


def test_text_by_mapping_npz_and_ragged_list(tmp_path):
    path = npz(tmp_path, attention_mask=MASK.astype(np.int32), input_ids=IDS.astype(np.uint8))
    for data in (
        {"attention_mask": MASK, "input_ids": IDS},
        path,
        [(IDS[i : i + 1], MASK[i : i + 1] > 0) for i in range(4)],
    ):
        samples = load_samples(data, text())
        assert len(samples) == 4 and samples.names == ("input_ids", "attention_mask")
        np.testing.assert_array_equal(rows(samples), IDS)
        assert all(a.dtype == np.int64 for s in samples for a in s)
    ragged = [{"input_ids": IDS[:b, :s], "attention_mask": MASK[:b, :s]} for b, s in ((1, 6), (3, 2), (2, 0))]
    for data in (ragged, iter(ragged)):
        assert [s[0].shape for s in load_samples(data, text())] == [(1, 6), (3, 2), (2, 0)]


def test_extra_entries_are_left_out_and_said(caplog):
    batch = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": IDS}
    with caplog.at_level(logging.WARNING):
        assert len(load_samples(batch, text())) == 4
    assert "token_type_ids" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        load_samples(FORMS["loader with labels"](None), dense())
    assert caplog.text.count("labels") == 1


def test_reader_is_rewound():
    reader = Reader()
    load_samples(reader, dense())
    assert reader.rewinds == 3 and reader.get_next() is not None


def test_larger_batches_are_cut_to_a_fixed_batch_size(tmp_path, caplog):
    samples = load_samples([X[:4], X[4:]], dense(batch=2))
    assert len(samples) == 4 and samples[1][0].shape == (2, 3)
    np.testing.assert_array_equal(rows(samples), X)
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=4)
    np.testing.assert_array_equal(rows(load_samples(loader, dense(batch=1))), X)
    with caplog.at_level(logging.WARNING):
        assert len(load_samples(X, dense(batch=3))) == 2
    assert "last 2 of 8 rows" in caplog.text
    with pytest.raises(CalibrationError, match="shape"):
        load_samples([X[:3]], dense(batch=2))


def test_limit():
    def endless():
        while True:
            yield X[:1]

    assert len(load_samples(endless(), dense(), limit=5)) == 5
    assert len(load_samples(X, dense(), limit=5)) == 5
    assert len(load_samples(X, dense(), limit=50)) == 8
    unread = [X[:1], X[1:2], "not a sample"]
    assert len(load_samples(unread, dense(), limit=2)) == 2
    with pytest.raises(CalibrationError):
        load_samples(X, dense(), limit=0)


def test_factory_runs_the_file_and_says_so(tmp_path, caplog):
    (tmp_path / "neighbour.py").write_text("rows = [[1.0, 2.0, 3.0]]\n")
    path = tmp_path / "data.py"
    path.write_text(
        "import neighbour, numpy as np\n"
        "def samples():\n    return [np.array(neighbour.rows, np.float32)]\n"
        "def broken():\n    raise RuntimeError('no disk')\n"
    )
    with caplog.at_level(logging.WARNING):
        assert rows(load_samples(f"{path}:samples", dense())).tolist() == [[1.0, 2.0, 3.0]]
    assert "running code from" in caplog.text
    for spec, message in ((":sample", "Did you mean 'samples'"), (":broken", "RuntimeError: no disk")):
        with pytest.raises(UsageError, match=message):
            load_samples(f"{path}{spec}", dense())
    with pytest.raises(UsageError, match=r"no such file.*none\.py"):
        load_samples(f"{tmp_path}/none.py:f", dense())
    with pytest.raises(UsageError, match="name the function"):
        load_samples(f"{path}", dense())


def test_archives_never_unpickle(tmp_path):
    path = npz(tmp_path, x=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(CalibrationError, match="never loaded"):
        load_samples(path, dense())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_archives(tmp_path, save):
    path = npz(tmp_path, save, x=np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    whole = path.read_bytes()
    for part in (
        whole[: len(whole) // 2],
        b"",
        b"PK\x03\x04 nonsense",
        whole[:100] + b"\0" * 40 + whole[140:],
    ):
        path.write_bytes(part)
        with pytest.raises(CalibrationError):
            load_samples(
                path, [Value(DType.float32, (BATCH, 3), name="x"), Value(DType.float32, (), name="y")]
            )
    with pytest.raises(CalibrationError, match="does not exist"):
        load_samples(tmp_path / "other.npz", dense())
    with pytest.raises(CalibrationError, match="not a file"):
        (tmp_path / "folder.npz").mkdir()
        load_samples(tmp_path / "folder.npz", dense())


BAD = {
    "empty list": ([], "no sample"),
    "empty generator": (iter(()), "no sample"),
    "empty array": (X[:0], "no sample"),
    "empty tensors": ([X[:0]], "empty tensors"),
    "none": (None, "NoneType is not understood"),
    "function": (lambda: X, "call it"),
    "other file": ("data.csv", "cannot read calibration data from 'data.csv'"),
    "misspelt name": ([{"X_": X}, {"x ": X}], r"lacks input\(s\) x.*it has: X_"),
    "near name": ([{"xx": X}], "Did you mean 'xx'"),
    "two tensors": ([(X, X)], "has 2 tensor.*takes 1"),
    "rank": ([X[0]], r"sample 0, input 'x': shape \(3,\).*add the batch axis"),
    "rank 3": ([X[None]], "one axis too many"),
    "shape": ([X, X[:, :2]], r"sample 1, input 'x': shape \(8, 2\), the model takes float32\[batch, 3\]"),
    "ints": (
        [X.astype(np.uint8)],
        r"sample 0, input 'x': dtype uint8, the model takes float32; scale and cast",
    ),
    "complex": ([X.astype(complex)], "numbers"),
    "strings": ([np.array([["a", "b", "c"]])], "numbers"),
    "ragged rows": ([[[1.0], [1.0, 2.0]]], "sample 0"),
    "nan": ([X, X * np.float32("nan")], "input 'x': 24 NaN and 0 Inf values in sample 1"),
    "inf": ([X, X + np.float32("inf")], "0 NaN and 24 Inf values in sample 1"),
    "overflow to inf": ([X.astype(np.float64) + 1e300], "Inf"),
    "raising": ((1 / 0 for _ in range(2)), "reading sample 0 of the generator raised ZeroDivisionError"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_bad_data(case):
    data, message = BAD[case]
    with pytest.raises(CalibrationError, match=message) as caught:
        load_samples(data, dense())
    assert isinstance(caught.value, UsageError) and caught.value.exit_code == 2


def test_bad_text_data():
    with pytest.raises(CalibrationError, match=r"'attention_mask': shape \(4, 5\).*batch=4, seq=6"):
        load_samples([(IDS, MASK[:, :5])], text())
    with pytest.raises(CalibrationError, match=r"float64.*takes int64.*another order"):
        load_samples([(IDS * 1.0, MASK)], text())
    with pytest.raises(CalibrationError, match="different numbers of samples"):
        load_samples({"input_ids": IDS, "attention_mask": MASK[:3]}, text())
    with pytest.raises(CalibrationError, match="pass `\\[sample\\]`"):
        load_samples((IDS, MASK), text())
    with pytest.raises(CalibrationError, match="one array was given"):
        load_samples(IDS, text())
    small = [Value(DType.int8, (BATCH,), name="i")]
    assert load_samples([np.array([-128, 127])], small)[0][0].dtype == np.int8
    with pytest.raises(CalibrationError, match="do not fit"):
        load_samples([np.array([128])], small)
    with pytest.raises(CalibrationError, match="do not fit"):
        load_samples([np.array([2])], [Value(DType.bool, (BATCH,), name="b")])


def test_half_precision_models_take_only_what_survives():
    half = [Value(DType.float16, (BATCH, 3), name="x")]
    assert load_samples([X], half)[0][0].dtype == np.float16
    with pytest.raises(CalibrationError, match="astype"):
        load_samples([X + np.float32(1e-5)], half)


def test_random_data_is_refused_unless_allowed():
    with pytest.raises(CalibrationError, match="allow-random-calibration"):
        load_samples(RandomData(), text())
    samples = load_samples(RandomData(count=3, seed=7, dims={"seq": 5}), text(), allow_random=True)
    assert samples.random and len(samples) == 3 and samples[0][0].shape == (1, 5)
    assert (
        samples.content_hash
        == load_samples(RandomData(3, 7, {"seq": 5}), text(), allow_random=True).content_hash
    )
    assert (
        samples.content_hash
        != load_samples(RandomData(3, 8, {"seq": 5}), text(), allow_random=True).content_hash
    )
    assert samples.split().calibration.random
    with pytest.raises(CalibrationError, match="Did you mean 'seq'"):
        load_samples(RandomData(dims={"seqq": 5}), text(), allow_random=True)


def test_split_holds_back_the_end():
    split = load_samples(X, dense()).split(0.25)
    np.testing.assert_array_equal(rows(split.calibration), X[:6])
    np.testing.assert_array_equal(rows(split.evaluation), X[6:])
    assert split.disjoint and "last 2 of 8" in split.note
    assert split.calibration.content_hash == load_samples(X[:6], dense()).content_hash
    two = load_samples(X[:2], dense()).split(0.01)
    assert len(two.calibration) == len(two.evaluation) == 1


def test_split_of_a_single_sample(caplog):
    split = load_samples([X], dense()).split(0.25)
    np.testing.assert_array_equal(rows(split.calibration), X[:6])
    np.testing.assert_array_equal(rows(split.evaluation), X[6:])
    with caplog.at_level(logging.WARNING):
        same = load_samples([X[:1]], dense()).split()
    assert not same.disjoint and same.calibration is same.evaluation and "itself" in caplog.text


def test_spool_reports_a_full_disk_and_endless_data(monkeypatch):
    spool = Spool()

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "_file", Full())
    with pytest.raises(CalibrationError, match="TMPDIR"):
        spool.append((X,))
    monkeypatch.setattr("qcompiler.calibration.store.SPOOL_LIMIT", 100)
    with pytest.raises(CalibrationError, match="limit"):
        load_samples(iter([X, X]), dense())


def test_archives_made_to_fill_the_disk_are_refused(tmp_path, monkeypatch):
    """Before a byte is unpacked: by their ratio, where they are large, and by the space there is."""
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, x=np.zeros((40, 1 << 16), np.float32))
    assert open_npz(str(path))["x"].shape == (40, 1 << 16)  # small: masks compress as well as this
    monkeypatch.setattr(archive, "SUSPICIOUS_SIZE", 1 << 20)
    with pytest.raises(CalibrationError, match="10,485,888 unpacked"):
        open_npz(str(path))
    noise = tmp_path / "noise.npz"
    np.savez_compressed(noise, x=np.random.default_rng(0).normal(size=(40, 1 << 13)))
    assert open_npz(str(noise))["x"].nbytes > 1 << 20
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 21))
    with pytest.raises(CalibrationError, match="free for temporary files"):
        open_npz(str(noise))
