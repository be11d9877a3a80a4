"""What FPGAs compute: the rules that turn ops into units, and the table that passes read."""

from __future__ import annotations

from qcompiler.ir import DType
from qcompiler.targets.base import Kernel
from qcompiler.targets.fpga_hls import rules_elementwise, rules_products
from qcompiler.targets.fpga_hls.legalize import Rule

RULES: dict[str, Rule] = {**rules_products.RULES, **rules_elementwise.RULES}

_WIDTHS = (8, 4, 2, 3, 5, 6, 7)
_ACTIVATIONS = tuple(DType[f"{sign}int{bits}"] for bits in _WIDTHS for sign in ("u", ""))
_WEIGHTS = tuple(DType[f"int{bits}"] for bits in _WIDTHS)

KERNELS: dict[str, tuple[Kernel, ...]] = {
    **dict.fromkeys(
        ("conv", "linear"),
        tuple(Kernel(f"{a.name} x {w.name}", a, w, "symmetric weights") for a in _ACTIVATIONS for w in _WEIGHTS),
    ),
    **dict.fromkeys((op for op in RULES if op not in ("conv", "linear")), tuple(Kernel(a.name, a) for a in _ACTIVATIONS)),
}
