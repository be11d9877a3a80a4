"""Where in the user's model a torch node comes from."""

from __future__ import annotations

import os
import re
from typing import Any

import torch

from ..ir import Origin

_TORCH = os.path.dirname(torch.__file__) + os.sep
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_SELF = re.compile(r"^L\['self'\]\.?|^L__self__\.?")


class OriginReader:
    """Reads module path and source line from a node's metadata; equal ones share one Origin."""

    def __init__(self) -> None:
        self._cache: dict[tuple[str, str], Origin] = {}

    def read(self, node: Any) -> Origin:
        """The node's module path and its innermost source line outside torch."""
        key = (_module(node.meta.get("nn_module_stack")), _source(node.meta.get("stack_trace") or ""))
        if key not in self._cache:
            self._cache[key] = Origin(*key)
        return self._cache[key]


def _module(stack: Any) -> str:
    """Path of the innermost module; a second call of one module (`layer@1`) has the path of the first."""
    if not stack:
        return ""
    path = str(next(reversed(stack.values()))[0])
    return _SELF.sub("", path).replace("@1", "")


def _source(trace: str) -> str:
    """`file.py:line` of the innermost frame that is not torch's own; torch's where there is no other."""
    frames = _FRAME.findall(trace)
    for path, line in reversed(frames):
        if not path.startswith(_TORCH):
            return f"{os.path.basename(path)}:{line}"
    return f"{os.path.basename(frames[-1][0])}:{frames[-1][1]}" if frames else ""
