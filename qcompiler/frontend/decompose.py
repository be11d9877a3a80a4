"""Ops without a converter are taken apart by torch's own decompositions, and only those."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from .convert import target_name, unknown_ops

log = logging.getLogger("qcompiler.frontend")

# Decompositions may themselves yield ops that need one.
_ROUNDS = 4


def decompose_unknown(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program with unknown ops replaced where torch knows how; the rest stays and is reported by the converter."""
    seen: set[Any] = set()
    for _ in range(_ROUNDS):
        unknown = set(unknown_ops(program.graph_module)) - seen
        if not unknown:
            return program
        rules = torch.export.default_decompositions()
        table = {op: rule for op in unknown if (rule := _rule(op, rules)) is not None}
        if not table:
            return program
        seen |= unknown
        log.info("decomposing %s", ", ".join(sorted(map(target_name, table))))
        program = run_decompositions(program, table)
    return program


def run_decompositions(program: torch.export.ExportedProgram, table: Mapping[Any, Any]) -> torch.export.ExportedProgram:
    """torch's own, which functionalizes a program too; quiet about its own use of what it has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        return program.run_decompositions(dict(table))


def _rule(op: Any, rules: Mapping[Any, Any]) -> Any:
    """How torch takes an op apart; None if it does not."""
    from torch._decomp import decomposition_table

    return rules[op] if op in rules else decomposition_table.get(op)
