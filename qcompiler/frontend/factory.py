"""`module.py:factory`: the one form of model that runs code of the user's, and says so."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch

from ..errors import UsageError, did_you_mean

log = logging.getLogger("qcompiler.frontend")

USER_MODULE = "qcompiler_user_"
"""What the names of the user's modules start with."""

_FORM = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)")


def split_factory(text: str) -> tuple[Path, str] | None:
    """(path, function) of `module.py:factory`; None for other texts.

    Raises:
        UsageError: a Python file without a function name.
    """
    match = _FORM.fullmatch(text)
    if match is not None:
        return Path(match["path"]), match["name"]
    if text.endswith(".py"):
        raise UsageError(f"{text} is a Python file: name the function that makes the model, {text}:factory")
    return None


def load_callable(path: Path, name: str) -> Any:
    """A function of a Python file. The file's folder is importable while the file is executed.

    Raises:
        UsageError: no such file or function, or the file fails.
    """
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    log.warning("running code from %s", path)
    spec = importlib.util.spec_from_file_location(f"{USER_MODULE}{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    folder = os.fspath(path.resolve().parent)
    sys.path.insert(0, folder)
    sys.modules[spec.name] = module  # dataclasses and pickling look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path} fails: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    if not callable(getattr(module, name, None)):
        functions = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise UsageError(f"{path} has no function {name!r}.{did_you_mean(name, functions)}")
    return getattr(module, name)


def load_factory(path: Path, name: str) -> tuple[Any, Any]:
    """(model, example inputs or None) that a factory returns.

    Raises:
        UsageError: the factory fails or returns something else.
    """
    factory = load_callable(path, name)
    try:
        made = factory()
    except Exception as error:
        raise UsageError(f"{path}:{name} fails: {type(error).__name__}: {error}") from error
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, (torch.nn.Module, torch.export.ExportedProgram)):
        raise UsageError(
            f"{path}:{name} returned {type(model).__name__}; a factory returns the module, or (module, example_inputs)"
        )
    return model, inputs
