"""Models that another tool quantized: same scales, same integers, every form that tools write."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

import qcompiler as qc
from benchmarks.onnx_local import without_saturation
from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.frontend.onnx import import_onnx
from qcompiler.imported import bring_in
from qcompiler.ir import DType, Graph, Level, verify_graph
from qcompiler.passes.base import Context

from .models import info, model, node


class _Net(torch.nn.Module):
    """Convolutions with a residual sum, a pool, a mean and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = torch.nn.Conv2d(8, 8, 1)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.point(torch.nn.functional.relu6(self.depthwise(x)))
        return self.head(torch.nn.functional.max_pool2d(x, 2).mean((2, 3)))


def _samples(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(1, 3, 12, 12)).astype(np.float32) for _ in range(count)]


class _Reader:
    def __init__(self) -> None:
        self.rest: Iterator[np.ndarray] = iter(_samples(8, 0))

    def get_next(self) -> dict[str, np.ndarray] | None:
        sample = next(self.rest, None)
        return None if sample is None else {"x": sample}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("quantized") / "float.onnx"
    torch.onnx.export(
        _Net().eval(), (torch.zeros(1, 3, 12, 12),), path, dynamo=False, opset_version=17, input_names=["x"],
        dynamic_axes={"x": {0: "batch"}},
    )  # fmt: skip
    return path


