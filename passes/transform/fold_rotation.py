"""Fold primitives for rotations: of residual streams, and of the heads between V and O; computed in float64.

For orthogonal R, x -> x R changes a writer's W to R^T W and b to b R, an embedding table to E R, and a reader's W to
W R. A norm before the reader gives up its weight first: W diag(gamma), b + W beta. For layer_norm the writers take the
mean over channels off (M = I - 1/D), after which it is an rms_norm.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcompiler.ir import Graph, Node, Rewriter, Value, constant, rewrite

from .groups import Site
from .residual_stream import Stream


def rotate_streams(graph: Graph, rotations: Mapping[Stream, np.ndarray], pass_name: str) -> Graph:
    """The graph with x -> x R [D, D] in each stream; streams whose R is the identity are left alone.

    Raises:
        ValueError: R is not orthogonal.
    """
    active = {s: r.astype(np.float64) for s, r in rotations.items() if not np.array_equal(r, np.eye(s.width))}
    for stream, r in active.items():
        if r.shape != (stream.width,) * 2 or np.abs(r @ r.T - np.eye(stream.width)).max() > 1e-8:
            raise ValueError(f"the rotation of {stream.where()} is not orthogonal")
    if not active:
        return graph
    writes: dict[Node, np.ndarray] = {}
    tables: dict[Value, np.ndarray] = {}
    reads: dict[Node, tuple[Node | None, np.ndarray]] = {}
    norms: dict[Node, Stream] = {}
    for stream, r in active.items():
        turn = (np.eye(stream.width) - 1 / stream.width) @ r if stream.centred else r
        writes |= dict.fromkeys(stream.writers, turn)
        tables |= dict.fromkeys(stream.constants, turn)
        norms |= dict.fromkeys(stream.norms, stream)
        behind = {reader: norm for norm in stream.norms for reader, _ in graph.uses(norm.output)}
        reads |= {reader: (behind.get(reader), r) for reader in stream.readers}
    turned: dict[tuple[Value, int], Value] = {}

    def visit(new: Rewriter, node: Node) -> Value | None:
        if node in norms:
            plain = {"eps": node.attrs["eps"], "axes": 1}
            return new.op("rms_norm", new[node.operands[0]], name=node.output.name, **plain)
        if node.op == "gather" and node in writes:
            return _gather(new, node, writes[node], turned)
        if node in reads or node in writes:
            return _linear(new, node, reads.get(node), writes.get(node))
        if any(v in tables for v in node.operands) and node.op == "add":
            operands = [_constant(v, v.data @ tables[v]) if v in tables else new[v] for v in node.operands]
            return new.op("add", *operands, name=node.output.name)
        return None

    return rewrite(graph, visit, pass_name)


def _gather(new: Rewriter, node: Node, turn: np.ndarray, turned: dict[tuple[Value, int], Value]) -> Value:
    table = node.operands[0]
    assert table.data is not None
    key = (table, id(turn))
    if key not in turned:
        turned[key] = _constant(table, table.data.astype(np.float64) @ turn)
    return new.op("gather", turned[key], *(new[v] for v in node.operands[1:]), name=node.output.name, **dict(node.attrs))


def _linear(
    new: Rewriter, node: Node, read: tuple[Node | None, np.ndarray] | None, turn: np.ndarray | None
) -> Value:
    weight, bias = _data(node.operands[1]), None if node.inputs[2] is None else _data(node.inputs[2])
    if read is not None:
        norm, r = read
        gamma = norm.inputs[1] if norm is not None else None
        beta = norm.inputs[2] if norm is not None and norm.op == "layer_norm" else None
        if beta is not None:
            added = weight @ _data(beta)
            bias = added if bias is None else bias + added
        if gamma is not None:
            weight = weight * _data(gamma)
        weight = weight @ r
    if turn is not None:
        weight = turn.T @ weight
        bias = None if bias is None else bias @ turn
    like = node.operands[1]
    operands = [_constant(like, weight)]
    if bias is not None:
        operands.append(constant(bias.astype(like.dtype.numpy), name="bias"))
    return new.op("linear", new[node.operands[0]], *operands, name=node.output.name)


def rotate_heads(graph: Graph, rotations: Mapping[Site, np.ndarray], pass_name: str) -> Graph:
    """V -> V R_h per value head and W_o -> W_o R_h; rotations [heads, D, D] of VALUE sites.

    Attention mixes tokens, never the channels of a head, so R passes through it. Query heads that share a value head
    share its rotation.

    Raises:
        ValueError: a rotation that is not orthogonal.
    """
    eye = {s: np.eye(r.shape[-1]) for s, r in rotations.items()}
    active = {s: r.astype(np.float64) for s, r in rotations.items() if not (r == eye[s]).all()}
    for site, r in active.items():
        if np.abs(r @ r.transpose(0, 2, 1) - eye[site]).max() > 1e-8:
            raise ValueError(f"the rotation of {site.name} is not orthogonal")
    if not active:
        return graph
    makes = {s.producer: (s, r) for s, r in active.items()}
    takes = {n: (s, r) for s, r in active.items() for n in s.readers}

    def visit(new: Rewriter, node: Node) -> Value | None:
        if node not in makes and node not in takes:
            return None
        weight, bias = _data(node.operands[1]), None if node.inputs[2] is None else _data(node.inputs[2])
        if node in takes:
            site, r = takes[node]
            heads = site.width // r.shape[-1]
            of_head = site.tie.reshape(heads, -1)[:, 0] // r.shape[-1]
            blocks = weight.reshape(len(weight), heads, r.shape[-1])
            weight = np.einsum("nhd,hde->nhe", blocks, r[of_head]).reshape(weight.shape)
        if node in makes:
            site, r = makes[node]
            blocks = weight.reshape(len(r), r.shape[-1], -1)
            weight = np.einsum("hde,hdk->hek", r, blocks).reshape(weight.shape)
            bias = None if bias is None else np.einsum("hd,hde->he", bias.reshape(len(r), -1), r).reshape(-1)
        operands = [_constant(node.operands[1], weight)]
        if bias is not None:
            operands.append(constant(bias.astype(node.output.dtype.numpy), name="bias"))
        return new.op("linear", new[node.operands[0]], *operands, name=node.output.name)

    return rewrite(graph, visit, pass_name)


def _data(value: Value) -> np.ndarray:
    assert value.data is not None
    return value.data.astype(np.float64)


def _constant(like: Value, data: np.ndarray) -> Value:
    return constant(data.astype(like.dtype.numpy), name=like.name)
