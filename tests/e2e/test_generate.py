"""A decoder with its cache outside the graph: prompt at once or token by token, against transformers' own cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qcompiler
from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.frontend.decoder import CachedDecoder
from qcompiler.generation import Cache, generate
from support.tiny_llama import VOCABULARY, tiny_llama

IDS = np.random.default_rng(0).integers(0, VOCABULARY, (1, 9))


@pytest.fixture(scope="module")
def decoder() -> CachedDecoder:
    return CachedDecoder(tiny_llama())


@pytest.fixture(scope="module")
def compiled(decoder: CachedDecoder) -> qcompiler.Compiled:
    inputs, shapes = decoder.example(256)
    rules = [{"match": "lm_head", "scheme": "dynamic", "granularity": "group", "weight_bits": 8}]
    recipe = {"base": "w4a16", "group_size": 32, "rounding": "nearest", "keep_head": False, "rules": rules}
    return qcompiler.compile(decoder, inputs, recipe=recipe, dynamic_shapes=shapes)


def test_float_graph_agrees_with_transformers(decoder: CachedDecoder, compiled: qcompiler.Compiled) -> None:
    session, cache = compiled.target.open_float(compiled.float_graph), Cache(decoder.state_shape, 16)
    with torch.no_grad():
        expected = tiny_llama()(torch.from_numpy(IDS)).logits[0].numpy()
    for part in (IDS[:, :5], IDS[:, 5:6], IDS[:, 6:9]):
        logits, present = session.run([part, cache.past])
        cache.append(present)
        np.testing.assert_allclose(logits[0, -1], expected[cache.length - 1], rtol=1e-3, atol=1e-4)


def test_prompt_at_once_and_token_by_token_are_the_same(decoder: CachedDecoder, compiled: qcompiler.Compiled) -> None:
    once = compiled.run(IDS, np.zeros((0, *decoder.state_shape), np.float32))
    cache = Cache(decoder.state_shape, 9)
    for token in IDS[0]:
        logits, present = compiled.run(np.array([[token]]), cache.past)
        cache.append(present)
    np.testing.assert_allclose(logits, once[0], rtol=2e-2, atol=2e-2 * np.abs(once[0]).max())
    np.testing.assert_allclose(cache.past, once[1], rtol=1e-3, atol=1e-4)


def test_tied_matrix_is_stored_once_in_float(compiled: qcompiler.Compiled) -> None:
    """The embedding in float, the vocabulary layer in 8 bits: five bytes for each number."""
    kernels = {row.module: row.dtype for row in compiled.report.coverage if row.op == "dynamic_linear"}
    assert kernels == {"lm_head": "int8 x int8"}
    assert (compiled.folder / "model.onnx").stat().st_size < VOCABULARY * 64 * 5.2 + 2 * (4 * 64 * 64 + 3 * 64 * 128)


def test_operands_of_16_bits_agree_with_real_ones(decoder: CachedDecoder, compiled: qcompiler.Compiled) -> None:
    """The same weights; operands off by at most 2^-16 of the largest in their group."""
    inputs, shapes = decoder.example(256)
    recipe = {"base": "w4a16", "group_size": 32, "rounding": "nearest", "scheme": "dynamic", "granularity": "group"}
    wide = qcompiler.compile(decoder, inputs, recipe={**recipe, "activation_bits": 16}, dynamic_shapes=shapes)
    kernels = {(row.op, row.kernel, row.dtype) for row in wide.report.coverage}
    assert ("dynamic_linear", "MatMulNBits", "int16 x int4") in kernels
    assert ("attention", "GroupQueryAttention", "float32") in kernels and ("rotary", "RotaryEmbedding", "float32") in kernels
    past = np.zeros((0, *decoder.state_shape), np.float32)
    for a, b in zip(wide.run(IDS, past)[1:], compiled.run(IDS, past)[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * np.abs(b).max())


def test_generation_takes_the_likeliest_and_stops() -> None:
    def run(ids: np.ndarray, past: np.ndarray) -> list[np.ndarray]:
        logits = np.zeros((1, 1, 10), np.float32)
        logits[0, 0, (int(ids[0, -1]) + 1) % 10] = 1
        return [logits, np.ones((ids.shape[1], 2), np.float32)]

    assert [t.id for t in generate(run, [3, 4], (2,), 4)] == [5, 6, 7, 8]
    assert [t.id for t in generate(run, [3, 4], (2,), 8, stop=7)] == [5, 6]
    with pytest.raises(UsageError, match="no token"):
        next(generate(run, [], (2,), 1))


def test_a_full_cache_is_refused() -> None:
    cache = Cache((2,), 3)
    cache.append(np.ones((3, 2), np.float32))
    with pytest.raises(UsageError, match="holds 3 tokens, 4 are needed"):
        cache.append(np.ones((1, 2), np.float32))


def test_other_architectures_are_refused() -> None:
    module = torch.nn.Linear(2, 2)
    module.config = object()
    with pytest.raises(UnsupportedError, match="Linear is no causal language model"):
        CachedDecoder(module)
