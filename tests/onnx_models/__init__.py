"""Running a ModelProto in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime


def run_model(model: onnx.ModelProto, arrays: list[np.ndarray], optimize: bool = True) -> list[np.ndarray]:
    """Outputs of the model; the checker sees it first unless it has com.microsoft ops."""
    if all(not node.domain for node in model.graph.node):
        runtime_only = {"SimplifiedLayerNormalization"}
        if not runtime_only & {node.op_type for node in model.graph.node}:
            onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    level = "ORT_ENABLE_ALL" if optimize else "ORT_DISABLE_ALL"
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {i.name: a for i, a in zip(model.graph.input, arrays, strict=True)}
    return list(session.run(None, feeds))
