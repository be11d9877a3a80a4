"""Rotations of the residual stream and of the value heads: exact, refused by name, composable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qcompiler.calibration import load_samples
from qcompiler.ir import DType, Graph, GraphBuilder, Value, verify_graph
from qcompiler.passes.base import Context, Pass
from qcompiler.passes.transform.fold_rotation import rotate_heads, rotate_streams
from qcompiler.passes.transform.groups import VALUE, find_sites
from qcompiler.passes.transform.learn_rotation import cayley_step
from qcompiler.passes.transform.orthogonal import hadamard, largest_block, rotation
from qcompiler.passes.transform.residual_stream import find_streams
from qcompiler.passes.transform.rotate_residual import RotateResidual, RotateResidualConfig
from qcompiler.passes.transform.rotate_values import RotateValues
from support.decoder import decoder, difference, token_ids

EXACT64, EXACT32 = 1e-9, 1e-5


@pytest.mark.parametrize("size", [1, 2, 4, 12, 20, 24, 28, 36, 60, 64, 108, 140, 576])
def test_hadamard_matrices_are_orthogonal_with_equal_magnitudes(size: int) -> None:
    h = hadamard(size)
    np.testing.assert_allclose(h @ h.T, np.eye(size), atol=1e-12)
    np.testing.assert_allclose(np.abs(h), size**-0.5, atol=1e-12)


@pytest.mark.parametrize(("size", "block"), [(6, 2), (52, 4), (100, 20), (7, 1)])
def test_sizes_without_a_hadamard_matrix_get_blocks_and_say_so(size: int, block: int) -> None:
    with pytest.raises(ValueError, match=f"size {size}"):
        hadamard(size)
    assert largest_block(size) == block
    found = rotation(size, "hadamard", np.random.default_rng(0))
    np.testing.assert_allclose(found.matrix @ found.matrix.T, np.eye(size), atol=1e-12)
    assert f"{size // block} blocks of {block}" in found.note


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [(4, 2), (3, 1)])
@pytest.mark.parametrize("step", [RotateResidual, RotateValues])
def test_rotations_preserve_the_function(norm: str, bias: bool, heads: tuple[int, int], step: type[Pass]) -> None:
    for number, bound in ((np.float64, EXACT64), (np.float32, EXACT32)):
        graph = decoder(norm=norm, bias=bias, heads=heads[0], kv_heads=heads[1], positions=bias, number=number)
        result = step().run(graph, Context())
        assert result.changed and any(n.taken for n in result.notes)
        verify_graph(result.graph)
        assert difference(graph, result.graph) <= bound


def test_rotation_unties_embedding_and_head_and_says_so() -> None:
    graph = decoder(tied=True)
    result = RotateResidual().run(graph, Context())
    assert any("two tables" in n.reason for n in result.notes)
    untied = RotateResidual().run(decoder(tied=False), Context())
    assert not any("two tables" in n.reason for n in untied.notes)


def test_layer_norm_becomes_rms_norm_of_centred_values() -> None:
    result = RotateResidual().run(decoder(norm="layer_norm"), Context()).graph
    assert {n.op for n in result.nodes} & {"rms_norm", "layer_norm"} == {"rms_norm"}


def test_the_same_seed_gives_the_same_rotation() -> None:
    graph = decoder()
    first, second = (RotateResidual().run(graph, Context(seed=3)).graph for _ in range(2))
    assert all(np.array_equal(a.data, b.data) for a, b in zip(first.constants(), second.constants()))
    other = RotateResidual().run(graph, Context(seed=4)).graph
    assert not all(np.array_equal(a.data, b.data) for a, b in zip(first.constants(), other.constants()))


def test_identity_rotations_return_the_same_graph() -> None:
    graph = decoder()
    streams, _ = find_streams(graph)
    assert rotate_streams(graph, {s: np.eye(s.width) for s in streams}, "test") is graph
    sites = [s for s in find_sites(graph)[0] if s.fold == VALUE]
    assert sites and rotate_heads(graph, {s: np.stack([np.eye(4)] * s.heads) for s in sites}, "test") is graph


def test_matrices_that_are_not_orthogonal_are_refused() -> None:
    graph = decoder()
    stream = find_streams(graph)[0][0]
    with pytest.raises(ValueError, match="not orthogonal"):
        rotate_streams(graph, {stream: np.eye(stream.width) * 2}, "test")
    site = next(s for s in find_sites(graph)[0] if s.fold == VALUE)
    with pytest.raises(ValueError, match="not orthogonal"):
        rotate_heads(graph, {site: np.stack([np.eye(4) * 2] * site.heads)}, "test")


def stream_graph(reader: str) -> Graph:
    """embedding -> + linear(rms_norm) -> rms_norm -> head, with one thing that a rotation cannot pass."""
    r = np.random.default_rng(0)

    def const(*shape: int) -> Value:
        return b.const(r.standard_normal(shape))

    b = GraphBuilder("stream")
    ids = b.input("ids", DType.int64, (1, 4))
    x = b.op("gather", const(9, 8), ids, axis=0)
    if reader == "scaled":
        x = b.op("mul", x, const(8))
    n = b.op("rms_norm", x, const(8), eps=1e-6)
    h = b.op("add", x, b.op("linear", n, const(8, 8)))
    outputs = [b.op("linear", b.op("rms_norm", h, eps=1e-6), const(5, 8))]
    if reader == "tanh":
        outputs.append(b.op("tanh", h))
    elif reader == "norm":
        outputs.append(b.op("tanh", n))
    elif reader == "output":
        outputs.append(h)
    elif reader == "mixed":
        outputs.append(b.op("linear", b.op("layer_norm", h, eps=1e-6), const(5, 8)))
    return b.build(outputs)


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        ("tanh", "tanh at .* reads the stream"),
        ("norm", "tanh at .* reads rms_norm"),
        ("output", "returns a value of the stream"),
        ("mixed", "both kinds"),
        ("scaled", "mul at .* writes the stream"),
    ],
)
def test_streams_with_an_outside_reader_are_refused_by_name(reader: str, reason: str) -> None:
    import re

    graph = stream_graph(reader)
    result = RotateResidual().run(graph, Context())
    assert not result.changed and result.graph is graph
    assert any(not n.taken and re.search(reason, n.reason) for n in result.notes), [n.reason for n in result.notes]


def test_nothing_stands_in_the_way_of_the_plain_stream() -> None:
    graph = stream_graph("")
    assert RotateResidual().run(graph, Context()).changed


def test_a_learned_rotation_lowers_its_loss_and_stays_exact() -> None:
    graph = decoder(norm="layer_norm", bias=True)
    context = Context(samples=load_samples([(token_ids(i),) for i in range(4)], graph))
    result = RotateResidual(RotateResidualConfig(learn_steps=20)).run(graph, context)
    figures = result.notes[-1].data
    assert figures["loss_after"] < figures["loss_before"]
    assert difference(graph, result.graph) <= EXACT64


def test_cayley_steps_stay_orthogonal_and_go_down() -> None:
    torch.manual_seed(0)
    target, r = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0], torch.eye(6, dtype=torch.float64)
    losses = []
    for _ in range(60):
        losses.append(float(((r - target) ** 2).sum()))
        r = cayley_step(r, 2 * (r - target), 0.1)
        assert float((r @ r.T - torch.eye(6)).abs().max()) < 1e-10
    assert losses[-1] < losses[0] / 2
    assert torch.equal(cayley_step(r, torch.zeros_like(r), 0.1), r)
