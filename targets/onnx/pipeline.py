"""Order of the passes for the ONNX targets; a recipe only switches and configures them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcompiler.passes.base import Pass, check_order
from qcompiler.passes.canonicalize import canonicalize_passes
from qcompiler.passes.integer import integer_passes, snap_passes
from qcompiler.passes.quantize.assign_precision import AssignConfig, AssignPrecision
from qcompiler.passes.quantize.calibrate_activations import CalibrateActivations
from qcompiler.passes.quantize.lower_to_quantized import LowerToQuantized
from qcompiler.passes.quantize.round_softmax import RoundSoftmax
from qcompiler.passes.quantize.split_attention import SplitAttention, SplitAttentionConfig
from qcompiler.passes.rounding.correct_bias import CorrectBias
from qcompiler.passes.rounding.round_adaround import RoundAdaround
from qcompiler.passes.rounding.round_autoround import RoundAutoround
from qcompiler.passes.rounding.round_brecq import RoundBrecq
from qcompiler.passes.rounding.round_embeddings import RoundEmbeddings
from qcompiler.passes.rounding.round_gptq import RoundGptq
from qcompiler.passes.rounding.round_hessian import RoundHessian
from qcompiler.passes.rounding.round_nearest import RoundNearest
from qcompiler.passes.transform import transform_passes
from qcompiler.passes.transform.equalize_layers import EqualizeLayers
from qcompiler.passes.transform.spell_for_integers import SpellForIntegers
from qcompiler.passes.transform.turn_transposed_convolutions import TurnTransposedConvolutions

from ..base import Target
from .never_slower import NeverSlower


def build_pipeline(target: Target, configs: Mapping[str, Any]) -> list[Pass]:
    """The passes in order.

    Args:
        target: what they compile for.
        configs: configuration by name of the step; None switches it off, absent steps have their defaults.
    """
    assign = configs.get(AssignPrecision.name) or AssignConfig()
    corrected = configs.get("correct_bias", True) is not None
    steps = [
        *canonicalize_passes(),  # one spelling of every layer, for all that follows
        *([SpellForIntegers()] if configs.get("integerize") else ()),  # layers that only programs of integers write otherwise
        TurnTransposedConvolutions(),  # before the layers that compute in integers are looked at
        EqualizeLayers(configs.get("equalize_layers")),  # across convolutions; where only linears read, the next step
        *transform_passes(configs, assign.recipe),  # move ranges before anything measures them
        RoundEmbeddings(configs.get("round_embeddings")),  # before what computes on their rows is measured
        SplitAttention(SplitAttentionConfig(recipe=assign.recipe)),  # what follows may compute its products in integers
        RoundSoftmax(configs.get("round_softmax")),  # before ranges are measured behind it
        AssignPrecision(assign),  # what computes in integers; the plan that the rest fills
        NeverSlower(configs.get("never_slower"), assign.recipe),  # before anything is spent on what goes back to float
        CalibrateActivations(configs.get("calibrate_activations")),  # of the transformed graph
        RoundNearest(configs.get("round_nearest")),  # a start for every weight
        RoundHessian(configs.get("round_hessian")),  # better codes where the recipe says so
        RoundGptq(configs.get("round_gptq")),  # the same for products by a matrix, on the quantized prefix
        RoundAdaround(configs.get("round_adaround"), corrected),  # where the recipe says so: learned from what the codes above give
        RoundBrecq(configs.get("round_brecq"), corrected),  # the same by block
        RoundAutoround(configs.get("round_autoround"), corrected),  # by block, scales too
        *snap_passes(configs),  # every scale a power of two, where the recipe's profile needs that
        CorrectBias(configs.get("correct_bias")),  # last: makes up for the errors of all the codes above
        LowerToQuantized(configs.get("lower_to_quantized")),
        *(integer_passes(configs) if configs.get("integerize") else ()),  # where the recipe asks for integers only
    ]
    chosen = [step for step in steps if step.name not in configs or configs[step.name] is not None]
    check_order(chosen)
    return chosen
