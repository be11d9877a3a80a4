"""What the recipe asks of a product, against what the target has kernels for and what the shapes allow.

All of it is checked before any data is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcompiler.errors import ConstraintError
from qcompiler.ir import DType, Node
from qcompiler.recipe import LayerSettings


def check_static(node: Node, settings: LayerSettings, activation: DType, target: Any) -> None:
    """Codes for both operands.

    Raises:
        ConstraintError: no kernel takes these types, or weights in groups or with zero points.
    """
    fields = {"group_size": settings.group_size, "weight_symmetric: false": not settings.weight_symmetric}
    asked = next((name for name, given in {**fields, "progressive": settings.progressive}.items() if given), "")
    if asked:
        raise ConstraintError(
            f"{node.where()}: {asked} is for schemes weight_only and dynamic, the recipe asks for static ranges; set"
            " group_size: 0, weight_symmetric: true and progressive: false in the rule that makes it static"
        )
    if settings.weight_digits and settings.rounding not in ("auto", "nearest", "hessian"):
        raise ConstraintError(
            f"{node.where()}: weights of {settings.weight_digits} signed digits are searched for under the second moment of the"
            f" layer's input, which rounding: {settings.rounding} would undo; set rounding: auto for it"
        )
    if settings.weight_digits and settings.weight_bits < 3:
        raise ConstraintError(f"{node.where()}: weight_digits is for codes of 3 to 8 bits, the recipe asks for {settings.weight_bits}")
    kernels, weight = target.kernels[node.op], DType[f"int{settings.weight_bits}"]
    if any(k.activation in (None, activation) and (k.weight is weight or node.op == "matmul") for k in kernels):
        return
    known = ", ".join(sorted({f"{k.activation.name} x {k.weight.name}" for k in kernels if k.activation and k.weight}))
    raise ConstraintError(
        f"{node.where()}: the recipe asks for {activation.name} activations and {weight.name} weights; target"
        f" {target.name} has {known or 'no such kernel'}. Change weight_bits, activation_bits or activations."
    )


def check_summed(node: Node, settings: LayerSettings, summed: int) -> None:
    """Weights of which four or eight neighbours are limited.

    Raises:
        ConstraintError: a rounding that moves codes without regard to that.
    """
    if summed <= 2:
        return
    other = "" if settings.rounding in ("auto", "nearest", "gptq") else f"rounding: {settings.rounding}"
    other = other or (f"weight_digits: {settings.weight_digits}" if settings.weight_digits else "")
    if other:
        raise ConstraintError(
            f"{node.where()}: int16_products: {settings.int16_products} limits sums of {summed} weights, which {other} does not"
            " keep to; set rounding to nearest, gptq or auto and no weight_digits, or int16_products: 2, in a rule for it"
        )


def check_real_operand(node: Node, settings: LayerSettings, target: Any) -> None:
    """Integer weights, activations real or quantized at run time.

    Raises:
        ConstraintError: settings that contradict each other, or that no kernel of the target takes.
    """
    size, dynamic = settings.group_size or None, settings.scheme == "dynamic"
    if settings.weight_digits:
        raise ConstraintError(
            f"{node.where()}: weight_digits is for scheme static, the recipe asks for {settings.scheme}; set scheme: static"
        )
    if dynamic and size is None and (settings.granularity == "group" or not settings.weight_symmetric):
        asked = "granularity: group" if settings.granularity == "group" else "weight_symmetric: false"
        raise ConstraintError(f"{node.where()}: dynamic with {asked} needs a group_size")
    if dynamic and size is not None and settings.granularity == "tensor":
        raise ConstraintError(
            f"{node.where()}: weights in groups take granularity token or group: one range for a whole tensor has no kernel"
        )
    if dynamic and settings.activation_bits not in ((8, 16) if settings.granularity == "group" else (8,)):
        raise ConstraintError(
            f"{node.where()}: activations quantized at run time have 8 bits, or 16 with granularity group, not"
            f" {settings.activation_bits} with granularity {settings.granularity}"
        )
    if settings.progressive and (size is None or settings.weight_bits > 4 or settings.rounding == "autoround"):
        raise ConstraintError(
            f"{node.where()}: progressive needs a group_size, at most 4 weight_bits, and a rounding that keeps scales as they"
            f" are; the recipe has group_size {size or 0}, {settings.weight_bits} bits and {settings.rounding}"
        )
    if dynamic and (size is None or (settings.progressive and settings.granularity == "token")):
        return  # computed on int8
    kind = DType[f"{'int' if settings.weight_symmetric else 'uint'}{settings.weight_bits}"]
    kernels = [k for k in target.kernels["dynamic_linear" if dynamic else "weight_only_linear"] if k.weight is kind]
    if not any(size is None or k.group_sizes is None or size in k.group_sizes for k in kernels):
        sizes = sorted({s for k in kernels for s in k.group_sizes or ()})
        known = f"has groups of {', '.join(map(str, sizes))}" if sizes else f"has no kernel for {kind.name} weights"
        raise ConstraintError(
            f"{node.where()}: the recipe asks for {kind.name} weights in groups of {size or 'a whole row'}; target"
            f" {target.name} {known}"
        )


def check_groups(settings: Mapping[Node, LayerSettings]) -> None:
    """Groups must divide the input channels.

    Raises:
        ConstraintError: listing every module where they do not.
    """
    bad = []
    for node, asked in settings.items():
        channels = node.operands[1].shape[1]
        if asked.group_size and channels % asked.group_size:
            bad.append(f"  {node.where()}: {channels} input channels, groups of {asked.group_size}")
    if bad:
        raise ConstraintError(
            f"the group size does not divide the input channels of {len(bad)} layers:\n"
            + "\n".join(bad)
            + "\nGive these modules a group_size that divides, or 0 (one scale per output channel), by a rule."
        )
