"""The bench of imports: its document's tables, and the runtime's arithmetic against the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from benchmarks import onnx_arithmetic as arithmetic
from benchmarks.bench_import import PARTS, write_part
from qcompiler.executors.reference import run_reference
from qcompiler.frontend.onnx import import_onnx

TABLE = "| network | result |\n|---|---|\n| first | 1 |\n| second | 2 |\n| second | 3 |"
TEXT = f"before\n<!-- size begins -->\n{TABLE}\n<!-- size ends -->\nafter\n"


def test_single_rows_replace_those_of_their_name() -> None:
    found = write_part(TEXT, "size", "| network | result |\n|---|---|\n| second | 4 |\n| third | 5 |")
    assert found == TEXT.replace("| second | 2 |\n| second | 3 |", "| second | 4 |\n| third | 5 |")
    assert write_part(found, "size", TABLE) == TEXT.replace("| second | 3 |", "| second | 3 |\n| third | 5 |")


def test_a_table_with_other_columns_replaces_the_whole() -> None:
    other = "| network | time |\n|---|---|\n| second | 4 |"
    assert write_part(TEXT, "size", other) == TEXT.replace(TABLE, other)
    assert write_part(TEXT, "size", TABLE) == TEXT


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks <!-- trained begins -->"):
        write_part(TEXT, "trained", TABLE)


def test_every_part_has_its_place_in_the_document() -> None:
    text = (Path(__file__).parents[1] / "docs" / "onnx_import.md").read_text(encoding="utf-8")
    for part in PARTS:
        begin, end = text.index(f"<!-- {part} begins -->"), text.index(f"<!-- {part} ends -->")
        assert text[begin:end].count("\n|") >= 3, part


def _model(op: str, x: np.ndarray, weights: list[np.ndarray], domain: str = "", **attrs: Any) -> ModelProto:
    constants = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    node = helper.make_node(op, ["x", *(t.name for t in constants)], ["y"], domain=domain, **attrs)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", x.shape), ("y", None))]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _computed(model: ModelProto) -> ModelProto:
    """With its weight behind an op: the runtime packs constants only."""
    model.graph.node.insert(0, helper.make_node("Identity", ["w0"], ["w"]))
    model.graph.node[1].input[1] = "w"
    return model


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 2, shape).astype(np.float32)


WINDOW: Mapping[str, Any] = {"pads": [1, 0, 1, 2], "strides": [2, 1], "dilations": [1, 1]}
NORM = [_random(40, seed=2), _random(40, seed=3)]
CASES = {
    "erf": _model("Erf", _random(3, 50), []),
    "gelu": _model("Gelu", _random(3, 50), []),
    "softmax": _model("Softmax", 9 * _random(3, 50), [], axis=-1),
    "layer_norm": _model("LayerNormalization", _random(5, 40), NORM, epsilon=1e-5),
    "skip_layer_norm": _model("SkipLayerNormalization", _random(1, 5, 40), [_random(1, 5, 40, seed=1), *NORM], "com.microsoft"),
    "matmul": _model("MatMul", _random(3, 6, 300), [_random(300, 20, seed=1)]),
    "linear": _model("Gemm", _random(1, 300), [_random(12, 300, seed=1), _random(12, seed=2)], transB=1),
    "computed": _computed(_model("Gemm", _random(1, 48), [_random(12, 48, seed=1), _random(12, seed=2)], transB=1)),
    "rows": _computed(_model("Gemm", _random(3, 300), [_random(12, 300, seed=1), _random(12, seed=2)], transB=1)),
    "conv": _model("Conv", _random(1, 15, 9, 8), [_random(6, 15, 3, 3, seed=1), _random(6, seed=2)], group=1, **WINDOW),
    "grouped": _model("Conv", _random(1, 6, 9, 8), [_random(6, 3, 3, 3, seed=1)], group=2, **WINDOW),
    "depthwise": _model("Conv", _random(1, 6, 9, 8), [_random(6, 1, 3, 3, seed=1), _random(6, seed=2)], group=6, **WINDOW),
    "mean": _model("ReduceMean", _random(1, 6, 7, 7), [np.array([2, 3])], keepdims=1),
}
INPUTS = {name: _random(*(d.dim_value for d in m.graph.input[0].type.tensor_type.shape.dim), seed=5) for name, m in CASES.items()}


def _has_the_kernels() -> bool:
    """AVX2 and FMA, and none of the longer vectors that the runtime would prefer."""
    cpu = Path("/proc/cpuinfo")
    flags = set(cpu.read_text().split()) if cpu.exists() else set()
    return {"avx2", "fma"} <= flags and "avx512f" not in flags


@pytest.mark.parametrize("name", CASES)
def test_real_ops_are_rounded_as_by_the_runtime(name: str, tmp_path: Path) -> None:
    x = INPUTS[name] * (9 if name == "softmax" else 1)
    path = tmp_path / "one.onnx"
    path.write_bytes(CASES[name].SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"x": x})[0]
    graph = import_onnx(path)
    bodies = arithmetic.runtime_bodies(graph, CASES[name])
    assert bodies
    ours = arithmetic.run_with(graph, [x], bodies)[0]
    plain = run_reference(graph, [x])[0]
    # float32 sums of up to 300 terms in another order
    assert np.abs(ours - plain).max() <= 3e-6 * np.abs(plain).max()
    if _has_the_kernels():
        assert np.array_equal(ours, theirs)
    else:
        assert np.abs(ours - theirs).max() <= 3e-6 * np.abs(theirs).max()
