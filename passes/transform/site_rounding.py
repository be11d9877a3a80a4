"""How the readers of a site will round: what a candidate is scored with.

    static    one range for the tensor, asymmetric, from calibration
    tensor    one range per tensor, taken at run time
    token     symmetric, one range per row, taken at run time
    real      activations stay real, only weights are rounded

Weights are symmetric per output channel, or in groups along the input channels (symmetric or not).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qcompiler.passes.rounding.limit_sums import limited_codes
from qcompiler.targets.saturation import SUM_LIMIT, neighbours, summed_products, worthwhile_sums

if TYPE_CHECKING:
    from qcompiler.passes.base import Context
    from qcompiler.recipe import LayerSettings, Recipe

    from .groups import Site

STATIC, TENSOR, TOKEN, REAL = "static", "tensor", "token", "real"
TINY = 1e-12
SUMMED_SCALE = {4: 1.55, 8: 2.1}
"""Of weights of which so many are limited, times the scale of pairs: what the rounding passes choose for most rows."""


@dataclass(frozen=True)
class SiteRounding:
    """See the module docstring.

    Attributes:
        activation: one of STATIC, TENSOR, TOKEN, REAL.
        activation_bits, weight_bits: widths.
        group_size: input channels that share a weight scale, None for all of them.
        weight_symmetric: zero point 0.
        summed: neighbouring weights whose products are to add up in 16 bits; 1 for no limit.
    """

    activation: str = STATIC
    activation_bits: int = 8
    weight_bits: int = 8
    group_size: int | None = None
    weight_symmetric: bool = True
    summed: int = 1

    def weights(self, w: Tensor) -> Tensor:
        """Rounded weights [N, K]."""
        if self.group_size is None:
            return self._rows(w)
        width = w.shape[1]
        padded = torch.nn.functional.pad(w, (0, -width % self.group_size))
        return self._rows(padded.reshape(-1, self.group_size)).reshape(padded.shape)[:, :width]

    def activations(self, x: Tensor, low: float, high: float) -> Tensor:
        """Rounded rows [n, K]; low and high are the calibrated range, read by STATIC only."""
        if self.activation == REAL:
            return x
        if self.activation == TOKEN:
            top = (1 << (self.activation_bits - 1)) - 1
            scale = (x.abs().amax(1, keepdim=True) / top).clamp_min(TINY)
            return torch.round(x / scale) * scale
        if self.activation == TENSOR:
            low, high = float(x.min()), float(x.max())
        return round_range(x, low, high, self.activation_bits)

    def _rows(self, w: Tensor) -> Tensor:
        if not self.weight_symmetric:
            low, high = w.amin(1, keepdim=True).clamp(max=0), w.amax(1, keepdim=True).clamp(min=0)
            levels = (1 << self.weight_bits) - 1
            scale = ((high - low) / levels).clamp_min(TINY)
            zero = torch.round(-low / scale)
            return ((torch.round(w / scale) + zero).clamp_(0, levels) - zero) * scale
        top = (1 << (self.weight_bits - 1)) - 1
        scale = (w.abs().amax(1, keepdim=True) / top).clamp_min(TINY)
        summed = 1 if self.activation == REAL else worthwhile_sums(self.summed, tuple(w.shape))
        if summed > 1:
            scale = torch.maximum(scale, _pair_peak(w) / (SUM_LIMIT - 1))
        if summed > 2:
            scale = scale * SUMMED_SCALE[summed]
            return limited_codes((w / scale).clamp_(-top, top), torch.from_numpy(neighbours(tuple(w.shape), summed))).mul_(scale)
        return torch.round(w / scale).mul_(scale)


def _pair_peak(w: Tensor) -> Tensor:
    """Largest same-sign sum of two neighbours per row, [N, 1]: `saturation.pair_peak` in torch."""
    even = w[:, : w.shape[1] // 2 * 2].unflatten(1, (-1, 2))
    if even.shape[1] == 0:
        return w.new_zeros(len(w), 1)
    positive, negative = even.clamp(min=0).sum(2), even.clamp(max=0).sum(2)
    return torch.maximum(positive.amax(1), -negative.amin(1))[:, None]


def round_range(x: Tensor, low: float, high: float, bits: int) -> Tensor:
    """Asymmetric rounding of a tensor over [min(low, 0), max(high, 0)]."""
    low, high = min(low, 0.0), max(high, 0.0)
    levels = (1 << bits) - 1
    scale = max((high - low) / levels, TINY)
    zero = round(-low / scale)
    return (torch.clamp(torch.round(x / scale) + zero, 0, levels) - zero) * scale


SCHEMES = "schemes"
"""Key in `context.tables`: module path -> scheme, for layers that the recipe leaves open ("auto")."""


def readers_rounding(site: Site, recipe: Recipe, context: Context) -> SiteRounding | None:
    """How the readers of a site will round; the first that rounds its operand decides, None if all stay in float."""
    found = None
    for reader in site.readers:
        settings = recipe.settings_for(reader.origin.module, reader.op)
        chosen = context.tables.get(SCHEMES, {}).get(reader.origin.module, "static")
        scheme = chosen if settings.scheme == "auto" else settings.scheme
        rounding = site_rounding(settings, recipe, context.target, scheme)
        if rounding is not None and (found is None or found.activation == REAL):
            found = rounding
    return found


def site_rounding(settings: LayerSettings, recipe: Recipe, target: Any, scheme: str = "") -> SiteRounding | None:
    """What a recipe's settings mean for a linear layer on a target; None where it stays in float.

    Args:
        settings: of the layer.
        recipe: whole.
        target: asked for `int16_pair_products`; None for none.
        scheme: instead of the recipe's own ("static", "dynamic", "weight_only", "float").
    """
    scheme = scheme or settings.scheme
    if scheme == "float":
        return None
    kinds = {"static": STATIC, "weight_only": REAL}
    granularity = getattr(settings, "granularity", TENSOR)
    grouped = scheme != "static"
    group_size = (getattr(settings, "group_size", None) or None) if grouped else None
    return SiteRounding(
        kinds.get(scheme) or (TENSOR if granularity == "tensor" else TOKEN),
        settings.activation_bits,
        settings.weight_bits,
        group_size,
        getattr(settings, "weight_symmetric", True) if grouped else True,
        1 if group_size else summed_products(settings.int16_products, target, recipe.integer_only),
    )
