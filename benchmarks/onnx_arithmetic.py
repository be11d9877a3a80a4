"""Real ops rounded as ONNX Runtime's kernels for x86-64 with AVX2 and FMA round them: `make bench-import`.

Two programs that compute real numbers in another order differ by some 1e-7, and one code that turns over for it moves
the codes behind it. With the runtime's own order there is nothing left but what the program says: a file as the
runtime has optimized it is imported, its real ops run here, and the outputs are compared to the last bit.

Orders were found by feeding single ops; they hold for one thread and the pinned version. Arrays are float32;
a fused multiply-add is a float64 product and sum, rounded once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Node

F = np.float32
Body = Callable[..., np.ndarray]
PACKED_BLOCK = 256
"""Products of a constant matrix, which the runtime packs, sum up in blocks of so many."""
BLOCK, COLUMNS = 128, 128
"""Blocks of other products, and the columns worked on at a time; narrower ones make longer blocks."""


def fma(a: Any, b: Any, c: Any) -> np.ndarray:
    """a b + c with one rounding."""
    return (np.asarray(a, np.float64) * b + c).astype(F)


def _polynomial(coefficients: Sequence[float], x: np.ndarray) -> np.ndarray:
    """By Horner's rule, highest power first."""
    y = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y = fma(y, x, F(c))
    return y


_LOG2_E, _LN2_HIGH, _LN2_LOW = F(1.4426950408889634), F(-6.93145752e-1), F(-1.42860677e-6)
_TO_INTEGER = F(1.5 * 2**23)
"""Adding it rounds a float32 to an integer."""


def _exponential(x: np.ndarray, coefficients: Sequence[float]) -> np.ndarray:
    """2^m p(x - m ln 2); a result below the normal numbers is 0."""
    m = fma(x, _LOG2_E, _TO_INTEGER) - _TO_INTEGER
    rest = fma(m, _LN2_LOW, fma(m, _LN2_HIGH, x))
    scaled = np.ldexp(_polynomial(coefficients, rest), np.maximum(m, -126).astype(np.int32))
    return np.where(m < -126, F(0), scaled)


_ERF_SMALL = (-5.99104969e-4, 4.99339588e-3, -2.67667342e-2, 1.12818025e-1, -3.76124859e-1, 1.28379151e-1)
_ERF_LARGE = (1.72948930e-5, -3.83208680e-4, 3.88393435e-3, -2.42545605e-2, 1.06777847e-1, 6.34846687e-1, 1.28717512e-1)
_ERF_EXP = (1.38319808e-3, 8.37550033e-3, 4.16689515e-2, 1.66664466e-1, 4.99999851e-1, 1.0, 1.0)
_ERF_SPLIT, _ERF_END = F(0.921875), F(3.925)
_SOFTMAX_EXP = tuple(
    map(float.fromhex, ("0x1.694p-10", "0x1.125edcp-7", "0x1.555b5ap-5", "0x1.55545p-3", "0x1.fffff6p-2", "0x1p0", "0x1p0"))
)
_SOFTMAX_LOWEST = F(-88.3762626647949)


def erf(x: np.ndarray) -> np.ndarray:
    """A polynomial near 0, else 1 - exp of one."""
    size = np.minimum(np.abs(x), _ERF_END)
    near = fma(_polynomial(_ERF_SMALL, size * size), size, size)
    far = 1 - _exponential(-fma(_polynomial(_ERF_LARGE, size), size, size), _ERF_EXP)
    return np.copysign(np.where(size >= _ERF_SPLIT, far, near), x)


def gelu(x: np.ndarray) -> np.ndarray:
    """By the error function."""
    return F(0.5) * x * (1 + erf(x * F(np.sqrt(0.5))))


def _sum_lanes(lanes: np.ndarray) -> np.ndarray:
    """The 8 lanes of a vector register: neighbours first, then pairs, then halves; keeps the axis."""
    pairs = lanes[..., 0::2] + lanes[..., 1::2]
    return pairs[..., 0:1] + pairs[..., 1:2] + (pairs[..., 2:3] + pairs[..., 3:4])


