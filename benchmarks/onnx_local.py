"""An imported program beside ONNX Runtime, op by op: every op is fed the runtime's own codes.

The runtime's graph optimizations are off, so it computes what the file says: real numbers between a DequantizeLinear
and a QuantizeLinear. What rounds differently there and here shows as single steps of codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from qcompiler.ir import Graph


@dataclass(frozen=True)
class Local:
    """Codes of all quantized tensors of a sample: how many, how many differ, by at most how much."""

    values: int
    differing: int
    max_lsb: int
    worst: str


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


def runtime_codes(path: Path, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every quantized tensor of a file as ONNX Runtime computes it."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    present = {o.name for o in model.graph.output}
    for node in model.graph.node:
        if node.op_type.startswith(("QuantizeLinear", "QLinear", "QGemm")) and node.output[0] not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def compare_locally(graph: Graph, codes: Mapping[str, np.ndarray], feed: Mapping[str, np.ndarray]) -> Local:
    """Run the reference; wherever the runtime has a tensor of the same name, compare and go on with the runtime's."""
    from qcompiler.executors.reference import bind_inputs, run_node

    arrays = [feed[v.name] for v in graph.inputs]
    bindings = bind_inputs(graph, [a.shape for a in arrays])
    live: dict[Any, np.ndarray] = dict(zip(graph.inputs, arrays, strict=True))
    values = differing = worst = 0
    place = ""
    for node in graph.nodes:
        operands = [None if v is None else v.data if v.data is not None else live[v] for v in node.inputs]
        for value, array in zip(node.outputs, run_node(node, operands, bindings), strict=True):
            theirs = codes.get(value.name) if value.quant is not None else None
            if theirs is not None and theirs.shape == array.shape and theirs.dtype == array.dtype:
                steps = np.abs(array.astype(np.int64) - theirs.astype(np.int64))
                values, differing = values + steps.size, differing + int((steps > 0).sum())
                if steps.max(initial=0) > worst:
                    worst, place = int(steps.max()), node.where()
                array = theirs.astype(array.dtype)
            live[value] = array
    return Local(values, differing, worst, place)
