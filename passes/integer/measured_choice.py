"""Choosing between integer forms of a nonlinear function by their error on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qcompiler.errors import UsageError
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


Examples = Sequence[tuple[Sequence[np.ndarray], np.ndarray]]
"""(integer arrays for the operands, real result) per sample."""


class Choices:
    """The choices of one compilation, in program order; those of a lock file are repeated without measuring.

    Attributes:
        made: what the lock file will hold.
        notes: for the report.
    """

    def __init__(self, locked: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.locked = None if locked is None else list(locked)
        self.made: list[dict[str, Any]] = []
        self.notes: list[Note] = []

    def choose(self, site: str, forms: Mapping[str, Form], operands: Sequence[Value], examples: Callable[[], Examples]) -> str:
        """The name of the best form.

        Args:
            site: module path and op.
            forms: by name, cheapest first.
            operands: integer operands.
            examples: gives what the forms are measured on.

        Raises:
            UsageError: the lock file's choice at this place is another site's, or names no form.
        """
        if self.locked is None:
            chosen, errors = measure(forms, operands, examples())
        else:
            entry = self.locked[len(self.made)] if len(self.made) < len(self.locked) else {}
            chosen, errors = str(entry.get("chosen")), dict(entry.get("scores", {}))
            if entry.get("site") != site or chosen not in forms:
                raise UsageError(f"the lock file's choice for {site} does not fit this program: compile without the lock")
        self.made.append({"site": site, "chosen": chosen, "scores": errors, "unit": "dB"})
        figures = {"form": chosen, **{f"{name}_sqnr_db": error for name, error in errors.items()}}
        self.notes.append(Note(site, True, f"{chosen}: {errors[chosen]:.1f} dB against the real function", figures))
        return chosen


def measure(forms: Mapping[str, Form], operands: Sequence[Value], examples: Examples) -> tuple[str, dict[str, float]]:
    """The first form that no later one beats by `NEARLY_DB`, and the error of each in dB."""
    errors = {}
    for name, form in forms.items():
        got = [run_form(form, operands, arrays).ravel() for arrays, _ in examples]
        errors[name] = sqnr_db(np.concatenate([e.ravel() for _, e in examples]), np.concatenate(got))
    best = next(iter(forms))
    for name in forms:
        if errors[name] > errors[best] + NEARLY_DB:
            best = name
    return best, {name: round(error, 2) for name, error in errors.items()}
