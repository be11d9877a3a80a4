"""QuantizeLinear and DequantizeLinear nodes that ONNX Runtime runs as such, each with the reason."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from .runtime import OnnxSession

BORDERS = ("QuantizeLinear", "DequantizeLinear")
# Ops that take or give codes: a Q or DQ beside one of them is a border between real numbers and codes.
INTEGER_OPS = (
    "QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearGlobalAveragePool", "MatMulIntegerToFloat",
    "MatMulInteger", "ConvInteger", "QLinearConcat", "QLinearAveragePool", "QLinearSoftmax", "QLinearSigmoid", "QAttention",
)  # fmt: skip


@dataclass(frozen=True)
class Unfused:
    """One remaining Q or DQ.

    Attributes:
        name: of the ONNX node, which starts with the module path.
        op_type: QuantizeLinear or DequantizeLinear.
        why: what stands on its other side.
    """

    name: str
    op_type: str
    why: str


def unfused_borders(model: Path, threads: int = 1) -> list[Unfused]:
    """Load a model with full optimization, look at the optimized graph and explain each Q and DQ left in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        OnnxSession(model, threads, optimized_path=path)
        graph = onnx.load(path, load_external_data=False).graph
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in graph.node:
        if node.op_type in BORDERS:
            found.append(Unfused(node.name, node.op_type, _why(node, graph, makers, readers)))
    return found


def _why(
    node: onnx.NodeProto, graph: onnx.GraphProto, makers: dict[str, onnx.NodeProto], readers: dict[str, list[onnx.NodeProto]]
) -> str:
    if node.op_type == "QuantizeLinear":
        source = makers.get(node.input[0])
        if source is None:
            return "model input enters integer arithmetic"
        return f"result of {source.op_type} {source.name}, computed in float, enters integer arithmetic"
    if node.input[0] in {t.name for t in graph.initializer}:
        return "constant kept as codes, dequantized when it is read"
    users = readers.get(node.output[0], [])
    if not users:
        return "model output leaves integer arithmetic"
    kinds = sorted({f"{user.op_type} {user.name}" for user in users})
    return f"read by {', '.join(kinds)}, computed in float"