def _by_lanes(x: np.ndarray) -> np.ndarray:
    """[..., N] as [vectors, ..., 8], zeros behind the end."""
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % 8)])
    return np.moveaxis(padded.reshape(*x.shape[:-1], -1, 8), -2, 0)


def softmax(x: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    below = np.maximum(x - x.max(-1, keepdims=True), _SOFTMAX_LOWEST)
    powers = _exponential(below, _SOFTMAX_EXP)
    lanes = np.zeros((*x.shape[:-1], 8), F)
    for part in _by_lanes(powers):
        lanes = lanes + part
    return powers * (1 / _sum_lanes(lanes))


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """Mean in float64, then squares of what is left, by lanes; the width is a multiple of 8."""
    rest = x - (x.sum(-1, dtype=np.float64, keepdims=True) / x.shape[-1]).astype(F)
    lanes = np.zeros((*x.shape[:-1], 8), F)
    for part in _by_lanes(rest):
        lanes = fma(part, part, lanes)
    halves = lanes[..., :4] + lanes[..., 4:]
    pairs = halves[..., :2] + halves[..., 2:]
    return fma(rest * (1 / np.sqrt((pairs[..., :1] + pairs[..., 1:]) / F(x.shape[-1]) + F(eps))), weight, bias)


def skip_layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """Of a sum that the runtime has in the same op: running mean and squares, element by element (Welford 1962)."""
    mean, squares = np.zeros((2, *x.shape[:-1]), F)
    for i in range(x.shape[-1]):
        step = x[..., i] - mean
        mean = mean + step / F(i + 1)
        squares = squares + step * (x[..., i] - mean)
    deviation = np.sqrt(squares / F(x.shape[-1]) + F(eps))
    return (x - mean[..., None]) / deviation[..., None] * weight + bias


def block_size(columns: int, terms: int) -> int:
    """How many products of a computed matrix are summed up at a time."""
    block, width = BLOCK, COLUMNS
    while columns < terms and width > 16 and width // 2 >= columns:
        block, width = 2 * block, width // 2
    return block


def matmul(a: np.ndarray, b: np.ndarray, packed: bool = False, total: np.ndarray | None = None) -> np.ndarray:
    """[..., M, K] times [..., K, N]: chains of fused multiply-adds, a block's sum added to those before and to `total`."""
    block = PACKED_BLOCK if packed else block_size(b.shape[-1], a.shape[-1])
    left, right = (np.ascontiguousarray(v, np.float64) for v in (np.moveaxis(a, -1, 0), np.moveaxis(b, -2, 0)))
    for start in range(0, len(left), block):
        part = np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), F)
        for row, column in zip(left[start : start + block], right[start : start + block], strict=True):
            part = fma(row[..., None], column[..., None, :], part)
        total = part if total is None else total + part
    assert total is not None
    return total


