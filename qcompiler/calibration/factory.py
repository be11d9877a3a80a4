"""`module.py:factory`: data from a function in the user's own Python file. Runs that file."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from pathlib import Path
from typing import Any

from qcompiler.errors import CalibrationError, did_you_mean

logger = logging.getLogger(__name__)

_FORM = re.compile(r"^(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)$")


def is_factory(text: str) -> bool:
    """True for `path.py:name`."""
    return _FORM.match(text) is not None


def call_factory(text: str) -> Any:
    """Execute the file and return what its function gives without arguments. Says so in the log.

    Raises:
        CalibrationError: no such file or function, or the code raises.
    """
    match = _FORM.match(text)
    if match is None:
        raise CalibrationError(f"{text!r} is not of the form module.py:factory")
    path, name = Path(match["path"]), match["name"]
    if not path.is_file():
        raise CalibrationError(f"{path} does not exist")
    logger.warning("calibration data: executing the Python code of %s and calling %s()", path, name)
    spec = importlib.util.spec_from_file_location(f"_qcompiler_data_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a .py suffix always has a loader
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # as `python module.py` does, so that the file can import its neighbours
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, name, None)):
            functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise CalibrationError(f"{path} has no function {name!r}.{did_you_mean(name, functions)}")
        return getattr(module, name)()
    except CalibrationError:
        raise
    except Exception as error:
        raise CalibrationError(f"{text} raised {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
