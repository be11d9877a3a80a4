"""A trained network that ONNX Runtime quantized, as C: no new calibration, every integer as in the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import qcompiler as qc
from benchmarks.models import MODELS
from qcompiler.errors import UsageError
from qcompiler.ir import DType

from .models import info, model, node


def _images(count: int, seed: int) -> list[np.ndarray]:
    """Smooth images; the integers are compared, not the classes."""
    coarse = np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)
    return list(np.kron(coarse, np.ones((1, 1, 4, 4), np.float32))[:, None])


class _Reader:
    def __init__(self) -> None:
        self.rest = iter(_images(6, 0))

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.rest, None)
        return None if image is None else {"x": image}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, example = MODELS["resnet8"].load()
    path = tmp_path_factory.mktemp("resnet8") / "float.onnx"
    torch.onnx.export(network, example, path, dynamo=False, opset_version=17, input_names=["x"])
    return path


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_quantized_network_as_c(exported: Path, form: str) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    path = exported.with_name(f"{form}.onnx")
    quantize_static(
        exported, path, _Reader(), quant_format=QuantFormat[form], per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    images = _images(4, 1)
    compiled = qc.compile(path, target="host-c", evaluation=[(x,) for x in images])
    assert compiled.report.recipe == "as imported" and compiled.report.accuracy.sqnr_db > 25
    for image in images:
        assert np.array_equal(compiled.run(image, raw=True)[0], compiled.reference(image, raw=True)[0])
        assert np.unique(compiled.run(image, raw=True)[0]).size > 5
    _takes_bytes(path, compiled, images)


def _takes_bytes(path: Path, real: qc.Compiled, images: list[np.ndarray]) -> None:
    """The same network without the quantization of its input: codes in, the same integers out."""
    made = onnx.load(path)
    first = next(n for n in made.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x")
    scale, zero = (onnx.numpy_helper.to_array(next(t for t in made.graph.initializer if t.name == name)) for name in first.input[1:])
    made.graph.node.remove(first)
    made.graph.input[0].name = first.output[0]
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    codes = [np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8) for x in images]
    compiled = qc.compile(made, target="host-c", evaluation=[(x,) for x in codes])
    assert compiled.graph.inputs[0].dtype is DType.uint8
    for image, bytes_ in zip(images, codes, strict=True):
        assert np.array_equal(compiled.run(bytes_, raw=True)[0], real.run(image, raw=True)[0])


def test_a_real_function_between_codes_needs_data() -> None:
    """Its integer form is chosen by what it does to the operand."""
    weights = {"s": np.float32(0.05), "z": np.uint8(128)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Softmax", ["d"], ["p"]),
        node("QuantizeLinear", ["p", "s", "z"], ["r"]),
        node("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    made = model(nodes, [info("x", [1, 8])], ["y"], weights)
    with pytest.raises(UsageError, match="calibration data to choose the forms"):
        qc.compile(made, target="host-c", evaluation=[(np.ones((1, 8), np.float32),)])


def test_constant_codes_in_a_sum_get_a_sign_too() -> None:
    """Biases of matrix products, which ONNX Runtime's quantizer adds as uint8 codes of their own."""
    weights = {
        "s": np.float32(0.05), "z": np.uint8(100), "b": np.array([0, 40, 129, 255], np.uint8), "t": np.float32(0.02),
        "u": np.uint8(130),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["b", "t", "u"], ["c"]),
        node("Add", ["d", "c"], ["e"]),
        node("QuantizeLinear", ["e", "s", "z"], ["r"]),
        node("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    made = model(nodes, [info("x", [1, 4])], ["y"], weights)
    compiled = qc.compile(made, target="host-c", evaluation=[(np.ones((1, 4), np.float32),)])
    for seed in range(5):
        x = np.random.default_rng(seed).normal(scale=3, size=(1, 4)).astype(np.float32)
        codes = np.clip(np.rint(x / np.float32(0.05)) + 100, 0, 255) - 100
        total = codes * 0.05 + (weights["b"].astype(float) - 130) * 0.02
        wanted = (np.clip(np.floor(total / 0.05 + 0.5) + 100, 0, 255) - 100) * 0.05
        np.testing.assert_allclose(compiled.run(x)[0], wanted, rtol=0, atol=1e-4)  # real arithmetic against float32