def _quantize(exported: Path, form: str) -> Path:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    path = exported.with_name(f"{form}.onnx")
    if form == "dynamic":
        quantize_dynamic(exported, path, per_channel=True, weight_type=QuantType.QInt8)
    else:
        quantize_static(
            exported, path, _Reader(), quant_format=QuantFormat[form], per_channel=True, reduce_range=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    return path


def _session(made: onnx.ModelProto, optimize: bool = True) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _program(made: onnx.ModelProto | Path) -> Graph:
    graph, _, _ = bring_in(import_onnx(made), Context(), None, True)
    verify_graph(graph, Level.QUANTIZED)
    return graph


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
def test_runtime_quantized_network(exported: Path, form: str) -> None:
    path = _quantize(exported, form)
    graph = _program(path)
    ops = Counter(n.op for n in graph.nodes if any(v.quant is not None for v in (*n.operands, *n.outputs)))
    if form != "dynamic":
        assert (ops["conv"], ops["linear"], ops["requantize_sum"], ops["reduce_mean"]) == (3, 1, 1, 1)
        assert ops["quantize"] == ops["dequantize"] == 1  # nothing real between the first and the last
    else:
        assert ops["dynamic_linear"] == 1
    session = _session(without_saturation(onnx.load(path)))
    for sample in _samples(4, 1):
        wanted = session.run(None, {"x": sample})[0]
        # Static forms end in codes, so one step would show; dynamic ones sum real numbers in another order.
        np.testing.assert_allclose(run_reference(graph, [sample])[0], wanted, rtol=0, atol=0 if form != "dynamic" else 1e-5)


@pytest.mark.parametrize(("activations", "weights"), [("QUInt8", "QUInt8"), ("QUInt16", "QInt8"), ("QInt16", "QInt8")])
def test_weights_per_tensor_and_activations_of_16_bits(exported: Path, activations: str, weights: str) -> None:
    """Biases then have a scale of shape [1]; the pool, the padding and the sums get codes of 16 bits."""
    from onnxruntime.quantization import QuantType, quantize_static

    path = exported.with_name(f"{activations}_{weights}.onnx")
    quantize_static(exported, path, _Reader(), activation_type=QuantType[activations], weight_type=QuantType[weights])
    data = [(s,) for s in _samples(4, 1)]
    compiled = qc.compile(path, target="onnx", evaluation=data)
    session = _session(onnx.load(path))
    for (sample,) in data:
        wanted = session.run(None, {"x": sample})[0]
        # The runtime computes on 16-bit codes in real numbers, which may turn one code over.
        tolerance = 0 if activations == "QUInt8" else 2.0**-14 * float(np.abs(wanted).max())
        np.testing.assert_allclose(compiled.run(sample)[0], wanted, rtol=0, atol=tolerance)
    if activations != "QUInt8":
        with pytest.raises(UnsupportedError, match=r"nothing was quantized[\s\S]*conv at stem: no kernel for codes of u?int16"):
            qc.compile(path, target="onnxruntime-cpu", evaluation=data)


@pytest.mark.parametrize("target", ["onnx", "onnxruntime-cpu"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_imported_artefacts_keep_the_integers_and_come_back(exported: Path, tmp_path: Path, form: str, target: str) -> None:
    """No calibration data: only what is evaluated. The artefact imported again is the same program."""
    path = _quantize(exported, form)
    compiled = qc.compile(path, target=target, evaluation=[(s,) for s in _samples(4, 1)], allow_slow=True)
    compiled.save(tmp_path / "out")
    assert compiled.report.recipe == "as imported" and compiled.report.accuracy.sqnr_db > 20
    assert all(row.quantized for row in compiled.report.coverage)
    again = _program(tmp_path / "out" / "model.onnx")
    for sample in _samples(4, 1):
        (wanted,) = compiled.reference(sample)
        assert np.array_equal(compiled.run(sample)[0], wanted)
        assert np.array_equal(run_reference(again, [sample])[0], wanted)


def test_a_compiled_network_comes_back_with_the_same_integers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = [(s,) for s in _samples(6, 0)]
    for target in ("onnx", "onnxruntime-cpu"):
        compiled = qc.compile(_Net().eval(), (torch.zeros(1, 3, 12, 12),), target=target, calibration=data, allow_slow=True)
        compiled.save(tmp_path / target)
        again = _program(tmp_path / target / "model.onnx")
        if target == "onnx":  # the other stores weights with more channels, or as uint8
            assert _codes(again) == _codes(compiled.graph)
        for (sample,) in data:
            # The last layer's bias is added to real numbers in the file, to accumulators in the program.
            wanted = compiled.reference(sample)[0]
            np.testing.assert_allclose(run_reference(again, [sample])[0], wanted, rtol=0, atol=2e-7 * np.abs(wanted).max())


class _Mlp(torch.nn.Module):
    """Linear layers with a real function between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(64, 128), torch.nn.Linear(128, 8, bias=False)
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.second(torch.nn.functional.gelu(self.first(x))))


@pytest.mark.parametrize("target", ["onnx", "onnxruntime-cpu"])
@pytest.mark.parametrize(("recipe", "op"), [("w4a16", "weight_only_linear"), ("w8a8-dynamic", "dynamic_linear")])
def test_weights_of_few_bits_come_back(tmp_path: Path, recipe: str, op: str, target: str) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    data = [(rng.normal(size=(2, 3, 64)).astype(np.float32),) for _ in range(6)]
    compiled = qc.compile(_Mlp().eval(), (torch.zeros(2, 3, 64),), target=target, recipe=recipe, calibration=data, allow_slow=True)
    compiled.save(tmp_path / "out")
    again = _program(tmp_path / "out" / "model.onnx")
    assert [n.op for n in again.nodes if n.op.endswith("_linear")] == [op, op]
    if recipe == "w4a16":
        weights = [[v for v in g.constants() if v.quant is not None] for g in (compiled.graph, again)]
        assert {v.dtype for v in weights[1]} == {DType.int4} and _all_codes(compiled.graph) == _all_codes(again)
    for (sample,) in data:
        assert np.array_equal(run_reference(again, [sample])[0], compiled.reference(sample)[0])


def _all_codes(graph: Graph) -> set[tuple[bytes, bytes]]:
    return {(v.data.tobytes(), v.quant.scale.tobytes()) for v in graph.constants() if v.data is not None and v.quant is not None}


def test_integer_programs_come_back_from_their_folder(tmp_path: Path) -> None:
    """Integers alone say nothing about scales: the program is taken from beside the file, if it is the file's."""
    torch.manual_seed(0)
    data = [(s,) for s in _samples(6, 0)]
    out = tmp_path / "out"
    compiled = qc.compile(_Net().eval(), (torch.zeros(1, 3, 12, 12),), target="onnx", recipe="w8a8-int", calibration=data, allow_slow=True)
    compiled.save(out)
    again = qc.compile(out / "model.onnx", target="host-c", evaluation=data)
    assert again.report.recipe == "as imported" and again.report.accuracy.sqnr_db > 20
    for (sample,) in data:
        assert np.array_equal(again.run(sample, raw=True)[0], compiled.run(sample, raw=True)[0])
    (tmp_path / "model.onnx").write_bytes((out / "model.onnx").read_bytes())
    with pytest.raises(UsageError, match="integers only, and no scales"):
        qc.compile(tmp_path / "model.onnx", target="onnx", evaluation=data)
    changed = onnx.load(out / "model.onnx")
    changed.graph.node[0].name = "other"
    onnx.save(changed, out / "model.onnx")
    with pytest.raises(UsageError, match="was changed"):
        qc.compile(out / "model.onnx", target="onnx", evaluation=data)


def _codes(graph: Graph) -> set[tuple[bytes, bytes]]:
    """Weight codes with their scales."""
    weights = [v for v in graph.constants() if v.data is not None and v.quant is not None and v.dtype.bits == 8]
    return {(v.data.tobytes(), v.quant.scale.tobytes()) for v in weights}


def _weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-7, 8, shape).astype(np.int8)


def test_scales_are_read_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.001, 0.1, 5).astype(np.float32)
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
        node("DequantizeLinear", ["w", "ws"], ["wd"], axis=1),
        node("MatMul", ["d", "wd"], ["m"]),
        node("Add", ["m", "b"], ["y"]),
    ]
    weights = {
        "xs": np.float32(0.1), "xz": np.uint8(100), "w": _weights(rng, 6, 5), "ws": scale, "b": rng.normal(size=5).astype(np.float32),
    }  # fmt: skip
    graph = _program(model(nodes, [info("x", ["n", 6])], ["y"], weights))
    product = next(n for n in graph.nodes if n.op == "linear")
    assert product.operands[0].quant.scale == np.float32(0.1) and product.operands[0].quant.zero_point == 100
    assert np.array_equal(product.operands[1].quant.scale, scale) and np.array_equal(product.operands[1].data, weights["w"].T)


