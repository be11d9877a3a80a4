"""TVM present, and with the one version of tvm-ffi that it was built with."""

from __future__ import annotations

import functools
import importlib.metadata

from qcompiler.errors import MissingToolError

VERSIONS = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}
REMEDY = "pip install " + " ".join(f"{name}=={version}" for name, version in VERSIONS.items())


def installed() -> dict[str, str]:
    """Installed versions, "" where there is none."""
    found = {}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


@functools.cache
def require_tvm() -> None:
    """Refuse to go on without TVM, or with versions that do not belong together.

    TVM asks for any later tvm-ffi, but the next one changed structures that TVM's library was compiled with: the first
    `tensorize` ends the process. So this is asked before TVM is imported.

    Raises:
        MissingToolError: naming the command that repairs it.
    """
    found = installed()
    if not found["apache-tvm"]:
        raise MissingToolError(f"this target needs TVM, which is not installed: {REMEDY}")
    wrong = [f"{name} {found[name] or 'missing'} (needs {version})" for name, version in VERSIONS.items() if found[name] != version]
    if wrong:
        raise MissingToolError(f"these versions do not work together: {', '.join(wrong)}; a mismatch ends the process later: {REMEDY}")
