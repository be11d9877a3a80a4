"""Blocks of a network, from module paths: what is rounded, reconstructed and kept together."""

from __future__ import annotations

import re

from qcompiler.ir import Node

_BLOCK = re.compile(r"(.*?\.?\d+)(?:\.|$)")


def block_of(node: Node) -> str:
    """The module path up to the first number (`model.layers.3`), or all of it where there is none."""
    found = _BLOCK.match(node.origin.module)
    return found.group(1) if found else node.origin.module
