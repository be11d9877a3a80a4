"""NumPy archives from anybody: arrays mapped or streamed from disk, never unpickled."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.lib import format as npy

from qcompiler.errors import CalibrationError

_LOCAL_HEADER = 30  # bytes of a zip member's fixed local header; name and extra field follow
SUSPICIOUS_SIZE, SUSPICIOUS_RATIO = 1 << 30, 200
"""Data of more than 1 GiB that was 200 times as large before compression is taken for a bomb."""
_BROKEN = (ValueError, OSError, EOFError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile)


def open_npy(path: str) -> np.ndarray:
    """The array of a `.npy` file, mapped read-only.

    Raises:
        CalibrationError: missing, damaged or pickled.
    """
    _require_file(path)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def open_npz(path: str) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file by name, in file order.

    Members stored as they are (np.savez) are mapped read-only; compressed members (np.savez_compressed) are
    unpacked to a temporary file first, block by block, and mapped from there.

    Raises:
        CalibrationError: missing, damaged, without arrays, or with pickled objects.
    """
    _require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
            arrays = {m.filename[: -len(".npy")]: _member(path, archive, m) for m in members}
    except CalibrationError:
        raise
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    if not arrays:
        raise CalibrationError(f"{path} holds no arrays; write it with numpy.savez(path, input_name=array)")
    return arrays


def _member(path: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        shape, fortran, dtype = _header(stream)
        if dtype.hasobject:
            raise CalibrationError(
                f"{path}: {member.filename} holds pickled Python objects, never loaded. Save "
                "plain numeric arrays; ragged samples do not fit one array, pass those as a list of dicts"
            )
        skip = stream.tell()
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if member.file_size - skip != size:
            raise ValueError(
                f"{member.filename} has {member.file_size - skip} bytes of data, its header says {size}"
            )
        order: Literal["C", "F"] = "F" if fortran else "C"
        if size == 0:
            return np.empty(shape, dtype, order)
        if member.compress_type == zipfile.ZIP_STORED:
            return np.memmap(path, dtype, "r", _data_offset(path, member) + skip, shape, order)
        _refuse_bomb(path, member)
        with tempfile.TemporaryFile(prefix="qcompiler-calibration-") as unpacked:
            shutil.copyfileobj(stream, unpacked)
            return np.memmap(unpacked, dtype, "r+", 0, shape, order)  # keeps its own handle of the file


def _refuse_bomb(path: str, member: zipfile.ZipInfo) -> None:
    """Refuse a compressed member that is made to fill the disk, before a byte of it is unpacked."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    packed = member.file_size <= SUSPICIOUS_SIZE or member.file_size <= SUSPICIOUS_RATIO * member.compress_size
    if packed and member.file_size <= free // 2:
        return
    raise CalibrationError(
        f"{path}: {member.filename} has {member.compress_size:,} bytes and would be {member.file_size:,} unpacked, with"
        f" {free:,} free for temporary files; write it with numpy.savez, which does not compress, if that is what it holds"
    )


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(stream)


def _data_offset(path: str, member: zipfile.ZipInfo) -> int:
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER)
    name, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    return member.header_offset + _LOCAL_HEADER + name + extra


def _require_file(path: str) -> None:
    if not Path(path).is_file():
        raise CalibrationError(
            f"{path} does not exist" if not Path(path).exists() else f"{path} is not a file"
        )


def _unreadable(path: str, error: BaseException) -> CalibrationError:
    return CalibrationError(f"{path} cannot be read as a NumPy archive ({type(error).__name__}: {error})")
