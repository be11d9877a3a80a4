"""What FPGAs compute: the rules that turn ops into units, and the table that passes read."""

from __future__ import annotations

from qcompiler.ir import DType, Node
from qcompiler.targets.base import Kernel
from qcompiler.targets.fpga_hls import rules_elementwise, rules_products, rules_rows
from qcompiler.targets.fpga_hls.legalize import Legalizer, NoStream, Rule, scaling_of
from qcompiler.targets.fpga_hls.rules_products import ProductRule, first

PRODUCTS: dict[str, ProductRule] = {**rules_products.PRODUCTS, "matmul": rules_rows.matmul, "integer_mul": rules_rows.scale}
"""By op: what computes a product and the rescale that reads it."""


def product(low: Legalizer, node: Node) -> None:
    """Products wait for the requantize that reads them."""
    user = low.graph.sole_user(node.output)
    if user is None or user.op != "requantize":
        raise NoStream("its accumulators are not read by one requantize alone")
    if any(v.quant is None for v in node.operands[:1]):
        raise NoStream("its operand is no codes")
    low.pending.add(node.output)


def requantize(low: Legalizer, node: Node) -> None:
    """A rescale by itself, or the end of a product."""
    source = low.graph.producer(first(node))
    if source is None or source.op not in PRODUCTS:
        rules_elementwise.rescale(low, node)
    else:
        PRODUCTS[source.op](low, source, node, scaling_of(node))


RULES: dict[str, Rule] = {
    **dict.fromkeys(PRODUCTS, product), "requantize": requantize, **rules_elementwise.RULES, **rules_rows.RULES
}  # fmt: skip

_WIDTHS = (8, 4, 2, 3, 5, 6, 7)
_ACTIVATIONS = tuple(DType[f"{sign}int{bits}"] for bits in _WIDTHS for sign in ("u", ""))
_WEIGHTS = tuple(DType[f"int{bits}"] for bits in _WIDTHS)

KERNELS: dict[str, tuple[Kernel, ...]] = {
    **dict.fromkeys(
        ("conv", "linear"),
        tuple(Kernel(f"{a.name} x {w.name}", a, w, "symmetric weights") for a in _ACTIVATIONS for w in _WEIGHTS),
    ),
    "matmul": tuple(Kernel(f"{a.name} x {a.name}", a, a) for a in (DType.int8, DType.uint8)),
    **dict.fromkeys((op for op in RULES if op not in ("conv", "linear", "matmul")), tuple(Kernel(a.name, a) for a in _ACTIVATIONS)),
}
