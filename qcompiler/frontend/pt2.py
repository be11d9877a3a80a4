"""Reading a .pt2 file of unknown origin.

`torch.export.load` (2.13) is not made for strangers' files: it unpickles tensor payloads, sample inputs and custom
objects without restriction, loads compiled libraries that the archive brings, evaluates size expressions as Python
(`sympy.sympify`), and resolves names of operators by attribute lookup from the torch package. So the archive is
examined first, and only one that uses none of these doors is handed over:

- it holds nothing but the records that `torch.export.save` writes for tensors;
- what is pickled passes torch's restricted unpickler (`weights_only=True`), which admits nothing but tensors;
- every size expression is arithmetic on symbols; every operator is one of `torch.ops`, or arithmetic on sizes.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import UnsupportedError, UsageError

_RECORDS = re.compile(
    r"(archive_format|archive_version|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/(serialization_id|version|[\w.]+)|models/\w+\.json|extra/.*"
    r"|data/sample_inputs/\w+\.pt|data/(weights|constants)/([\w.]+|\w+_config\.json))"
)
_PAYLOAD = re.compile(r"data/(sample_inputs/\w+|weights/\w+|constants/\w+)\.pt")
_CONFIG = re.compile(r"data/(weights|constants)/\w+_config\.json")
_SYMBOL = re.compile(r"[a-z]{1,3}\d+")
# What torch's size expressions are made of.
_FUNCTIONS = frozenset(
    "Add Mul Pow Integer Rational Float Max Min Mod floor ceiling Eq Ne Lt Le Gt Ge And Or Not Equality Unequality"
    " StrictLessThan LessThan StrictGreaterThan GreaterThan FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt"
    " FloorToInt CeilDiv LShift RShift IntTrueDiv FloatTrueDiv ToFloat TruncToInt TruncToFloat RoundToInt RoundDecimal"
    " Identity PowByNatural FloatPow OpaqueUnaryFn_sqrt IsNonOverlappingAndDenseIndicator".split()
)
_CONSTANTS = frozenset("true false int_oo oo".split())
_ASSUMPTIONS = frozenset("positive integer nonnegative real finite".split())
_OPERATOR = re.compile(r"torch\.ops\.\w+\.\w+(\.\w+)?|torch\.sym_\w+|_operator\.\w+|math\.\w+")

# An archive is stored, not compressed: contents far larger than the file are no archive of torch's.
_MAX_EXPANSION = 4


def load_pt2(path: Path) -> torch.export.ExportedProgram:
    """The program in a .pt2 file.

    Raises:
        UsageError: the file is truncated, a pickle, or no archive of torch.export.
        UnsupportedError: the archive holds parts whose loading would execute code.
    """
    examine(path)
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except Exception as error:
        raise UsageError(
            f"{path} cannot be read as a program of torch {torch.__version__}: {type(error).__name__}:"
            f" {_first_line(error)}. Save it anew with torch.export.save."
        ) from error
    finally:
        logger.setLevel(level)


def examine(path: Path) -> None:
    """Refuse everything but an archive of tensors and a graph."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        # ValueError: names that are no text. NotImplementedError: archives that need a newer unpacker.
        raise UsageError(f"{path} {_what_it_is(path)}") from error
    with archive:
        records = [info for info in archive.infolist() if not info.is_dir()]
        total = sum(info.file_size for info in records)
        if total > _MAX_EXPANSION * path.stat().st_size + (1 << 20):
            raise UsageError(f"{path} expands to {total} bytes, far more than it has: no archive of torch.export")
        names = {info.filename: _record_name(info.filename) for info in records}
        if not any(name.startswith("models/") for name in names.values()):
            raise UsageError(f"{path} {_which_zip(list(names.values()))}")
        damaged = _damaged(archive)
        if damaged:
            raise UsageError(f"{path} is damaged: record {damaged} does not have its checksum")
        for full, name in names.items():
            if not _RECORDS.fullmatch(name):
                raise UnsupportedError(
                    f"{path} holds {name}, which is no part of a program of plain tensors (compiled libraries and custom"
                    " objects are not loaded)"
                )
            _examine_record(path, archive, full, name)


def _record_name(filename: str) -> str:
    """Without the folder that every record of an archive lies in."""
    return filename.partition("/")[2] or filename


def _damaged(archive: zipfile.ZipFile) -> str | None:
    try:
        return archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        return str(error)


def _examine_record(path: Path, archive: zipfile.ZipFile, full: str, name: str) -> None:
    if name.startswith("models/") or _CONFIG.fullmatch(name):
        try:
            content = json.loads(archive.read(full))
        except ValueError as error:
            raise UsageError(f"{path} is damaged: {name} is no JSON") from error
        if name.startswith("models/"):
            _examine_program(path, content)
        else:
            _examine_payloads(path, archive, full, name, content)
    elif _PAYLOAD.fullmatch(name):
        _examine_pickle(path, archive.read(full), name)


