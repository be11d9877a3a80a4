"""Store embedding tables as 8-bit codes, one symmetric scale per row, dequantized where they are read.

    gather(table [V, D], ids)  ->  cast(gather(codes [V, D], ids)) * gather(scales [V, 1], ids)

A row is read as a whole, so it can have a scale of its own at the cost of one multiply; a table takes a quarter of
its float size (a third of MiniLM's file is its table). A table that something else reads (tied to an output layer)
stays: it would be stored twice. Rows are rounded to nearest with scale max|row| / qmax.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from qcompiler.ir import DType, Graph, Node, Rewriter, Value, rewrite
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result

SHORTEST_ROW = 8


class EmbeddingsConfig(PassConfig):
    """min_bytes: smaller float tables are left alone."""

    min_bytes: int = Field(1 << 18, ge=0)


class RoundEmbeddings(Pass):
    """See the module docstring."""

    name = "round_embeddings"
    kind = Kind.LOSSY

    def __init__(self, config: EmbeddingsConfig | None = None) -> None:
        self.config = config or EmbeddingsConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Sites are gathers along axis 0 of constant float matrices."""
        notes: list[Note] = []
        tables: dict[Value, tuple[Value, Value, dict[str, float]]] = {}

        def visit(r: Rewriter, node: Node) -> Value | None:
            table = node.operands[0] if node.op == "gather" else None
            if table is None or table.data is None or table.dtype is not DType.float32 or len(table.shape) != 2:
                return None
            reason = self._why_not(graph, node, table)
            if reason:
                notes.append(Note(node.where(), False, reason))
                return None
            if table not in tables:
                rounded = round_rows(table.data)
                codes, scales = r.const(rounded[0], DType.int8, name=table.name), r.const(rounded[1])
                tables[table] = codes, scales, _figures(table.data, *rounded)
            codes, scales, figures = tables[table]
            notes.append(Note(node.where(), True, "8-bit codes, a scale per row", figures))
            ids = r[node.operands[1]]
            rows = r.op("cast", r.op("gather", codes, ids, axis=0), dtype=DType.float32)
            return r.op("mul", rows, r.op("gather", scales, ids, axis=0))

        result = rewrite(graph, visit, self.name)
        return Result(result, result is not graph, tuple(notes))

    def _why_not(self, graph: Graph, node: Node, table: Value) -> str:
        assert table.data is not None
        if node.attrs["axis"] % 2:
            return "reads columns"
        if table.data.shape[1] < SHORTEST_ROW:
            return f"rows of {table.data.shape[1]} numbers are not worth a scale each"
        if table.data.nbytes < self.config.min_bytes:
            return f"the table takes {table.data.nbytes} bytes only"
        others = [u for u, _ in graph.uses(table) if u.op != "gather" or u.attrs["axis"] % 2 or u.operands[0] is not table]
        return f"the table is also read by {others[0].where()}" if others else ""


def _figures(table: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> dict[str, float]:
    error = float(((table - codes * scales) ** 2).sum(dtype=np.float64))
    power = float((table**2).sum(dtype=np.float64))
    return {"sqnr_db": round(10 * float(np.log10(power / error)), 1)} if error > 0 else {}


def round_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 codes [V, D] and float32 scales [V, 1]; a row of zeros has scale 1."""
    peak = np.abs(table).max(1, keepdims=True)
    scales = np.where(peak > 0, peak / np.float32(127), np.float32(1)).astype(np.float32)
    return np.clip(np.rint(table / scales), -127, 127).astype(np.int8), scales