@pytest.mark.parametrize(("kind", "low", "high"), [(TensorProto.INT4, -8, 8), (TensorProto.UINT4, 0, 16), (TensorProto.INT8, -128, 128)])
def test_blocked_weights(kind: int, low: int, high: int) -> None:
    """Groups of 8 rows of a [K, N] weight, as weight-only tools write them; the weight stays codes."""
    rng = np.random.default_rng(0)
    codes, scale = rng.integers(low, high, (16, 4)), rng.uniform(0.01, 0.1, (2, 4)).astype(np.float32)
    nodes = [node("DequantizeLinear", ["w", "ws"], ["wd"], axis=0, block_size=8), node("MatMul", ["x", "wd"], ["y"])]
    made = model(nodes, [info("x", [3, 16])], ["y"], {"ws": scale})
    made.graph.initializer.append(onnx.helper.make_tensor("w", kind, (16, 4), codes.ravel()))
    graph = import_onnx(made)
    weight = next(v for v in graph.constants() if v.quant is not None)
    assert weight.quant.group_size == 8 and np.array_equal(weight.data, codes) and graph.level is Level.QUANTIZED
    x = rng.normal(size=(3, 16)).astype(np.float32)
    wanted = x @ (codes * np.repeat(scale, 8, 0)).astype(np.float32)
    np.testing.assert_allclose(run_reference(graph, [x])[0], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run_reference(_program(made), [x])[0], wanted, rtol=1e-5, atol=1e-5)


def test_embedding_tables_stay_codes() -> None:
    table = np.arange(12, dtype=np.uint8).reshape(4, 3)
    nodes = [node("Gather", ["t", "ids"], ["g"]), node("DequantizeLinear", ["g", "s", "z"], ["y"])]
    weights = {"t": table, "s": np.float32(0.5), "z": np.uint8(3)}
    graph = _program(model(nodes, [info("ids", [2], TensorProto.INT64)], ["y"], weights))
    assert [n.op for n in graph.nodes] == ["gather", "dequantize"]
    assert np.array_equal(run_reference(graph, [np.array([3, 0])])[0], (table[[3, 0]].astype(np.float32) - 3) * 0.5)


def test_vectors_of_codes_that_no_layer_reads_are_real_numbers() -> None:
    """ONNX Runtime's quantizer stores the weight of a norm as codes."""
    weights = {"w": np.array([-3, 7, 120, -128], np.int8), "s": np.float32(0.02), "z": np.int8(1)}
    nodes = [node("DequantizeLinear", ["w", "s", "z"], ["r"]), node("LayerNormalization", ["x", "r"], ["y"], axis=-1)]
    graph = _program(model(nodes, [info("x", [2, 4])], ["y"], weights))
    (norm,) = graph.nodes
    expected = (weights["w"].astype(np.float32) - 1) * np.float32(0.02)
    assert norm.op == "layer_norm" and np.array_equal(norm.operands[1].data, expected)