def _row_times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[..., K] times [..., K, N]: sums of 4, 2 and 1 products, one after the other, without fused multiply-add."""
    total, start = np.zeros(b.shape[:-2] + b.shape[-1:], F), 0
    while start < a.shape[-1]:
        count = next(n for n in (4, 2, 1) if start + n <= a.shape[-1])
        part = a[..., start, None] * b[..., start, :]
        for k in range(start + 1, start + count):
            part = part + a[..., k, None] * b[..., k, :]
        total, start = part + total, start + count
    return total


def linear(x: np.ndarray, w: np.ndarray, bias: np.ndarray, packed: bool = False) -> np.ndarray:
    """x [M, K] times w [N, K] transposed; one row times a computed matrix by lanes, K a multiple of 8 and N of 4."""
    if packed or len(x) > 1:
        return matmul(x, w.T, packed, bias)
    lanes = np.zeros((w.shape[0], 8), F)
    for a, b in zip(_by_lanes(x), _by_lanes(w), strict=True):
        lanes = lanes + a * b
    halves = lanes.reshape(-1, 2, 4)
    sums = halves[..., 0] + halves[..., 1] + halves[..., 2] + halves[..., 3]
    return (sums[:, 0] + sums[:, 1] + bias)[None]


def conv(attrs: Mapping[str, Any], x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Two-dimensional convolution of one image as a product with its patches [C/groups kernel, pixels] in each group."""
    (top, left, bottom, right), groups = attrs["pads"], attrs["groups"]
    padded = np.pad(x[0], [(0, 0), (top, bottom), (left, right)])
    reach = [d * (k - 1) + 1 for d, k in zip(attrs["dilations"], w.shape[2:], strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, (1, 2))
    (sy, sx), (dy, dx) = attrs["strides"], attrs["dilations"]
    views = views[:, ::sy, ::sx, ::dy, ::dx]
    rows, columns = views.shape[1:3]
    patches = views.transpose(0, 3, 4, 1, 2).reshape(groups, -1, rows * columns)
    filters = w.reshape(groups, w.shape[0] // groups, -1)
    if filters.shape[1] == 1:
        y = _row_times(filters[:, 0], patches)
    else:
        y = matmul(filters, patches)
    y = y.reshape(1, w.shape[0], rows, columns)
    return y if bias is None else y + bias[:, None, None]


def mean(x: np.ndarray) -> np.ndarray:
    """Over the pixels of x [1, C, H, W] with its beginning on a boundary of 16 bytes: 4 lanes in two sums, ends apart."""
    flat = x.reshape(x.shape[1], -1)
    count = flat.shape[1]
    means = np.zeros(len(flat), F)
    for i, row in enumerate(flat):
        start = -i * count % 4
        vectors = row[start : start + (count - start) // 4 * 4].reshape(-1, 4)
        sums = np.zeros((2, 4), F)
        for pair in vectors[: len(vectors) // 2 * 2].reshape(-1, 2, 4):
            sums = sums + pair
        lanes = sums[0] + sums[1]
        if len(vectors) % 2:
            lanes = lanes + vectors[-1]
        total = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
        for value in (*row[:start], *row[start + vectors.size :]):
            total = total + value
        means[i] = total / F(count)
    return means.reshape(1, -1, 1, 1)


def runtime_bodies(graph: Graph, model: Any) -> dict[Node, Body]:
    """Bodies of real ops, called with their operands; `graph` is the import of `model`, which the runtime runs as it is."""
    sources = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    bodies: dict[Node, Body] = {}
    for node in graph.nodes:
        source = sources.get(node.output.name)
        if any(v.quant is not None for v in node.operands) or source is None:
            continue
        if node.op == "layer_norm":
            body = skip_layer_norm if source.op_type == "SkipLayerNormalization" else layer_norm
            bodies[node] = partial(body, eps=node.attrs["eps"])
        elif node.op in ("matmul", "linear"):
            bodies[node] = partial(matmul if node.op == "matmul" else linear, packed=source.input[1] in constants)
        elif node.op == "conv":
            bodies[node] = partial(conv, node.attrs)
        elif node.op in _SIMPLE:
            bodies[node] = _SIMPLE[node.op]
    return bodies


_SIMPLE: dict[str, Body] = {"gelu": gelu, "erf": erf, "softmax": softmax, "reduce_mean": mean}


def run_with(graph: Graph, arrays: Sequence[np.ndarray], bodies: Mapping[Node, Body]) -> list[np.ndarray]:
    """Run the reference with other bodies of some nodes."""
    from qcompiler.executors.reference import bind_inputs, last_uses, run_node

    bindings, last = bind_inputs(graph, [a.shape for a in arrays]), last_uses(graph)
    live: dict[Any, np.ndarray] = dict(zip(graph.inputs, arrays, strict=True))
    for node in graph.nodes:
        operands = [None if v is None else v.data if v.data is not None else live[v] for v in node.inputs]
        body = bodies.get(node)
        results = run_node(node, operands, bindings) if body is None else (body(*operands),)
        live.update(zip(node.outputs, results, strict=True))
        for value in last.get(node, ()):
            live.pop(value, None)
    return [live[v] for v in graph.outputs]
