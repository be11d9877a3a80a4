"""Passes that bring a captured graph to normal form; all of them exact."""

from __future__ import annotations

from qcompiler.passes.base import Pass
from qcompiler.passes.canonicalize.drop_identities import DropIdentities
from qcompiler.passes.canonicalize.fold_affine import FoldAffine
from qcompiler.passes.canonicalize.fold_batch_norm import FoldBatchNorm
from qcompiler.passes.canonicalize.fold_constants import FoldConstants
from qcompiler.passes.canonicalize.fold_padding import FoldPadding
from qcompiler.passes.canonicalize.fuse_attention import FuseAttention
from qcompiler.passes.canonicalize.fuse_gelu import FuseGelu
from qcompiler.passes.canonicalize.fuse_hard_swish import FuseHardSwish
from qcompiler.passes.canonicalize.fuse_layer_norm import FuseLayerNorm
from qcompiler.passes.canonicalize.fuse_rms_norm import FuseRmsNorm
from qcompiler.passes.canonicalize.fuse_rotary import FuseRotary
from qcompiler.passes.canonicalize.fuse_silu import FuseSilu
from qcompiler.passes.canonicalize.matmul_to_linear import MatmulToLinear
from qcompiler.passes.canonicalize.merge_duplicates import MergeDuplicates
from qcompiler.passes.canonicalize.merge_parallel_convs import MergeParallelConvs
from qcompiler.passes.canonicalize.normalize_clips import NormalizeClips
from qcompiler.passes.canonicalize.widen_half import WidenHalf


def canonicalize_passes() -> list[Pass]:
    """Every canonicalization, in order."""
    return [
        WidenHalf(),  # before anything computes with half-precision weights
        DropIdentities(),  # early, so that patterns need not look through no-ops
        MatmulToLinear(),  # before constants fold: a transposed tied table is used as it is
        FoldConstants(),  # masks, position tables, 1 + weight: patterns expect plain constants
        MatmulToLinear(),  # weights that were reshaped first, as those of einsum are
        MergeDuplicates(),  # patterns compare values by identity
        NormalizeClips(),  # relu6 has one spelling before hard swish is looked for
        FoldPadding(),  # a convolution with its pads is one layer
        FoldBatchNorm(),  # before anything else reads the layer's output
        MergeParallelConvs(),  # branches are plain convolutions now
        FuseLayerNorm(),  # before RMS norm, whose steps it contains
        FuseRmsNorm(),
        FuseGelu(),  # before silu: x sigmoid(1.702 x) is gelu
        FuseSilu(),
        FuseHardSwish(),
        FoldAffine(),  # biases and layer scales; after activations, whose formulas add and scale too
        FuseRotary(),  # before attention, so that its key is one value
        FuseAttention(),
        DropIdentities(),  # what the fusions left: cancelled transposes
        FoldConstants(),  # transposed weights and masks of the above
        MergeDuplicates(),
    ]


__all__ = [
    "DropIdentities",
    "FoldAffine",
    "FoldBatchNorm",
    "FoldConstants",
    "FoldPadding",
    "FuseAttention",
    "FuseGelu",
    "FuseHardSwish",
    "FuseLayerNorm",
    "FuseRmsNorm",
    "FuseRotary",
    "FuseSilu",
    "MatmulToLinear",
    "MergeDuplicates",
    "MergeParallelConvs",
    "NormalizeClips",
    "WidenHalf",
    "canonicalize_passes",
]
