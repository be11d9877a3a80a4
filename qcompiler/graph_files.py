"""A graph on disk: text beside its arrays. Reading never executes code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qcompiler.errors import GraphError, UsageError

if TYPE_CHECKING:
    from qcompiler.ir import Graph


def graph_to_bytes(graph: Graph) -> tuple[bytes, bytes]:
    """The text of a graph, and the safetensors bytes of the arrays it refers to."""
    from safetensors.numpy import save

    from qcompiler.ir import print_graph

    text, arrays = print_graph(graph)
    return text.encode(), save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def write_graph(graph: Graph, text_path: Path, weights_path: Path) -> None:
    """Write both files. OSError is left to the caller, who knows what the files are part of."""
    text, weights = graph_to_bytes(graph)
    text_path.write_bytes(text)
    weights_path.write_bytes(weights)


def read_graph(text_path: Path, weights_path: Path) -> Graph:
    """Read both files back, checked by the verifier. Raises UsageError where they are missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from qcompiler.ir import parse_graph, verify_graph

    try:
        text, weights = text_path.read_text(encoding="utf-8"), weights_path.read_bytes()
        graph = parse_graph(text, load(weights))
        verify_graph(graph)
    except (OSError, UnicodeDecodeError, SafetensorError, GraphError, KeyError, ValueError) as error:
        raise UsageError(f"cannot read graph {text_path}: {error}") from error
    return graph
