"""A small decoder graph with everything that transforms have to respect: GQA, RoPE, gated MLP, tied embeddings."""

from __future__ import annotations

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Origin, Value
from qcompiler.ir.dims import symbol

VOCABULARY, HEAD = 20, 4


class Decoder:
    """Builds the graph.

    Args:
        norm: "rms_norm" or "layer_norm" (with beta).
        bias: of every linear layer.
        heads, kv_heads: query heads of width 4, and the key and value heads they share.
        tied: the head reads the embedding table.
        rope: rotary embedding of queries and keys.
        positions: a constant added to the embeddings.
        dead: share of gammas that are about zero.
    """

    def __init__(
        self,
        norm: str = "rms_norm",
        bias: bool = False,
        heads: int = 4,
        kv_heads: int = 2,
        tied: bool = True,
        rope: bool = True,
        positions: bool = False,
        layers: int = 2,
        number: type = np.float64,
        seed: int = 0,
    ) -> None:
        self.norm_op, self.bias, self.heads, self.kv_heads, self.number = norm, bias, heads, kv_heads, number
        self.width = heads * HEAD
        self.rng = np.random.default_rng(seed)
        self.b = b = GraphBuilder("decoder")
        ids = b.input("ids", DType.int64, (1, symbol("tokens") if not (rope or positions) else 6))
        self.tokens = ids.shape[1]
        table = self.const(VOCABULARY, self.width)
        x = b.op("gather", table, ids, axis=0)
        if positions:
            x = b.op("add", x, self.const(1, 6, self.width))
        angles = np.arange(6)[:, None] / 50.0 ** (np.arange(HEAD // 2) / HEAD * 2)
        angles = np.concatenate([angles, angles], 1)
        self.turn = (b.const(np.cos(angles).astype(number)), b.const(np.sin(angles).astype(number))) if rope else None
        for layer in range(layers):
            x = self.layer(x, f"layers.{layer}")
        b.origin = Origin("head")
        head = table if tied else self.const(VOCABULARY, self.width)
        self.graph: Graph = b.build([b.op("linear", self.norm(x), head)])

    def const(self, *shape: int, scale: float = 1.0) -> Value:
        return self.b.const((self.rng.standard_normal(shape) * scale).astype(self.number))

    def linear(self, x: Value, rows: int, at: str) -> Value:
        self.b.origin = Origin(at)
        width = int(x.shape[-1])
        return self.b.op(
            "linear", x, self.const(rows, width, scale=width**-0.5), self.const(rows) if self.bias else None
        )

    def norm(self, x: Value) -> Value:
        gamma = self.rng.standard_normal(self.width) * 2
        gamma[::5] = 1e-9
        affine = [self.b.const(gamma.astype(self.number))]
        if self.norm_op == "layer_norm":
            affine.append(self.const(self.width))
        return self.b.op(self.norm_op, x, *affine, eps=1e-5)

    def split(self, x: Value, heads: int) -> Value:
        shaped = self.b.op("reshape", x, shape=(1, self.tokens, heads, HEAD))
        return self.b.op("transpose", shaped, perm=(0, 2, 1, 3))

    def layer(self, x: Value, at: str) -> Value:
        b = self.b
        n = self.norm(x)
        q = self.split(self.linear(n, self.width, f"{at}.q"), self.heads)
        k = self.split(self.linear(n, self.kv_heads * HEAD, f"{at}.k"), self.kv_heads)
        v = self.split(self.linear(n, self.kv_heads * HEAD, f"{at}.v"), self.kv_heads)
        if self.turn is not None:
            q, k = (b.op("rotary", t, *self.turn, interleaved=False) for t in (q, k))
        a = b.op("transpose", b.op("attention", q, k, v, causal=True), perm=(0, 2, 1, 3))
        x = b.op("add", x, self.linear(b.op("reshape", a, shape=(1, self.tokens, self.width)), self.width, f"{at}.o"))
        n = self.norm(x)
        gate = b.op("silu", self.linear(n, 24, f"{at}.gate"))
        hidden = b.op("mul", gate, self.linear(n, 24, f"{at}.up"))
        return b.op("add", x, self.linear(hidden, self.width, f"{at}.down"))


def decoder(**options: object) -> Graph:
    """The graph of a `Decoder`."""
    return Decoder(**options).graph  # type: ignore[arg-type]


def token_ids(seed: int = 0) -> np.ndarray:
    """Six tokens, [1, 6]."""
    return np.random.default_rng(seed).integers(0, VOCABULARY, (1, 6))


def max_rel(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference as a share of the largest value."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def difference(before: Graph, after: Graph, seed: int = 5) -> float:
    """max_rel of the outputs of two graphs on the same tokens."""
    ids = token_ids(seed)
    return max_rel(run_reference(after, [ids])[0], run_reference(before, [ids])[0])
