"""The C++ compiler and the vendor's types. Missing ones are named with their package."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from qcompiler.errors import MissingToolError

FLAGS = ("-std=c++14", "-O2", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-parameter")
NATIVE = "-DQC_NATIVE"


def compiler() -> str:
    """Path of a C++ compiler.

    Raises:
        MissingToolError: naming the Debian package.
    """
    for name in ("c++", "g++", "clang++"):
        if path := shutil.which(name):
            return path
    raise MissingToolError("a C++ compiler is needed to run HLS projects on this machine, and none is installed: apt-get install g++")


def vendor_options() -> list[str]:
    """Options that compile with the vendor's types, which read their own bits before they are set."""
    return ["-isystem", str(vendor_types()), "-Wno-uninitialized", "-Wno-maybe-uninitialized"]


def vendor_types() -> Path:
    """The folder with ap_int.h and hls_stream.h in the package hls4ml.

    Raises:
        MissingToolError: it is not installed.
    """
    try:
        found = importlib.util.find_spec("hls4ml")
    except (ImportError, ValueError):
        found = None
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        folder = Path(place) / "templates" / "vivado" / "ap_types"
        if (folder / "ap_int.h").is_file():
            return folder
    raise MissingToolError(
        "the package hls4ml, which brings the vendor's ap_int.h, is not installed: pip install 'qcompiler[fpga]'"
    )