def test_codes_are_moved_before_they_are_dequantized() -> None:
    """One reshape serves the reader of codes and that of real numbers."""
    weights = {"s": np.float32(0.05), "z": np.int8(-20), "shape": np.array([3, 2])}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Reshape", ["d", "shape"], ["r"]),
        node("Exp", ["r"], ["y"]),
        node("QuantizeLinear", ["r", "s", "z"], ["again"]),
        node("DequantizeLinear", ["again", "s", "z"], ["w"]),
    ]
    graph = _program(model(nodes, [info("x", [2, 3])], ["y", "w"], weights))
    assert Counter(n.op for n in graph.nodes)["reshape"] == 1
    (reshape,) = [n for n in graph.nodes if n.op == "reshape"]
    assert reshape.operands[0].dtype is DType.int8
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    real = (np.clip(np.rint(x / np.float32(0.05)) - 20, -128, 127) + 20).astype(np.float32).reshape(3, 2) * np.float32(0.05)
    first, second = run_reference(graph, [x])
    np.testing.assert_allclose(first, np.exp(real), rtol=1e-6)
    assert np.array_equal(second, real)


def test_codes_of_two_scales_are_refused() -> None:
    nodes = [node("QuantizeLinear", ["x", "a"], ["q"]), node("DequantizeLinear", ["q", "b"], ["y"])]
    with pytest.raises(UnsupportedError, match="another scale or zero point"):
        import_onnx(model(nodes, [info("x", [2])], ["y"], {"a": np.float32(0.1), "b": np.float32(0.2)}))


def test_integer_products_alone() -> None:
    """Read as numbers, not as a layer: exact int32."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (3, 700)).astype(np.uint8), rng.integers(-128, 128, (700, 4)).astype(np.int8)
    made = model([node("MatMulInteger", ["a", "b", "az"], ["y"])], [info("a", [3, 700], TensorProto.UINT8)], ["y"], {"b": b, "az": np.uint8(7)})
    graph = import_onnx(made)
    assert graph.level is Level.FLOAT and graph.outputs[0].dtype is DType.int32
    assert np.array_equal(run_reference(graph, [a])[0], (a.astype(np.int64) - 7) @ b.astype(np.int64))


def _has_fma() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return platform.machine() in ("x86_64", "AMD64") and cpuinfo.is_file() and " fma " in cpuinfo.read_text()


@pytest.mark.parametrize("seed", range(4))
def test_sums_of_all_pairs_of_codes_are_those_of_the_runtime(seed: int) -> None:
    """Half of the scales are such that many sums are ties. Other processors of the runtime round otherwise."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.01, 0.3, 3).astype(np.float32)
    if seed % 2:
        scale[:2] = scale[2] * rng.integers(1, 40, 2).astype(np.float32) / np.float32(32)
    zero = rng.integers(0, 256, 3).astype(np.uint8)
    codes = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    feed = {n: ((c - int(z)) * s).astype(np.float32).reshape(1, -1) for n, c, z, s in zip("ab", codes, zero, scale, strict=False)}
    weights = {f"{n}{k}": v for n, s, z in zip("aby", scale, zero, strict=True) for k, v in (("s", s), ("z", z))}
    nodes = [
        node("QuantizeLinear", ["a", "as", "az"], ["qa"]), node("QuantizeLinear", ["b", "bs", "bz"], ["qb"]),
        node("QLinearAdd", ["qa", "as", "az", "qb", "bs", "bz", "ys", "yz"], ["y"], domain="com.microsoft"),
    ]  # fmt: skip
    made = model(nodes, [info(n, [1, 65536]) for n in feed], ["y"], weights)
    graph, _, _ = bring_in(import_onnx(made), Context(), None, True)
    theirs = _session(made).run(None, feed)[0].astype(int)
    steps = np.abs(run_reference(graph, [feed["a"], feed["b"]])[0].astype(int) - theirs)
    assert steps.max() <= (0 if _has_fma() else 1)
