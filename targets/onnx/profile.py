"""Where the time of a model goes, node by node, from ONNX Runtime's profiler."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from qcompiler.errors import UsageError
from qcompiler.ir import Node

from .emit import EmittedModel
from .runtime import run_arrays

SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class Profile:
    """Milliseconds per node of the graph, and of borders between real numbers and codes.

    Attributes:
        nodes: the least time seen, summed over the ONNX nodes that a node became. Kernels that ONNX Runtime fuses
            carry the name of one of the fused nodes.
        border_ms: QuantizeLinear, DequantizeLinear and layout changes per element, 0 if there are none.
    """

    nodes: dict[Node, float]
    border_ms: float


class Profiler:
    """A loaded model that is timed run by run; several can take turns. As a whole it is timed after that."""

    def __init__(self, model: EmittedModel, threads: int = 1) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="qcompiler-profile-")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name) / "run")
        data = model.proto.SerializeToString()
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._sources = model.sources

    def run(self, arrays: Sequence[np.ndarray]) -> None:
        """One run, timed node by node until `finish`."""
        run_arrays(self._session, arrays)

    def finish(self) -> Profile:
        """End profiling and add up; the model can be run on.

        Raises:
            UsageError: the temporary folder is full.
        """
        path = Path(self._session.end_profiling())
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:  # ONNX Runtime does not say that it could not write all of it
            raise UsageError(f"the profile in {path.parent} is cut off ({error}): free some space there") from error
        events = [e for e in found if e.get("cat") == "Node" and e["name"].endswith(SUFFIX)]
        self._folder.cleanup()
        least: dict[str, tuple[float, str, int]] = {}
        for event in events:
            name, duration = event["name"][: -len(SUFFIX)], event["dur"] / 1e3
            args = event["args"]
            if name not in least or duration < least[name][0]:
                least[name] = (duration, args.get("op_name", ""), int(args.get("output_size", 0)))
        return Profile(_per_node(least, self._sources), _border(least))


def _per_node(least: Mapping[str, tuple[float, str, int]], sources: Mapping[str, Node]) -> dict[Node, float]:
    times: dict[Node, float] = {}
    for name, (duration, _, _) in least.items():
        source = find_source(name, sources)
        if source is not None:
            times[source] = times.get(source, 0.0) + duration
    return times


def find_source(name: str, sources: Mapping[str, Node]) -> Node | None:
    """The node behind a kernel: optimizations append to the ONNX name (`_nchwc`, `_token_3`, `/MatMulAddFusion`)."""
    while name:
        if name in sources:
            return sources[name]
        cut = max(name.rfind("_"), name.rfind("/"))
        name = name[:cut] if cut > 0 else ""
    return None


def _border(least: Mapping[str, tuple[float, str, int]]) -> float:
    kinds = ("QuantizeLinear", "DequantizeLinear")
    found = [(t, size / (1 if op == kinds[0] else 4)) for t, op, size in least.values() if op in kinds and size]
    elements = sum(n for _, n in found)
    return sum(t for t, _ in found) / elements if elements else 0.0
