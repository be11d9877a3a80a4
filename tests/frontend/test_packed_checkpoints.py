"""Checkpoints that others quantized: every code, scale and zero point as their layouts define them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import qcompiler as qc
from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.frontend import capture
from qcompiler.frontend.packed_checkpoint import AWQ_ORDER, read_packed
from qcompiler.imported import bring_in
from qcompiler.passes.base import Context
from support.tiny_llama import tiny_llama

GROUP = 32


def _words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Rows of unsigned codes as a stream of bits in words of 32, written bit by bit."""
    rows, count = codes.shape
    words = np.zeros((rows, -(-count * bits // 32)), np.uint64)
    for i in range(count):
        for bit in range(bits):
            at = i * bits + bit
            words[:, at // 32] |= ((codes[:, i].astype(np.uint64) >> bit) & 1) << (at % 32)
    return words.astype(np.uint32).view(np.int32)


def _whole_words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Words that hold whole codes only, as compressed-tensors packed before its stream."""
    each = 32 // bits
    padded = np.pad(codes, [(0, 0), (0, -codes.shape[1] % each)]).astype(np.uint64).reshape(len(codes), -1, each)
    return (padded << (np.arange(each) * bits).astype(np.uint64)).sum(-1).astype(np.uint32).view(np.int32)


def _random(rng: np.random.Generator, rows: int, channels: int, bits: int, zeros: bool) -> dict[str, np.ndarray]:
    """Unsigned codes [N, K], scales and zero points [N, G]."""
    groups = channels // GROUP
    middle = np.full((rows, groups), 1 << (bits - 1))
    return {
        "codes": rng.integers(0, 1 << bits, (rows, channels)),
        "scale": rng.uniform(0.005, 0.02, (rows, groups)).astype(np.float16),
        "zero": rng.integers(1, (1 << bits), (rows, groups)) if zeros else middle,
    }


def _layout(method: str, layer: dict[str, np.ndarray], bits: int, order: np.ndarray | None, stream: bool = True) -> dict[str, np.ndarray]:
    codes, scale, zero = layer["codes"], layer["scale"], layer["zero"]
    if method == "compressed-tensors":
        pack = _words if stream else _whole_words
        found = {"weight_packed": pack(codes, bits), "weight_scale": scale, "weight_shape": np.array(codes.shape)}
        if (zero != 1 << (bits - 1)).any():
            found["weight_zero_point"] = np.ascontiguousarray(pack(np.ascontiguousarray(zero.T), bits).T)
        return found
    if method == "gptq":
        found = {
            "qweight": np.ascontiguousarray(_words(codes, bits).T), "scales": np.ascontiguousarray(scale.T),
            "qzeros": _words(np.ascontiguousarray(zero.T - 1), bits),
        }  # fmt: skip
        return found if order is None else {**found, "g_idx": order.astype(np.int32)}
    columns = lambda a: _words(np.ascontiguousarray(a.reshape(len(a), -1, 8)[..., list(AWQ_ORDER)].reshape(len(a), -1)), 4)  # noqa: E731
    return {
        "qweight": columns(np.ascontiguousarray(codes.T)), "scales": np.ascontiguousarray(scale.T),
        "qzeros": columns(np.ascontiguousarray(zero.T)),
    }  # fmt: skip


def _config(method: str, bits: int, zeros: bool) -> dict[str, Any]:
    if method == "compressed-tensors":
        weights = {"num_bits": bits, "type": "int", "symmetric": not zeros, "strategy": "group", "group_size": GROUP}
        groups = {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}
        return {"quant_method": method, "format": "pack-quantized", "config_groups": groups, "ignore": ["lm_head"]}
    return {"quant_method": method, "bits": bits, "group_size": GROUP, "version": "gemm", "zero_point": True, "desc_act": False}


CASES = [
    *[("compressed-tensors", bits, zeros) for bits in (3, 4, 8) for zeros in (False, True)],
    *[("gptq", bits, zeros) for bits in (2, 3, 4, 8) for zeros in (False, True)],
    ("awq", 4, False),
    ("awq", 4, True),
]


@pytest.mark.parametrize(("method", "bits", "zeros"), CASES)
def test_layouts(method: str, bits: int, zeros: bool) -> None:
    layer = _random(np.random.default_rng(0), 32, 64, bits, zeros)
    tensors = {f"a.fc.{n}": t for n, t in _layout(method, layer, bits, None).items()}
    (packed,) = read_packed(_config(method, bits, zeros), tensors).values()
    offset = 0 if packed.codes.dtype == np.uint8 else 1 << (bits - 1)
    assert packed.bits == bits and packed.group == GROUP and packed.order is None
    assert np.array_equal(packed.codes.astype(int) + offset, layer["codes"]) and np.array_equal(packed.zero + offset, layer["zero"])
    assert np.array_equal(packed.scale, layer["scale"].astype(np.float32))


def test_older_words_of_compressed_tensors() -> None:
    layer = _random(np.random.default_rng(0), 10, 64, 3, True)
    tensors = {f"fc.{n}": t for n, t in _layout("compressed-tensors", layer, 3, None, stream=False).items()}
    packed = read_packed(_config("compressed-tensors", 3, True), tensors)["fc"]
    assert np.array_equal(packed.codes.astype(int) + 4, layer["codes"]) and np.array_equal(packed.zero + 4, layer["zero"])


def test_zero_points_of_both_formats_of_gptq() -> None:
    """The first stores one less; a zero point of 0 wraps around to the largest code."""
    layer = _random(np.random.default_rng(0), 32, 64, 4, True)
    layer["zero"][0, 0] = 0
    tensors = {f"fc.{n}": t for n, t in _layout("gptq", layer, 4, None).items() if n != "qzeros"}
    for form, stored in (("gptq", (layer["zero"] - 1) % 16), ("gptq_v2", layer["zero"])):
        given = {**tensors, "fc.qzeros": _words(np.ascontiguousarray(stored.T), 4)}
        packed = read_packed({**_config("gptq", 4, True), "checkpoint_format": form}, given)["fc"]
        assert np.array_equal(packed.zero, layer["zero"])


def _checkpoint(folder: Path, method: str, bits: int, zeros: bool, ordered: bool = False) -> tuple[Any, dict[str, dict[str, np.ndarray]]]:
    """A tiny decoder whose linear layers are packed, and the same as a float model."""
    model = tiny_llama()
    model.save_pretrained(folder)
    tensors, rng = load_file(folder / "model.safetensors"), np.random.default_rng(0)
    layers = {}
    for path, module in model.model.named_modules(prefix="model"):
        if not isinstance(module, torch.nn.Linear):
            continue
        rows, channels = module.weight.shape
        layer = _random(rng, rows, channels, bits, zeros)
        groups = np.arange(channels) // GROUP
        order = rng.permutation(groups) if ordered else None
        used = groups if order is None else order
        real = (layer["codes"] - layer["zero"][:, used]) * layer["scale"].astype(np.float32)[:, used]
        module.weight.data = torch.from_numpy(real.astype(np.float32))
        del tensors[f"{path}.weight"]
        tensors |= {f"{path}.{n}": np.ascontiguousarray(t) for n, t in _layout(method, layer, bits, order).items()}
        layers[path] = layer
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": _config(method, bits, zeros)}))
    return model, layers


@pytest.mark.parametrize(("method", "zeros", "ordered"), [("compressed-tensors", False, False), ("gptq", True, True), ("awq", True, False)])
def test_a_decoder(tmp_path: Path, method: str, zeros: bool, ordered: bool) -> None:
    """Each weight stays codes in the program, and the model computes what its dequantized weights do."""
    model, layers = _checkpoint(tmp_path, method, 4, zeros, ordered)
    ids = torch.randint(0, 500, (2, 9), generator=torch.Generator().manual_seed(0))
    captured = capture(tmp_path, {"input_ids": ids})
    graph, float_graph, _ = bring_in(captured, Context(), None, True)
    linears = [n for n in graph.nodes if n.op == "weight_only_linear"]
    assert len(linears) == len(layers) == 14
    offset = 0 if zeros else 8
    stored = {(n.operands[1].data.astype(int) + offset).tobytes() for n in linears}
    orders = {n.operands[1].quant.group_size for n in linears}
    if not ordered:
        assert stored == {layer["codes"].tobytes() for layer in layers.values()}
    assert orders == {GROUP} and all(n.operands[1].dtype.bits == 4 for n in linears)
    with torch.no_grad():
        wanted = model(input_ids=ids, use_cache=False).logits.numpy()
    for program in (graph, float_graph):
        got = run_reference(program, [ids.numpy()])[0]
        assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_compiled_to_the_runtime_s_kernel(tmp_path: Path) -> None:
    _, layers = _checkpoint(tmp_path, "awq", 4, True)
    ids = np.random.default_rng(0).integers(0, 500, (2, 9))
    compiled = qc.compile(tmp_path, target="onnxruntime-cpu", evaluation=[{"input_ids": ids}], example_inputs={"input_ids": torch.from_numpy(ids)})
    kernels = [row.kernel for row in compiled.report.coverage if row.op == "weight_only_linear"]
    assert kernels == ["MatMulNBits"] * len(layers) and compiled.report.accuracy.sqnr_db > 80


@pytest.mark.parametrize(
    ("config", "missing", "error", "text"),
    [
        ({"quant_method": "bitsandbytes"}, "", UnsupportedError, "read are compressed-tensors, gptq, awq"),
        ({"quant_method": "awq", "version": "gemv", "bits": 4}, "", UnsupportedError, "version gemv"),
        ({"quant_method": "awq", "bits": 4}, "scales", UsageError, "fc: tensor scales is missing"),
        ({"quant_method": "gptq", "bits": 4}, "qweight", UsageError, "no tensor ends in"),
        ({"quant_method": "gptq", "bits": 8}, "", UsageError, "fc: "),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "", UnsupportedError, "float-quantized"),
    ],
)
def test_what_is_not_read_is_named(config: dict[str, Any], missing: str, error: type[Exception], text: str) -> None:
    layer = _random(np.random.default_rng(0), 32, 64, 4, True)
    tensors = {f"fc.{n}": t for n, t in _layout("awq", layer, 4, None).items() if n != missing}
    with pytest.raises(error, match=text):
        read_packed(config, tensors)


def test_layers_that_do_not_fit_the_model(tmp_path: Path) -> None:
    _checkpoint(tmp_path, "awq", 4, True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))
    with pytest.raises(UsageError, match="mlp"):
        capture(tmp_path)
