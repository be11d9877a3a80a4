"""Choosing between integer forms of a nonlinear function by their error on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import GraphBuilder, Level, Value
from qcompiler.passes.base import Note

Form = Callable[[GraphBuilder, Sequence[Value]], Value]
"""Appends the nodes of a form on codes; the result carries its parameters."""

NEARLY_DB = 0.1
"""Forms are listed cheapest first; a dearer one has to be better by this much."""


def sqnr_db(expected: np.ndarray, got: np.ndarray) -> float:
    """Signal to noise in dB; 200 where they are equal, -200 without signal."""
    signal = float(np.square(expected, dtype=np.float64).sum())
    noise = float(np.square(np.subtract(expected, got, dtype=np.float64)).sum())
    if noise <= 1e-20 * signal:
        return 200.0
    return float(10 * np.log10(signal / noise)) if signal > 0 else -200.0


def run_form(form: Form, operands: Sequence[Value], arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Real numbers that a form gives on integer arrays for operands of these types."""
    b = GraphBuilder("form", Level.INTEGER)
    values = [b.input(f"x{i}", v.dtype, a.shape, v.quant) for i, (v, a) in enumerate(zip(operands, arrays, strict=True))]
    result = form(b, values)
    assert result.quant is not None
    return result.quant.dequantize(run_reference(b.build([result]), arrays)[0])


def choose(
    site: str,
    forms: Mapping[str, Form],
    operands: Sequence[Value],
    examples: Sequence[tuple[Sequence[np.ndarray], np.ndarray]],
) -> tuple[str, Note]:
    """The name of the best form, and a note with the error of each.

    Args:
        site: module path and op.
        forms: by name, cheapest first.
        operands: integer operands.
        examples: (integer arrays for the operands, real result) per sample.
    """
    errors = {}
    for name, form in forms.items():
        got = [run_form(form, operands, arrays).ravel() for arrays, _ in examples]
        errors[name] = sqnr_db(np.concatenate([e.ravel() for _, e in examples]), np.concatenate(got))
    best = next(iter(forms))
    for name in forms:
        if errors[name] > errors[best] + NEARLY_DB:
            best = name
    figures = {"form": best, **{f"{name}_sqnr_db": round(error, 2) for name, error in errors.items()}}
    return best, Note(site, True, f"{best}: {errors[best]:.1f} dB against the real function", figures)
