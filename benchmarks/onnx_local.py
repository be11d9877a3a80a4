"""An imported program beside ONNX Runtime, op by op: every op is fed the runtime's own tensors.

The runtime has two forms of a file. Not optimized it computes what the file says: real numbers between a
DequantizeLinear and a QuantizeLinear. Optimized it computes on codes where it has a kernel for that. What rounds
differently there and here shows as single steps of codes, and real ops as differences of a few units of 2^-24.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ON_CODES = frozenset({"dynamic_linear"})
"""Ops whose real result is an integer product times its scales: compared like codes, to equality."""

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Node


@dataclass(frozen=True)
class Local:
    """Results of one sample.

    Attributes:
        values: results of ops on codes.
        differing: those that differ.
        max_lsb: by at most so many codes.
        max_rel: largest difference of a real tensor, relative to its largest magnitude.
    """

    values: int
    differing: int
    max_lsb: int
    max_rel: float


def without_saturation(model: Any) -> Any:
    """The same model with its int8 weights stored as uint8, 128 higher.

    On a CPU without VNNI the runtime adds pairs of uint8 x int8 products in 16 bits, which saturates; products of
    two uint8 do not. The function of the file is the same, on every machine.
    """
    import onnx
    from onnx import numpy_helper

    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    tensors = {t.name: t for t in moved.graph.initializer}
    places = {
        "MatMulInteger": (1, 3), "ConvInteger": (1, 3), "DequantizeLinear": (0, 2), "QLinearConv": (3, 5), "QLinearMatMul": (3, 5),
        "QGemm": (3, 5), "MatMulIntegerToFloat": (1, 5), "DynamicQuantizeMatMul": (1, 3),
    }  # fmt: skip
    for node in moved.graph.node:
        codes, point = places.get(node.op_type, (len(node.input), 0))
        weight = tensors.get(node.input[codes]) if codes < len(node.input) else None
        if weight is None or weight.data_type != onnx.TensorProto.INT8 or point >= len(node.input):
            continue
        for index in (codes, point):  # under a new name: others may read the old one
            old = tensors[node.input[index]]
            name = f"{old.name}.uint8"
            if name not in tensors:
                array = (numpy_helper.to_array(old).astype(np.int16) + 128).astype(np.uint8)
                tensors[name] = numpy_helper.from_array(array, name)
                moved.graph.initializer.append(tensors[name])
            node.input[index] = name
    return moved


def optimized_file(path: Path, folder: Path) -> Path:
    """A file as ONNX Runtime optimizes it, in NCHW layout."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    return folder / "optimized.onnx"


def runtime_tensors(path: Path, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor of a file as ONNX Runtime computes it, op by op as they are written."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    present = {o.name for o in model.graph.output}
    for name in (name for node in model.graph.node for name in node.output):
        if name and name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def _from_codes(graph: Graph, node: Node) -> bool:
    """True for a real product of codes, and for its sum with a bias, which the runtime has in one op."""
    producers = [graph.producer(v) for v in node.operands] if node.op == "add" else []
    return node.op in ON_CODES or any(p is not None and p.op in ON_CODES for p in producers)


def compare_locally(graph: Graph, theirs: Mapping[str, np.ndarray], feed: Mapping[str, np.ndarray]) -> Local:
    """Run the reference; wherever the runtime has a tensor of the same name, compare and go on with the runtime's."""
    from qcompiler.executors.reference import bind_inputs, run_node

    arrays = [feed[v.name] for v in graph.inputs]
    bindings = bind_inputs(graph, [a.shape for a in arrays])
    live: dict[Any, np.ndarray] = dict(zip(graph.inputs, arrays, strict=True))
    values = differing = worst = 0
    furthest = 0.0
    for node in graph.nodes:
        operands = [None if v is None else v.data if v.data is not None else live[v] for v in node.inputs]
        for value, array in zip(node.outputs, run_node(node, operands, bindings), strict=True):
            other = theirs.get(value.name)
            # names of indices and masks may be those of other tensors there
            if other is None or other.shape != array.shape or other.dtype != array.dtype or not (value.quant or array.dtype.kind == "f"):
                live[value] = array
                continue
            if value.quant is not None or _from_codes(graph, node):
                values, differing = values + array.size, differing + int((array != other).sum())
            if value.quant is not None:
                worst = max(worst, int(np.abs(array.astype(np.int64) - other.astype(np.int64)).max(initial=0)))
            else:
                furthest = max(furthest, float(np.abs(array - other).max(initial=0) / max(np.abs(other).max(initial=0), 1e-30)))
            live[value] = other
    return Local(values, differing, worst, furthest)
