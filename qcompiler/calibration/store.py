"""Samples on disk: a data set that is read only once goes to a temporary file and is read back by index."""

from __future__ import annotations

import errno
import os
import tempfile

import numpy as np

from qcompiler.errors import CalibrationError

from .signature import Sample

SPOOL_LIMIT = 16 << 30
"""Bytes after which a data set counts as endless."""


class Spool:
    """Append-only store of samples in an unnamed temporary file, which vanishes with the process.

    In memory: shape, type and place of each array.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="qcompiler-calibration-")
        self._records: list[list[tuple[np.dtype, tuple[int, ...], int]]] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def append(self, sample: Sample) -> None:
        """Add a sample.

        Raises:
            CalibrationError: the disk is full, or the data set is larger than `SPOOL_LIMIT`.
        """
        record = []
        for array in sample:
            record.append((array.dtype, array.shape, self.bytes))
            self.bytes += array.nbytes
            if self.bytes > SPOOL_LIMIT:
                raise CalibrationError(
                    f"the calibration data is larger than {SPOOL_LIMIT >> 30} GiB after {len(self)} samples; "
                    "if it is endless, pass `limit`, or a list of the samples you want"
                )
            try:
                self._file.write(array.tobytes())
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise CalibrationError(
                    f"no space left in {tempfile.gettempdir()} for calibration data ({self.bytes >> 20} MiB "
                    "so far); set TMPDIR to a larger disk or pass fewer samples"
                ) from error
        self._records.append(record)

    def __getitem__(self, index: int) -> Sample:
        self._file.flush()
        arrays = []
        for dtype, shape, offset in self._records[index]:
            buffer = bytearray(int(np.prod(shape)) * dtype.itemsize)
            if os.preadv(self._file.fileno(), [buffer], offset) != len(buffer):
                raise CalibrationError(f"the temporary copy of calibration sample {index} was truncated")
            arrays.append(np.frombuffer(buffer, dtype).reshape(shape))
        return tuple(arrays)
