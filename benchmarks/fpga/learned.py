"""LUTs and flip-flops learned from synthesised units: weights for the terms of a unit, and trees for what is left.

What a unit takes is about linear in its `terms`; their weights are fitted per kind of unit, not below zero, to relative
errors (ridge). Boosted trees (XGBoost) then learn log(measured / fitted) over all kinds.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import xgboost
from scipy.optimize import nnls

from benchmarks.fpga.structure import terms
from qcompiler.targets.fpga_hls.model.resources import unit_usage
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.units import Depthwise, MatrixVector, SlidingWindow
from qcompiler.targets.fpga_hls.verilog.synthesis import Usage

LEARNED = ("lut", "ff")
RIDGE = 0.01
TREES = {"max_depth": 2, "eta": 0.05, "subsample": 0.8, "colsample_bytree": 0.5, "min_child_weight": 3, "base_score": 0.0, "seed": 0}
ROUNDS = 200


@dataclass(frozen=True, eq=False)
class Fitted:
    """One of `LEARNED`.

    Attributes:
        weights: by kind, of each of its terms.
        trees: of what the weights leave.
    """

    weights: dict[str, dict[str, float]]
    trees: xgboost.Booster

    def linear(self, unit: Unit) -> float:
        """By the weights alone; 0 of a kind that was not fitted."""
        weights = self.weights.get(kind(unit), {})
        return sum(weights.get(name, 0.0) * size for name, size in terms(unit).items())


@dataclass(frozen=True, eq=False)
class Learned:
    """A model of LUTs and flip-flops."""

    fitted: dict[str, Fitted]

    def predict(self, units: Sequence[Unit]) -> dict[str, np.ndarray]:
        """Of every unit, by name of the resource; a kind that was not fitted keeps the closed form."""
        features = xgboost.DMatrix(np.array([numbers(unit) for unit in units]))
        found = {}
        for name, fitted in self.fitted.items():
            linear = np.array([fitted.linear(unit) for unit in units])
            closed = np.array([getattr(unit_usage(unit), name) for unit in units], float)
            found[name] = np.where(linear > 0, linear * np.exp(fitted.trees.predict(features)), closed)
        return found


def kind(unit: Unit) -> str:
    """Units of one kind share their weights; a matrix and depthwise filters are one module."""
    return MatrixVector.__name__ if isinstance(unit, Depthwise) else type(unit).__name__


def shape(unit: Unit) -> Hashable:
    """What stays of a unit whatever its folding and its bits: units of one shape are held out together."""
    if isinstance(unit, MatrixVector | Depthwise):
        return type(unit).__name__, unit.rows, unit.columns
    if isinstance(unit, SlidingWindow):
        return type(unit).__name__, unit.height, unit.kernel, unit.channels
    return type(unit).__name__, *(port.channels for port in (*unit.inputs, *unit.outputs))


def numbers(unit: Unit) -> list[float]:
    """Features of the trees."""
    use, port, out = unit_usage(unit), (unit.inputs or unit.outputs)[0], unit.outputs[0]
    weighted = isinstance(unit, MatrixVector | Depthwise)
    own = [unit.weight_bits, unit.acc_bits, unit.rows, unit.columns] if weighted else [0, 0, 0, 0]
    return [
        unit.folding.pe, unit.folding.simd, port.bits, out.bits, port.channels // port.lanes, out.channels // out.lanes,
        float(port.signed), float(out.signed), *own, use.dsp, use.bram, np.log(max(1, use.lut)), np.log(max(1, use.ff)),
        float(isinstance(unit, Depthwise)),
    ]  # fmt: skip


def learn(units: Sequence[Unit], measured: Sequence[Usage]) -> Learned:
    """Fit both resources to what synthesis found."""
    return Learned({name: _fit(units, np.array([getattr(use, name) for use in measured], float)) for name in LEARNED})


def _fit(units: Sequence[Unit], measured: np.ndarray) -> Fitted:
    weights: dict[str, dict[str, float]] = {}
    for name in sorted({kind(unit) for unit in units}):
        chosen = [i for i, unit in enumerate(units) if kind(unit) == name and measured[i] > 0]
        rows = [terms(units[i]) for i in chosen]
        if chosen:
            weights[name] = _weights(rows, measured[chosen])
    fitted = Fitted(weights, xgboost.Booster())
    linear = np.array([fitted.linear(unit) for unit in units])
    known = (linear > 0) & (measured > 0)
    features = np.array([numbers(unit) for unit in units])
    left = xgboost.DMatrix(features[known], np.log(measured[known] / linear[known]))
    return Fitted(weights, xgboost.train({**TREES, "nthread": 1, "objective": "reg:squarederror"}, left, ROUNDS))


def _weights(rows: Sequence[dict[str, float]], measured: np.ndarray) -> dict[str, float]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    shares = np.array([[row.get(name, 0.0) for name in names] for row in rows]) / measured[:, None]
    scale = np.abs(shares).mean(0) + 1e-12  # the ridge weighs terms by what they could explain
    system = np.vstack([shares / scale, np.sqrt(RIDGE) * np.eye(len(names))])
    found, _ = nnls(system, np.concatenate([np.ones(len(rows)), np.zeros(len(names))]))
    return dict(zip(names, (found / scale).tolist(), strict=True))
