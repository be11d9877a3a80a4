"""Codes of finished blocks on disk, so that a run which was killed need not begin anew.

The folder belongs to one model, one recipe, one set of calibration data: `fingerprint.json` says which. A block is
written to a temporary name and renamed, so it is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from qcompiler.errors import UsageError
from qcompiler.ir import DType, QuantParams
from qcompiler.passes.base import Context, PassConfig
from qcompiler.passes.quantize.plan import WeightCodes

FINGERPRINT = "fingerprint.json"


class Checkpoint:
    """Of one pass; without a folder in the context, nothing is read or written."""

    def __init__(self, context: Context, name: str, config: PassConfig) -> None:
        """Open, or begin, the folder of a pass.

        Raises:
            UsageError: it belongs to another run, naming what differs, or cannot be written.
        """
        self.folder: Path | None = None
        if context.checkpoint is None:
            return
        self.folder = Path(context.checkpoint) / name
        wanted = {**context.fingerprint, f"configuration of {name}": config.model_dump_json()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / FINGERPRINT
            if file.is_file():
                self._compare(json.loads(file.read_text(encoding="utf-8")), wanted)
            else:
                replace_file(file, json.dumps(wanted, indent=2).encode())
        except (OSError, ValueError) as error:
            raise UsageError(f"checkpoint folder {self.folder}: {error}") from error

    def _compare(self, found: dict[str, str], wanted: dict[str, str]) -> None:
        differing = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
        if differing:
            raise UsageError(
                f"checkpoint folder {self.folder} belongs to another run: {', '.join(differing)} "
                f"{'differs' if len(differing) == 1 else 'differ'}. Give the same, or another folder"
            )

    def read(self, block: str) -> list[WeightCodes] | None:
        """Codes of a block's layers in program order; None if it was not finished.

        Raises:
            UsageError: the file is damaged.
        """
        if self.folder is None or not self._file(block).is_file():
            return None
        try:
            with np.load(self._file(block), allow_pickle=False) as data:
                return [_unpacked(data, i) for i in range(int(data["count"]))]
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise UsageError(f"{self._file(block)} is damaged ({error}); delete it to round this block again") from error

    def write(self, block: str, layers: Sequence[WeightCodes]) -> None:
        """Keep a finished block."""
        if self.folder is None:
            return
        arrays: dict[str, np.ndarray] = {"count": np.asarray(len(layers))}
        for i, layer in enumerate(layers):
            quant = layer.quant
            arrays |= {f"{i}.codes": layer.codes, f"{i}.scale": quant.scale, f"{i}.zero_point": quant.zero_point}
            arrays[f"{i}.form"] = np.asarray([quant.dtype.name, str(quant.axis), str(quant.group_size), str(quant.digits)])
        file = self._file(block)
        temporary = file.with_suffix(".tmp")
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, file)

    def _file(self, block: str) -> Path:
        assert self.folder is not None
        readable = "".join(c if c.isalnum() or c in "._-" else "_" for c in block)[:80] or "model"
        return self.folder / f"{readable}-{hashlib.sha256(block.encode()).hexdigest()[:8]}.npz"


def _unpacked(data: np.lib.npyio.NpzFile, i: int) -> WeightCodes:
    dtype, axis, size, digits = (None if v == "None" else v for v in data[f"{i}.form"].tolist())
    quant = QuantParams(
        DType[dtype], data[f"{i}.scale"], data[f"{i}.zero_point"], None if axis is None else int(axis),
        None if size is None else int(size), None if digits is None else int(digits),
    )  # fmt: skip
    return WeightCodes(data[f"{i}.codes"], quant)


def replace_file(file: Path, content: bytes) -> None:
    """Write a file that is whole or absent."""
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, file)
