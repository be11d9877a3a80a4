"""Quantized networks: fused into the kernels wanted, exact where they promise to be, near the reference elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_models import quantized_models as models
from onnx_models import run_model

from qcompiler.errors import UnsupportedError, VerificationError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, GraphBuilder, Level, QuantParams, verify_graph
from qcompiler.targets import get_target
from qcompiler.targets.onnx.emit import emit_model
from qcompiler.targets.onnx.emitter import Style
from qcompiler.targets.saturation import is_pair_safe

TARGETS = ["onnx", "onnxruntime-cpu:avx2", "onnxruntime-cpu:avx512_vnni"]


def kinds(model) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_op_agrees_with_reference(name: str, target: str, tmp_path: Path) -> None:
    graph, arrays = models.MODELS[name]()
    verify_graph(graph)
    # Without VNNI, weights for VNNI machines may saturate: that is what the ISA is for.
    target_ = get_target(target if target != "onnxruntime-cpu:avx512_vnni" or not models.saturates_here() else "onnx")
    target_.emit(graph, tmp_path)
    result = target_.verify(graph, tmp_path, [arrays])
    result.check()
    assert result.sqnr_db > 30
    fused = name == "self_attention" and target_.runtime_kernels  # quantize and QAttention
    sites = 2 if fused else models.SITES[name]
    assert {setting: len(checks) for setting, checks in result.ops.items()} == {"off": sites, "on": sites}


def test_kernels_of_a_convolution_network() -> None:
    graph, _ = models.cnn()
    model = emit_model(graph, Style(runtime_kernels=True))
    assert kinds(model.proto) == [
        "QuantizeLinear", "Pad", "QLinearConv", "QLinearConv", "Clip", "QLinearConv", "QLinearAdd",
        "QLinearGlobalAveragePool", "Reshape", "MatMulIntegerToFloat",
    ]  # fmt: skip
    portable = emit_model(graph, Style()).proto
    assert {node.domain for node in portable.graph.node} == {""}
    assert {o.domain for o in portable.opset_import} == {""}


def test_kernels_of_a_transformer_block() -> None:
    graph, _ = models.mlp()
    names = kinds(emit_model(graph, Style(runtime_kernels=True)).proto)
    assert names == [
        "QuantizeLinear", "MatMulIntegerToFloat", "Gelu", "QuantizeLinear", "MatMulIntegerToFloat", "Sum",
        "LayerNormalization",
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [None, 1, "seq"])
@pytest.mark.parametrize("safe", [True, False])
def test_self_attention_is_one_kernel(rows: str | int | None, safe: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompiler.targets.onnx import quantized_common

    graph, arrays = models.self_attention(rows)
    if not safe:
        monkeypatch.setattr(quantized_common, "is_pair_safe", lambda codes, groups=1: False)
    emitted = emit_model(graph, Style(runtime_kernels=True, int16_pair_products=True))
    names = kinds(emitted.proto)
    assert names.count("QAttention") == 1 and not {"MatMul", "Softmax", "Transpose"} & set(names)
    assert [r.kernel for r in emitted.rows if r.op in ("linear", "attention")] == ["QAttention"] * 4
    (expected,) = run_reference(graph, arrays)
    for optimize in (False, True):
        (got,) = run_model(emitted.proto, arrays, optimize)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    if rows is not None:
        assert not expected[1, 0].any()


@pytest.mark.parametrize("options", [{"shared": False}, {"scale": 0.4}, {"causal": True}, {"mask_rows": None, "causal": True}])
def test_other_attentions_stay_separate(options: dict) -> None:
    graph, arrays = models.self_attention(**options)
    emitted = emit_model(graph, Style(runtime_kernels=True, int16_pair_products=True))
    assert "QAttention" not in kinds(emitted.proto)
    (got,), (expected,) = run_model(emitted.proto, arrays), run_reference(graph, arrays)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_weights_that_could_saturate_are_stored_unsigned() -> None:
    codes = np.full((4, 6), 100, np.int8)
    graph, arrays = models.one_linear(codes)
    assert not is_pair_safe(codes)
    for style, kind in ((Style(True, False, True), np.uint8), (Style(True), np.int8)):
        emitted = emit_model(graph, style)
        weight = next(t for t in emitted.proto.graph.initializer if "transposed" in t.name)
        assert {2: np.uint8, 3: np.int8}[weight.data_type] is kind
    emitted = emit_model(graph, Style(True, False, True))
    assert "could saturate" in emitted.rows[1].why
    (got,), (expected,) = run_model(emitted.proto, arrays), run_reference(graph, arrays)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_multipliers_of_passes_survive() -> None:
    """A multiplier that is not sx * sw / sy is what the kernel computes with."""
    graph, arrays = models.one_conv(multiplier=0.75)
    (expected,) = run_reference(graph, arrays)
    for style in (Style(), Style(runtime_kernels=True)):
        (got,) = run_model(emit_model(graph, style).proto, arrays)
        assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1
        assert expected.std() > 10


def test_verification_finds_a_wrong_artefact(tmp_path: Path) -> None:
    graph, arrays = models.cnn()
    target = get_target("onnxruntime-cpu:avx2")
    other, _ = models.cnn(seed=1)
    target.emit(other, tmp_path)
    result = target.verify(graph, tmp_path, [arrays])
    assert result.sqnr_db < 20 and result.differing > 0


def test_verification_names_the_op_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompiler.targets.onnx import emit_kernels, verify

    graph, arrays = models.cnn()
    real = emit_kernels.weight_scale
    monkeypatch.setattr(emit_kernels, "weight_scale", lambda fusion: real(fusion) * np.float32(1.1))
    checks, _ = verify.check_ops(graph, Style(runtime_kernels=True, int16_pair_products=True), arrays)
    failed = [c.where for c in checks["on"] if not c.passed]
    assert failed == [c.where for c in checks["off"] if not c.passed]
    assert failed[0].startswith("conv at stem")


def test_failures_raise() -> None:
    from qcompiler.targets.onnx.verify import Verification

    with pytest.raises(VerificationError, match="conv at stem"):
        Verification("quantized", 1, {}, 1.0, 1, None, ("conv at stem: wrong",)).check()


@pytest.mark.parametrize("style", [Style(), Style(runtime_kernels=True)], ids=["standard", "kernels"])
def test_zero_points_of_weights_per_channel(style: Style) -> None:
    """Products of matrices take them; convolutions of integers do not."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("m", Level.QUANTIZED)
    x = b.input("x", DType.uint8, (2, 4), QuantParams(DType.uint8, 0.1, 3))
    quant = QuantParams(DType.uint8, np.ones(3), np.array([0, 130, 255]), axis=0)
    graph = b.build([b.op("linear", x, b.const(rng.integers(0, 256, (3, 4)), quant=quant))])
    arrays = [rng.integers(0, 256, (2, 4)).astype(np.uint8)]
    (got,) = run_model(emit_model(graph, style).proto, arrays)
    assert np.array_equal(got, run_reference(graph, arrays)[0])
    c = GraphBuilder("c", Level.QUANTIZED)
    image = c.input("x", DType.uint8, (1, 4, 5, 5), x.quant)
    acc = c.op("conv", image, c.const(rng.integers(0, 256, (3, 4, 1, 1)), quant=quant), strides=(1, 1), pads=(0,) * 4, dilations=(1, 1), groups=1)
    with pytest.raises(UnsupportedError, match="differ between channels"):
        emit_model(c.build([acc]), style)
    out = c.op("requantize", acc, c.const(np.ones(3, np.float32)), quant=QuantParams(DType.uint8, 1.0, 0), rounding="float32_half_even")
    emitted = emit_model(c.build([out]), style)
    images = [rng.integers(0, 256, (1, 4, 5, 5)).astype(np.uint8)]
    wanted = run_reference(c.build([out]), images)[0].astype(int)
    assert np.abs(run_model(emitted.proto, images)[0].astype(int) - wanted).max() <= 1  # computed in real numbers
    if style.runtime_kernels:
        assert [r.dtype for r in emitted.rows if r.op == "conv"] == ["float32"]
