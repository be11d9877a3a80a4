"""The CPU's kernels as the lowering asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tvm.s_tir import Schedule

from qcompiler.kernels.common.product import Product
from qcompiler.kernels.cpu import product as products
from qcompiler.kernels.cpu import rows
from qcompiler.kernels.cpu.isa import Isa
from qcompiler.kernels.cpu.product import Tile


class CpuLibrary:
    """Kernels for one instruction set.

    Attributes:
        isa: what they use.
        tiles: measured best tiles by the key of a product; others get the default rule's.
    """

    def __init__(self, isa: Isa, tiles: Mapping[str, Tile] | None = None) -> None:
        self.isa = isa
        self.tiles = dict(tiles or {})

    def product(
        self, product: Product, constant: Callable[[np.ndarray], Any], finished: Callable[[Any], Any], where: str
    ) -> Any:
        from qcompiler.targets.tvm.lower import Scheduled

        form = products.choose_form(product, self.isa)
        tile = products.default_tile(product, form, self.isa)
        out = products.describe(product, form, tile, constant)
        # coverage of a region is not provable for sizes that are not known; the descriptions cover by construction
        known = all(isinstance(d, int) for d in (product.batch, product.rows, product.columns, product.channels))
        s = Schedule(finished(out), enable_check=known)
        products.schedule(s, product, form, tile)
        return Scheduled(s.mod["main"].with_attr("tirx.is_scheduled", True), f"{form.name} {form.weight}", f"{tile}")

    def stages(self, function: Any, kind: str, layout: Any, where: str) -> Any:
        from qcompiler.targets.tvm.lower import Scheduled

        s = Schedule(function)
        rows.schedule(s, self.isa.vector_bytes // 4)
        return Scheduled(s.mod["main"].with_attr("tirx.is_scheduled", True), kind)
