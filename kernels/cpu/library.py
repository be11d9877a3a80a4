"""The CPU's kernels as the lowering asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tvm.s_tir import Schedule

from qcompiler.errors import UnsupportedError
from qcompiler.kernels.common.grouped import GroupedProduct
from qcompiler.kernels.common.product import Product
from qcompiler.kernels.common.scheduled import Scheduled
from qcompiler.kernels.cpu import attention, forms, grouped, rows
from qcompiler.kernels.cpu import product as products
from qcompiler.kernels.cpu.isa import Form, Isa
from qcompiler.kernels.cpu.product import Tile
from qcompiler.kernels.cpu.real_bytes import bytes_pay, in_bytes


def product_key(product: Product, form: Form) -> str:
    """What a tuned tile belongs to: the form and the extents; `?` for those that are not known."""
    extents = (product.batch, product.rows, product.columns, product.taps, product.channels)
    sizes = "x".join(str(e) if isinstance(e, int) else "?" for e in extents)
    weights = "constant" if product.constant_weight else "computed"
    return f"{form.name}-{form.lanes}-{form.weight}-{weights}-{sizes}"


class CpuLibrary:
    """Kernels for one instruction set.

    Attributes:
        isa: what they use.
        tiles: measured best tiles by `product_key`; other products get the default rule's.
        used: of them, by products that were asked for.
        pair_lanes: fewest pairs of 16-bit numbers, of 8 or less, that one instruction multiplies and adds; 0 where none does.
        permutes: short tables are read out of registers.
    """

    def __init__(self, isa: Isa, tiles: Mapping[str, Tile] | None = None) -> None:
        self.isa = isa
        self.tiles = dict(tiles or {})
        self.used: dict[str, Tile] = {}
        self.pair_lanes = min(isa.wide.lanes, 8) if isa.wide.name == "vpmaddwd" else 0
        self.permutes = isa.permutes

    def product(
        self, product: Product, constant: Callable[[np.ndarray], Any], finished: Callable[[Any], Any], where: str
    ) -> Scheduled:
        """A matrix product or convolution.

        Raises:
            UnsupportedError: its operands are too wide for any form, with the module's path.
        """
        try:
            form = forms.choose_form(product, self.isa)
        except UnsupportedError as error:
            raise UnsupportedError(f"{where}: has no schedule: {error}") from None
        key = product_key(product, form)
        tile = self.tiles.get(key)
        if tile is not None:
            self.used[key] = tile
        chosen = tile or products.default_tile(product, form, self.isa)
        out = products.describe(product, form, chosen, constant)
        # coverage of a region is not provable for sizes that are not known; the descriptions cover by construction
        known = all(isinstance(d, int) for d in (product.batch, product.rows, product.columns, product.channels))
        s = Schedule(finished(out), enable_check=known)
        function = products.schedule(s, product, form, chosen)
        note = f"{chosen}{'' if tile is None else ', tuned'}"
        return Scheduled(function.with_attr("tirx.is_scheduled", True), f"{form.name} {form.weight}", note, self.isa.slow, key)

    def grouped(
        self, product: GroupedProduct, constant: Callable[[np.ndarray], Any], finished: Callable[[Any], Any], where: str
    ) -> Scheduled:
        """A product with weights in groups."""
        if bytes_pay(product, self.isa):
            product = in_bytes(product, self.isa.real.lanes)
        step = grouped.choose_step(product, self.isa)
        tile = grouped.default_tile(product, step, self.isa)
        s = Schedule(finished(grouped.describe(product, step, tile, constant)), enable_check=isinstance(product.rows, int))
        function = grouped.schedule(s, product, step, tile)
        return Scheduled(function.with_attr("tirx.is_scheduled", True), step.name, str(tile), self.isa.slow)

    def stages(self, function: Any, kind: str, layout: Any, where: str) -> Scheduled:
        """A reduction, pool, softmax, norm, copy or elementwise kernel."""
        s = Schedule(function)
        if attention.is_attention(s):
            attention.schedule(s)
        else:
            rows.schedule(s, self.isa.vector_bytes // 4)
        return Scheduled(s.mod["main"].with_attr("tirx.is_scheduled", True), kind)
