"""RepQ-ViT's reparameterization: the codes of per-channel quantization under one scale."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration import load_samples
from qcompiler.errors import UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, GraphBuilder
from qcompiler.passes.base import Context
from qcompiler.passes.transform.reparameterize_layer_norm import (
    ReparameterizeConfig,
    ReparameterizeLayerNorm,
    reparameterization,
)
from qcompiler.passes.transform.site_rows import SampleRows
from support.decoder import decoder, difference, token_ids


def rows(seed: int = 0) -> np.ndarray:
    r = np.random.default_rng(seed)
    return (r.standard_normal((200, 16)) * np.exp(r.standard_normal(16)) + r.standard_normal(16) * 3).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_equal_those_of_per_channel_quantization(bits: int) -> None:
    x = rows().astype(np.float64)
    f = reparameterization([SampleRows.of(x.astype(np.float32))], bits, True, ReparameterizeConfig())
    levels = (1 << bits) - 1
    low, high = np.minimum(x.astype(np.float32).min(0), 0.0), np.maximum(x.astype(np.float32).max(0), 0.0)
    scale = (high.astype(np.float64) - low) / levels
    zero = np.round(-low / scale)
    common, centre = scale.mean(), np.round(zero.mean())
    before = np.round(x / scale) + zero
    after = np.round((x - f.z) / f.t / common) + centre
    # Where x / s falls on a tie of the rounding, the last digit of float64 decides.
    assert (before != after).mean() < 1e-3


@pytest.mark.parametrize("common", ["mean", "median"])
@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm"])
def test_the_function_is_preserved(common: str, norm: str) -> None:
    graph = decoder(norm=norm, bias=True)
    context = Context(samples=load_samples([(token_ids(i),) for i in range(4)], graph))
    result = ReparameterizeLayerNorm(ReparameterizeConfig(common=common, clip="mse")).run(graph, context)
    assert result.changed and sum(n.taken for n in result.notes) == 4
    assert difference(graph, result.graph) <= 1e-9
    replayed = ReparameterizeLayerNorm().run(graph, Context(locked=context.decisions)).graph
    assert all(np.array_equal(a.data, b.data) for a, b in zip(result.graph.constants(), replayed.constants()))


def test_one_scale_for_all_channels_loses_far_less_afterwards() -> None:
    """4 bits on a tensor whose channels differ by two orders of magnitude."""
    r = np.random.default_rng(1)
    b = GraphBuilder("norm")
    x = b.input("x", DType.float64, (8, 16))
    gamma, beta = np.exp(r.standard_normal(16) * 1.5), r.standard_normal(16) * 5
    graph = b.build([b.op("linear", b.op("layer_norm", x, b.const(gamma), b.const(beta), eps=1e-5), b.const(np.eye(16)))])
    data = [r.standard_normal((8, 16)) for _ in range(6)]
    context = Context(samples=load_samples([(d,) for d in data], graph))
    after = ReparameterizeLayerNorm().run(graph, context).graph

    def error(g) -> float:
        """Of rounding the linear layer's operand to 4 bits, relative per channel of the result."""
        norm, linear = g.nodes[-2], g.nodes[-1]
        total = 0.0
        for d in data:
            n = run_reference(type(g)("part", g.inputs, g.nodes[:-1], [norm.output], ["n"], g.level), [d])[0]
            step = (max(n.max(), 0) - min(n.min(), 0)) / 15
            total += np.square((np.round(n / step) * step - n) @ linear.operands[1].data.T / gamma).mean()
        return float(total)

    # Steps follow each channel's range; the rounding of the zero point costs some of it.
    assert error(after) < error(graph) / 4


def test_a_nan_in_the_data_is_refused() -> None:
    b = GraphBuilder("norm")
    x = b.input("x", DType.float64, (2, 8))
    graph = b.build([b.op("linear", b.op("layer_norm", x, eps=1e-5), b.const(np.eye(8)))])
    bad = np.ones((2, 8))
    bad[0, 0] = np.nan
    with pytest.raises(UsageError, match="NaN"):
        ReparameterizeLayerNorm().run(graph, Context(samples=load_samples([(bad,), (bad,)], graph)))
    with pytest.raises(UsageError, match="calibration data"):
        ReparameterizeLayerNorm().run(graph, Context())
