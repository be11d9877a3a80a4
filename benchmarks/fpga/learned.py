"""What the closed forms of LUTs and flip-flops leave: boosted trees (XGBoost) that learn log(measured / closed form)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xgboost

from qcompiler.targets.fpga_hls.model.resources import unit_usage
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.units import Depthwise, MatrixVector, SlidingWindow
from qcompiler.targets.fpga_hls.verilog.synthesis import Usage

LEARNED = ("lut", "ff")
TREES = {"max_depth": 2, "eta": 0.05, "subsample": 0.8, "colsample_bytree": 0.5, "min_child_weight": 3, "base_score": 0.0, "seed": 0}
ROUNDS = 100


@dataclass(frozen=True, eq=False)
class Learned:
    """Trees of each of `LEARNED`."""

    trees: dict[str, xgboost.Booster]

    def predict(self, units: Sequence[Unit]) -> dict[str, np.ndarray]:
        """Of every unit, by name of the resource."""
        features = xgboost.DMatrix(np.array([numbers(unit) for unit in units]))
        closed = {name: np.array([getattr(unit_usage(unit), name) for unit in units], float) for name in LEARNED}
        return {name: closed[name] * np.exp(trees.predict(features)) for name, trees in self.trees.items()}


def numbers(unit: Unit) -> list[float]:
    """Features of the trees."""
    use, port, out = unit_usage(unit), (unit.inputs or unit.outputs)[0], unit.outputs[0]
    weighted = isinstance(unit, MatrixVector | Depthwise)
    own = [unit.weight_bits, unit.acc_bits, unit.rows, unit.columns, unit.digits] if weighted else [0] * 5
    return [
        unit.folding.pe, unit.folding.simd, port.bits, out.bits, port.channels // port.lanes, out.channels // out.lanes,
        float(port.signed), float(out.signed), *own, use.dsp, use.bram, np.log(max(1, use.lut)), np.log(max(1, use.ff)),
        float(isinstance(unit, Depthwise)), float(isinstance(unit, SlidingWindow)),
    ]  # fmt: skip


def learn(units: Sequence[Unit], measured: Sequence[Usage]) -> Learned:
    """Fit both resources to what synthesis found; every unit takes LUTs and flip-flops."""
    features = np.array([numbers(unit) for unit in units])
    found = {}
    for name in LEARNED:
        ratio = [getattr(use, name) / getattr(unit_usage(unit), name) for unit, use in zip(units, measured, strict=True)]
        data = xgboost.DMatrix(features, np.log(ratio))
        found[name] = xgboost.train({**TREES, "nthread": 1, "objective": "reg:squarederror"}, data, ROUNDS)
    return Learned(found)
