"""Every canonicalization pass: matches, refuses with a reason, is idempotent, exact, and composes with every other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Origin, verify_graph
from qcompiler.ir.dims import symbol
from qcompiler.passes.base import Context, Kind, Pass, check_order
from qcompiler.passes.canonicalize import (
    DropIdentities,
    FoldAffine,
    FoldBatchNorm,
    FoldConstants,
    FoldPadding,
    FuseAttention,
    FuseGelu,
    FuseHardSwish,
    FuseLayerNorm,
    FuseRmsNorm,
    FuseRotary,
    FuseSilu,
    MatmulToLinear,
    MergeDuplicates,
    MergeParallelConvs,
    NormalizeClips,
    WidenHalf,
    canonicalize_passes,
)
from support import canonical_sites as site
from support.sketch import Sketch, sketch

F32, F64 = DType.float32, DType.float64

# (pass, site, ops of the result)
MATCHES: list[tuple[type[Pass], Callable[..., Any], str]] = [
    (FoldBatchNorm, site.conv_bn, "conv"),
    (FoldBatchNorm, partial(site.conv_bn, bias=False), "conv"),
    (FoldBatchNorm, partial(site.conv_bn, groups=2), "conv"),
    (FoldBatchNorm, site.conv_transpose_bn, "conv_transpose"),
    (FoldBatchNorm, lambda s: site.batch_norm(s, s.linear(s.x(3, 4), s.w(6, 4)), 6), "linear"),
    (FoldBatchNorm, lambda s: site.batch_norm(s, s.x(2, 4, 5), 4), "mul add"),
    (FoldBatchNorm, lambda s: site.batch_norm(s, s.linear(s.x(2, 3, 4), s.w(6, 4)), 3), "linear mul add"),
    (FoldBatchNorm, site.conv_bn_shared_output, "conv mul add relu"),
    (FoldAffine, site.linear_scaled, "linear"),
    (FoldAffine, partial(site.linear_scaled, transposed=True), "linear transpose"),
    (
        FoldAffine,
        lambda s: s.add(s.w(6, 1, 1), s.conv(s.x(1, 4, 5, 5), s.w(6, 4, 3, 3), None, **site.CONV)),
        "conv",
    ),
    (FoldAffine, lambda s: s.sub(s.linear(s.x(3, 4), s.w(5, 4), s.w(5)), s.w(5)), "linear"),
    (FoldAffine, lambda s: s.mul(s.linear(s.x(3, 4), s.w(5, 4), s.w(5)), 0.125), "linear"),
    (FoldPadding, site.padded, "conv"),
    (FoldPadding, site.padded_pool, "max_pool"),
    (MatmulToLinear, lambda s: s.matmul(s.x(2, 3, 4), s.w(4, 5)), "linear"),
    (MatmulToLinear, site.tied_table, "gather mul linear"),
    (NormalizeClips, site.limits, "clip"),
    (NormalizeClips, site.relu_chain, "clip"),
    (NormalizeClips, lambda s: s.clip(s.x(3, 4), min=0), "relu"),
    (NormalizeClips, lambda s: (lambda y: [s.clip(y, max=1), y])(s.maximum(s.x(3, 4), 0.0)), "relu clip"),
    (FuseLayerNorm, site.layer_norm_steps, "layer_norm"),
    (FuseLayerNorm, partial(site.layer_norm_steps, form="rsqrt", square="pow"), "layer_norm"),
    (FuseLayerNorm, partial(site.layer_norm_steps, affine=False), "layer_norm"),
    (FuseLayerNorm, partial(site.layer_norm_steps, axes=(2, 3)), "layer_norm"),
    (
        FuseLayerNorm,
        lambda s: s.add(s.mul(s.layer_norm(s.x(3, 8), None, None, eps=1e-5), s.w(8)), s.w(8)),
        "layer_norm",
    ),
    (FuseRmsNorm, site.rms_norm_steps, "rms_norm"),
    (FuseRmsNorm, partial(site.rms_norm_steps, form="div", weight="last"), "rms_norm"),
    (FuseRmsNorm, partial(site.rms_norm_steps, weight="none"), "rms_norm"),
    (FuseRmsNorm, lambda s: s.mul(s.w(8), s.rms_norm(s.x(3, 8), None, eps=1e-5)), "rms_norm"),
    *[(FuseGelu, partial(site.gelu_erf, order=i), "gelu") for i in range(4)],
    *[(FuseGelu, partial(site.gelu_tanh, form=i), "gelu") for i in range(3)],
    (FuseGelu, site.gated_gelu, "gelu mul"),
    (FuseGelu, lambda s: (lambda x: s.mul(x, s.sigmoid(s.mul(1.702, x))))(s.x(3, 4)), "gelu"),
    (FuseSilu, lambda s: (lambda x: s.mul(s.sigmoid(x), x))(s.x(3, 4)), "silu"),
    (FuseSilu, site.swish_division, "silu"),
    (FuseSilu, site.mish_steps, "mish"),
    *[(FuseHardSwish, partial(site.hard_swish_steps, form=i), "hard_swish") for i in range(4)],
    (FuseHardSwish, lambda s: s.clip(s.add(s.mul(s.x(9), 1 / 6), 0.5), min=0, max=1), "hard_sigmoid"),
    (FuseHardSwish, lambda s: s.div(s.clip(s.add(s.x(9), 3.0), min=0, max=6), 6.0), "hard_sigmoid"),
    (FuseRotary, site.rotary_halves, "rotary"),
    (FuseRotary, site.rotary_partial, "rotary"),
    (FuseRotary, site.rotary_interleaved, "rotary"),
    (FuseRotary, site.rotary_of_merged_slices, "rotary"),
    (FuseRotary, partial(site.rotary_of_merged_slices, start=4), "slice slice rotary concat"),
    (FuseAttention, site.attention_steps, "attention"),
    (FuseAttention, partial(site.attention_steps, scale="q", mask=(2, 1, 5, 7)), "attention"),
    (FuseAttention, partial(site.attention_steps, scale="both", mask=(5, 7)), "attention"),
    (FuseAttention, partial(site.attention_steps, groups=2), "attention"),
    (FuseAttention, partial(site.attention_steps, scale="both", groups=4, mask=(1, 4, 5, 7)), "attention"),
    (FuseAttention, partial(site.attention_steps, rank=3, mask=(5, 7)), "attention"),
    (FuseAttention, site.attention_where, "attention"),
    (FuseAttention, partial(site.attention_where, hides=True), "logical_not attention"),
    (FuseAttention, partial(site.attention_where, hidden=-1e9, hides=True), "logical_not attention"),
    (FuseAttention, partial(site.attention_where, hidden=-65504.0), "attention"),
    (FuseAttention, site.attention_of_repeated_heads, "attention"),
    (FuseAttention, site.attention_in_windows, "add expand reshape attention"),
    (FuseAttention, site.attention_scaled_key_one_repeat, "reshape expand reshape attention"),
    (FuseAttention, site.attention_turned_key, "transpose transpose attention"),
    (DropIdentities, site.no_ops, "relu"),
    (DropIdentities, site.movements, "transpose reshape slice add"),
    (DropIdentities, lambda s: s.transpose(s.transpose(s.x(2, 3, 4), perm=(1, 2, 0)), perm=(2, 0, 1)), ""),
    (DropIdentities, site.true_masks, "greater where"),
    (DropIdentities, site.expanded_mask, "mul add"),
    (FoldConstants, site.constant_chain, "mul"),
    (MergeDuplicates, site.duplicates, "linear relu add"),
    (MergeParallelConvs, site.repvgg_block, "conv"),
    (MergeParallelConvs, partial(site.repvgg_block, groups=2), "conv"),
    (MergeParallelConvs, partial(site.repvgg_block, stride=2), "conv"),
    (MergeParallelConvs, site.uneven_branches, "conv"),
    (MergeParallelConvs, site.difference_of_branches, "conv"),
    (MergeParallelConvs, partial(site.difference_of_branches, swapped=True), "conv"),
]

# (pass, site, reason)
REFUSALS: list[tuple[type[Pass], Callable[..., Any], str]] = [
    (FoldBatchNorm, site.computed_statistics, "statistics are computed"),
    (FoldAffine, partial(site.linear_scaled, shared=True), "shares its weight"),
    (FoldAffine, lambda s: s.add(s.linear(s.x(3, 4), s.w(5, 4), s.x(5)), s.w(5)), "has a computed weight"),
    (
        FoldAffine,
        lambda s: (lambda y: [s.add(y, s.w(5)), s.neg(y)])(s.linear(s.x(3, 4), s.w(5, 4))),
        "is also read by neg",
    ),
    (FoldAffine, lambda s: s.div(s.linear(s.x(3, 4), s.w(5, 4)), 0.0), "divides by 0"),
    (FoldPadding, partial(site.padded, value=1.0), "pads with constant 1, the layer with 0"),
    (FoldPadding, partial(site.padded, mode="reflect"), "pads with reflect"),
    (FoldPadding, partial(site.padded, pads=(0, 0, 0, 0, 0, 0, -1, 1)), "crops"),
    (FoldPadding, partial(site.padded, pads=(1, 0, 0, 0, 0, 0, 1, 1)), "pads batch or channels"),
    (FoldPadding, partial(site.padded_pool, value=0.0), "the layer with -inf"),
    (MatmulToLinear, lambda s: s.matmul(s.x(2, 3, 4), s.w(2, 4, 5)), "linear takes a matrix"),
    (FuseLayerNorm, site.layer_norm_of_another_mean, "does not subtract the mean"),
    (FuseLayerNorm, site.layer_norm_tapped, "is also read by neg"),
    (FuseLayerNorm, partial(site.layer_norm_steps, axes=(1, 3), affine=False), "are not the last ones"),
    (FuseGelu, site.gelu_wrong_factor, "factor 1 is not gelu's"),
    (FuseGelu, site.gelu_wrong_polynomial, "is not gelu's 0.7071068 x"),
    (FuseSilu, site.silu_tapped, "is also read by neg"),
    (FuseHardSwish, site.hard_swish_wrong_factor, "factor 6 is not hard swish's"),
    (FuseRotary, site.rotary_of_two_values, "turns another value"),
    (FuseAttention, site.attention_other_axis, "does not run over the last"),
    (
        FuseAttention,
        partial(site.attention_where, hidden=-1e9, computed=True),
        "hides scores behind -1e.09, not -inf, where rows may be hidden",
    ),
    (FuseAttention, partial(site.attention_where, hidden=-100.0), "hides scores behind -100, not -inf"),
    (FuseAttention, site.attention_scaled_mask, "add at .* stands between softmax and the product"),
    (FuseAttention, site.attention_tapped, "is an output of the graph"),
    (MergeParallelConvs, partial(site.repvgg_block, stride=2, other=1), "strides or groups"),
    (MergeParallelConvs, site.dilated_branch, "a branch is dilated"),
    (MergeParallelConvs, site.branch_tapped, "is also read by neg"),
    (FoldConstants, site.large_constant, "160000 bytes would replace 4000"),
]


def apply(step: Pass, graph: Graph) -> tuple[Graph, tuple[Any, ...]]:
    result = step.run(graph, Context())
    verify_graph(result.graph)
    assert result.changed is (result.graph is not graph)
    assert result.changed is (
        any(n.taken for n in result.notes) or step.name == "merge_duplicates" and result.changed
    )
    return result.graph, result.notes


def max_rel(new: Graph, old: Graph, samples: list[np.ndarray]) -> float:
    worst = 0.0
    for a, b in zip(run_reference(new, samples), run_reference(old, samples), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    return worst


def ids(row: tuple[Any, ...]) -> str:
    return row[0].name


@pytest.mark.parametrize("dtype, bound", [(F64, 1e-9), (F32, 1e-5)], ids=["f64", "f32"])
@pytest.mark.parametrize("step, build, ops", MATCHES, ids=map(ids, MATCHES))
def test_match_is_exact_and_idempotent(step, build, ops, dtype, bound):
    graph, samples = sketch(build, dtype)
    new, notes = apply(step(), graph)
    assert Counter(n.op for n in new.nodes) == Counter(ops.split())
    assert any(n.taken for n in notes)
    assert max_rel(new, graph, samples) <= bound
    assert new.inputs == graph.inputs and new.output_names == graph.output_names
    again, _ = apply(step(), new)
    assert again is new


@pytest.mark.parametrize("step, build, reason", REFUSALS, ids=map(ids, REFUSALS))
def test_refusal_gives_the_reason_and_the_graph_back(step, build, reason):
    graph, _ = sketch(build, F32)
    result = step().run(graph, Context())
    assert result.graph is graph and not result.changed
    refused = [n for n in result.notes if not n.taken]
    assert any(re.search(reason, n.reason) for n in refused), [n.reason for n in refused]
    assert all(n.site for n in refused)


PASSES = sorted({row[0] for row in MATCHES}, key=lambda p: p.name)


@pytest.mark.parametrize("step", PASSES, ids=lambda p: p.name)
def test_graphs_without_a_site_come_back_unchanged(step):
    graph, _ = sketch(lambda s: s.softmax(s.linear(s.relu(s.x(2, 3, 4)), s.w(5, 4), s.w(5))), F32)
    result = step().run(graph, Context())
    assert result.graph is graph and result.notes == ()


@pytest.mark.parametrize("first", PASSES, ids=lambda p: p.name)
def test_any_two_passes_compose(first):
    for second in PASSES:
        for step, build, _ in MATCHES:
            if step not in (first, second):
                continue
            graph, samples = sketch(build, F64)
            new, _ = apply(second(), apply(first(), graph)[0])
            assert max_rel(new, graph, samples) <= 1e-9


@pytest.mark.parametrize("build", [row[1] for row in MATCHES], ids=map(ids, MATCHES))
def test_the_whole_list_is_exact_and_reaches_a_fixed_point(build):
    graph, samples = sketch(build, F64)
    new = graph
    for step in canonicalize_passes():
        new = apply(step, new)[0]
    assert max_rel(new, graph, samples) <= 1e-9
    for step in canonicalize_passes():
        assert apply(step, new)[0] is new, step.name


def test_the_list_is_in_order_and_exact():
    steps = canonicalize_passes()
    check_order(steps)
    assert all(s.kind is Kind.EXACT for s in steps)
    assert {type(s) for s in steps} == {*PASSES, WidenHalf}  # the last has a file of its own


def test_rewritten_nodes_keep_their_module_and_name_the_pass():
    s = Sketch(F32)
    s.origin = Origin("layers.3.norm", "model.py:9")
    graph = s.build([site.rms_norm_steps(s)])
    new, notes = apply(FuseRmsNorm(), graph)
    assert new.nodes[0].origin == Origin("layers.3.norm", "model.py:9", ("fuse_rms_norm",))
    assert notes[0].site == "mul at layers.3.norm (model.py:9)"


def test_a_large_tied_table_is_not_copied():
    def build(s):
        table = s.w(300, 64)
        hidden = s.gather(table, s.const(np.array([1, 2, 5])))
        return s.matmul(s.mul(hidden, s.x(3, 64)), s.transpose(table, perm=(1, 0)))

    graph, _ = sketch(build, F32)
    result = FoldConstants().run(graph, Context())
    assert any("is also read by" in n.reason for n in result.notes)
    new = graph
    for step in canonicalize_passes():
        new = apply(step, new)[0]
    assert sum(v.data.nbytes for v in new.constants()) <= 300 * 64 * 4 + 4096


def test_symbolic_shapes_survive_the_whole_list():
    b, t = symbol("batch"), symbol("seq")
    g = GraphBuilder()
    x = g.input("x", F32, (b, t, 16))
    heads = [g.op("transpose", g.op("reshape", x, shape=(b, t, 4, 4)), perm=(0, 2, 1, 3)) for _ in range(3)]
    scores = g.op("matmul", heads[0], g.op("transpose", heads[1], perm=(0, 1, 3, 2)))
    mask = g.op("expand", g.input("mask", F32, (b, 1, 1, t)), shape=(b, 1, t, t))
    weights = g.op("softmax", g.op("add", g.op("mul", scores, g.const(np.float32(0.5))), mask))
    y = g.op(
        "reshape", g.op("transpose", g.op("matmul", weights, heads[2]), perm=(0, 2, 1, 3)), shape=(b, t, 16)
    )
    graph = g.build([y])
    new = graph
    for step in canonicalize_passes():
        new = apply(step, new)[0]
    assert Counter(n.op for n in new.nodes) == Counter(
        "reshape transpose attention transpose reshape".split()
    )
    rng = np.random.default_rng(0)
    for sizes in ((1, 3), (2, 7)):
        samples = [rng.normal(size=(*sizes, 16)), rng.normal(size=(sizes[0], 1, 1, sizes[1]))]
        assert max_rel(new, graph, [a.astype(np.float32) for a in samples]) <= 1e-5


def test_weights_that_are_reshaped_first_become_linear():
    """As einsum does it with a parameter of more than two axes."""

    def build(s):
        weight = s.reshape(s.transpose(s.w(3, 4, 6, 2), perm=(2, 0, 1, 3)), shape=(6, 24))
        return s.matmul(s.x(5, 6), weight)

    graph, arrays = sketch(build, F32)
    new = graph
    for step in canonicalize_passes():
        new = apply(step, new)[0]
    assert [n.op for n in new.nodes] == ["linear"]
    np.testing.assert_allclose(run_reference(new, arrays)[0], run_reference(graph, arrays)[0], rtol=1e-6)


def test_a_small_result_behind_a_large_one_is_folded():
    def build(s):
        wide = s.relu(s.linear(s.w(300, 2), s.w(256, 2)))  # larger than what it is made of
        return s.add(s.x(300, 4), s.linear(wide, s.w(4, 256)))

    graph, arrays = sketch(build, F32)
    result = FoldConstants().run(graph, Context())
    assert [n.op for n in result.graph.nodes] == ["add"]
    assert any("would replace" in n.reason for n in result.notes)
    np.testing.assert_array_equal(run_reference(result.graph, arrays)[0], run_reference(graph, arrays)[0])
