"""Ops without a converter are taken apart by torch's own decompositions, and only those."""

from __future__ import annotations

import logging
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
        table = {op: rule for op in unknown if (rule := decomposition(op)) is not None}
        if not table:
            return program
        seen |= unknown
        log.info("decomposing %s", ", ".join(sorted(map(target_name, table))))
        program = program.run_decompositions(table)
    return program


def decomposition(op: Any) -> Any:
    """Gives torch's rule for an op; None if it has none."""
    if not isinstance(op, torch._ops.OpOverload):
        return None
    from torch._decomp import decomposition_table

    if op in decomposition_table:
        return decomposition_table[op]
    if op._can_decompose():  # composite: implemented by other ops
        return op.decompose
    return None