def _examine_payloads(path: Path, archive: zipfile.ZipFile, full: str, name: str, content: Any) -> None:
    folder = full.rpartition("/")[0]
    for key, meta in (content.get("config") or {}).items():
        record = str(meta.get("path_name"))
        if not re.fullmatch(r"(weight|tensor)_\d+", record):
            raise UnsupportedError(f"{path}: {key} in {name} is a custom object ({record}), which is not loaded")
        if meta.get("use_pickle"):
            _examine_pickle(path, archive.read(f"{folder}/{record}"), record)


def _examine_pickle(path: Path, content: bytes, name: str) -> None:
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:
        raise UnsupportedError(
            f"{path}: {name} holds more than tensors ({_first_line(error)}); loading it could execute code"
        ) from error


def _examine_program(path: Path, content: Any) -> None:
    for key, value in _strings(content):
        if key == "target" and not _is_plain_target(value):
            raise UnsupportedError(f"{path}: the program calls {value[:80]!r}, which is no operator of torch.ops")
        if key == "expr_str" and not is_plain_expression(value):
            raise UnsupportedError(f"{path}: a size is given as {value[:80]!r}, which is no arithmetic on symbols")


def _is_plain_target(value: str) -> bool:
    """Operators, and names of inputs and weights (which have no callable meaning to the loader)."""
    called = value.startswith(("torch", "math", "_operator", "#"))
    return bool(_OPERATOR.fullmatch(value)) if called else True


def is_plain_expression(text: str) -> bool:
    """True for arithmetic on symbols, numbers and torch's size functions: `FloorDiv(Symbol('s0', positive=True), 2)`."""
    if len(text) > 10_000:
        return False
    try:
        return _is_plain(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_plain(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float, bool)
    if isinstance(node, ast.Name):
        return node.id in _CONSTANTS or _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.UnaryOp):
        return _is_plain(node.operand)
    if isinstance(node, ast.BinOp):
        # A tower of powers would take all memory to evaluate.
        small = not isinstance(node.op, ast.Pow) or isinstance(node.right, ast.Constant) and node.right.value in range(9)
        return small and _is_plain(node.left) and _is_plain(node.right)
    if isinstance(node, ast.BoolOp):
        return all(map(_is_plain, node.values))
    if isinstance(node, ast.Compare):
        return _is_plain(node.left) and all(map(_is_plain, node.comparators))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _is_plain_call(node.func.id, node.args, node.keywords)
    return False


def _is_plain_call(name: str, args: list[ast.expr], keywords: list[ast.keyword]) -> bool:
    if name == "Symbol":
        plain = len(args) == 1 and isinstance(args[0], ast.Constant) and isinstance(args[0].value, str)
        return (
            plain
            and _SYMBOL.fullmatch(args[0].value) is not None
            and all(k.arg in _ASSUMPTIONS and isinstance(k.value, ast.Constant) for k in keywords)
        )
    if name in ("Float", "Integer", "Rational"):
        numbers = (int, float, str)
        constant = all(isinstance(a, ast.Constant) and type(a.value) in numbers for a in args) or all(map(_is_plain, args))
        text = all(_is_number(a.value) for a in args if isinstance(a, ast.Constant) and isinstance(a.value, str))
        return constant and text and all(k.arg == "precision" and isinstance(k.value, ast.Constant) for k in keywords)
    return name in _FUNCTIONS and not keywords and all(map(_is_plain, args))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?([eE][+-]?\d+)?", text) is not None


def _strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of every text in a JSON document."""
    stack = [(key, content)]
    while stack:
        key, item = stack.pop()
        if isinstance(item, dict):
            stack += item.items()
        elif isinstance(item, list):
            stack += [(key, v) for v in item]
        elif isinstance(item, str):
            yield key, item


def _what_it_is(path: Path) -> str:
    """What a file that is no zip archive seems to be."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            size = path.stat().st_size
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if size == 0:
        return "is empty"
    if head[:2] == b"PK":
        return "is a truncated archive: its directory, at the end of the file, is missing. Copy or save it again."
    if head[:1] == b"\x80" and head[1] in range(2, 6):
        return "is a Python pickle, which is not loaded: it could execute code. Save the model with torch.export.save."
    if head[:4] == b"\x08\x0a\x12\x07" or path.suffix == ".onnx":
        return "is an ONNX file, not a .pt2 archive"
    return "is no .pt2 archive (torch.export.save writes those)"


def _which_zip(names: list[str]) -> str:
    if any(n.endswith("data.pkl") for n in names):
        if any(n.startswith("code/") for n in names):
            return "is a TorchScript archive, not a .pt2: export the module with torch.export and save that"
        return "is a checkpoint of torch.save (pickled), not a .pt2: load it in a factory, or use torch.export.save"
    if any(n.startswith("data/aotinductor") for n in names):
        return "holds a compiled library (AOTInductor), not a program that could be compiled"
    if "serialized_exported_program.json" in names:
        return "was written by a torch before 2.8: load it there and save it anew"
    return f"is a zip archive, but holds no exported program (first entries: {', '.join(names[:3]) or 'none'})"


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


__all__ = ["examine", "is_plain_expression", "load_pt2"]
