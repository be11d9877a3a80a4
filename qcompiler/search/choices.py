"""Legal precisions of a layer: what a target has kernels for, read from its description and nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from qcompiler.errors import UnsupportedError

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Node
    from qcompiler.recipe import Recipe
    from qcompiler.targets import Kernel, Target

FLOAT_BITS = 32
GROUP, GROUP_SIZES = 64, (256, 128, 64, 32, 16)
SCHEME_KERNELS = {"static": None, "dynamic": "dynamic_linear", "weight_only": "weight_only_linear"}
"""Scheme -> the quantized op that a linear layer becomes; None: the op itself."""


@dataclass(frozen=True, order=True)
class Choice:
    """One legal tuple for a layer: scheme, precisions, granularity and the kernel that computes it.

    Attributes:
        scheme: `static`, `dynamic`, `weight_only` or `float`.
        weight_bits, activation_bits: 32 where that operand stays real.
        per_channel: one weight scale per output channel, otherwise one for the whole weight.
        group_size: weights that share one scale along the input axis, None for all of them.
        kernel: as the target names it, "" for float.
    """

    scheme: str
    weight_bits: int = FLOAT_BITS
    activation_bits: int = FLOAT_BITS
    per_channel: bool = True
    group_size: int | None = None
    kernel: str = ""

    @property
    def name(self) -> str:
        """Short and unique among the choices of a layer: `static w8a8`, `weight_only w4 g64`, `float`."""
        if self.scheme == "float":
            return "float"
        activations = f"a{self.activation_bits}" if self.activation_bits < FLOAT_BITS else ""
        parts = [self.scheme, f"w{self.weight_bits}{activations}"]
        if self.group_size:
            parts.append(f"g{self.group_size}")
        elif not self.per_channel:
            parts.append("tensor")
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """JSON form; conditional fields are absent where they mean nothing."""
        if self.scheme == "float":
            return {"scheme": "float"}
        return {name: value for name, value in asdict(self).items() if value is not None}


FLOAT = Choice("float")


def layers(graph: Graph, recipe: Recipe, target: Target) -> list[Node]:
    """Layers with weights that the recipe would quantize, in program order: what a search may decide about.

    Layers that the recipe ignores, or that cannot be quantized at all, are left as they are.

    Raises:
        UnsupportedError: there is none.
    """
    from qcompiler.passes.base import Context
    from qcompiler.passes.quantize.assign_precision import PLAN, AssignConfig, AssignPrecision
    from qcompiler.passes.quantize.op_roles import PRODUCTS
    from qcompiler.passes.quantize.plan import FLOAT as REAL

    context = Context(target=target)
    AssignPrecision(AssignConfig(recipe=recipe)).run(graph, context)
    plan = context.tables[PLAN]
    found = [n for n in graph.nodes if n.op in PRODUCTS and plan.nodes[n].scheme != REAL]
    if not found:
        raise UnsupportedError("there is nothing to search: the recipe quantizes no layer with weights")
    return found


def legal_choices(node: Node, recipe: Recipe, target: Target) -> tuple[Choice, ...]:
    """Every choice that the target has a kernel for, widest first, float last where the target computes in float.

    A kernel that the target's table lists later under the same name on other types is slower and left out. Weights
    in groups come in one group size per width: the recipe's, or the largest up to `GROUP` that kernel and layer allow.
    """
    found: list[Choice] = []
    for scheme, op in SCHEME_KERNELS.items():
        if op is not None and (node.op != "linear" or (scheme == "dynamic" and not target.can("dynamic_linear"))):
            continue
        kernels = [k for k in target.kernels.get(op or node.op, ()) if _fits(scheme, k, recipe)]
        first = {(k.name, k.weight): k for k in reversed(kernels)}
        for kernel in (k for k in kernels if first[k.name, k.weight] is k):
            found += _choices_of(scheme, kernel, node, recipe)
    # Stable: of choices with one name, the kernel that the target lists first stands for all.
    ordered = sorted(found, key=lambda c: (-c.weight_bits, -c.activation_bits, c.scheme != "static", c.group_size or 0))
    unique: dict[str, Choice] = {}
    for choice in ordered:
        unique.setdefault(choice.name, choice)
    return (*unique.values(), *((FLOAT,) if target.can("float_islands") else ()))


def _fits(scheme: str, kernel: Kernel, recipe: Recipe) -> bool:
    """Signed weights, and for static ranges activations of the recipe's sign."""
    if kernel.weight is None or not kernel.weight.is_signed:
        return False
    signed = recipe.activations == "s8_symmetric"
    return scheme != "static" or kernel.activation is None or kernel.activation.is_signed == signed


def _choices_of(scheme: str, kernel: Kernel, node: Node, recipe: Recipe) -> list[Choice]:
    assert kernel.weight is not None
    bits = FLOAT_BITS if scheme == "weight_only" else 8
    if scheme == "static":
        bits = kernel.activation.bits if kernel.activation is not None else recipe.activation_bits
    size = None
    allowed = getattr(kernel, "group_sizes", ())
    if scheme != "static" and allowed != ():
        width = node.operands[1].shape[-1]
        offered = [recipe.group_size] if recipe.group_size else [s for s in GROUP_SIZES if s <= GROUP]
        fitting = [s for s in offered if width % s == 0 and (allowed is None or s in allowed)]
        if not fitting:
            return []
        size = fitting[0]
    return [Choice(scheme, kernel.weight.bits, bits, recipe.per_channel, size, kernel.name)]
