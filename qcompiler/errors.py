"""Every error a user can meet, with the exit code the command line gives for it.

A message says what is wrong, where (module path of the user's model), what is allowed and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QCError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the `qcompiler` command returns."""

    exit_code = 1


class InternalError(QCError):
    """A broken invariant: a defect of the compiler, not of the input."""


class GraphError(InternalError):
    """A graph that breaks the grammar, an op's shape rule or the table of its level."""


class UsageError(QCError):
    """Wrong usage or unreadable input."""

    exit_code = 2


class CalibrationError(UsageError):
    """Calibration or evaluation data that cannot be used: form, names, shapes, types, NaN or Inf, or empty."""


class ConstraintError(QCError):
    """A limit given by the user or the target cannot be met."""

    exit_code = 3


class UnsupportedError(QCError):
    """An op, a shape or a target that is not supported, or nothing was quantized."""

    exit_code = 4


class VerificationError(QCError):
    """The artefact does not compute what the reference computes."""

    exit_code = 5


class MissingToolError(QCError):
    """A program or package that the request needs is not installed. The message names the package."""

    exit_code = 6


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
