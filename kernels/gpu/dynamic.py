"""Linear layers whose operand is quantized where it is used (`cuda/qc_dynamic.cuh`), weights of 8 or 4 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler.kernels.gpu.launch import (
    Buffer,
    Field,
    Kernel,
    Launch,
    View,
    ceil_div,
    constant,
    in_order,
    ints,
    reading,
    writing,
)

TILE_K, TILE_N = 64, 64
WARPS = 4


@dataclass(frozen=True)
class GroupWeights:
    """Weights in kernel form.

    Attributes:
        codes: int8 [N padded, K padded], or half as many bytes for 4 bits.
        scale: float32 [groups of K padded, N padded].
        zero: int32, zero points as `scale`; None if all are 0.
        sums: int32 [N padded], of the centred codes along K.
        n, k: without padding.
        group: inputs that share a scale; a multiple of 32.
    """

    codes: View
    scale: View
    zero: View | None
    sums: View
    n: int
    k: int
    padded_k: int
    group: int
    bits: int

    @property
    def padded_n(self) -> int:
        """Output channels as they are stored."""
        return self.scale.shape[1]


def pack_weights(
    name: str, codes: np.ndarray, scale: np.ndarray, group: int | None, bits: int, zero_point: np.ndarray | None = None
) -> GroupWeights:
    """Kernel form of codes [N, K] with scales (and zero points) [], [N], or in groups [N, groups].

    Raises:
        ValueError: the group is no multiple of 32.
    """
    n, k = codes.shape
    rows, columns = ceil_div(n, TILE_N) * TILE_N, ceil_div(k, TILE_K) * TILE_K
    if group is not None and group % 32:
        raise ValueError(f"groups are multiples of 32 inputs, got {group}")
    padded = np.zeros((rows, columns), np.int8)
    padded[:n, :k] = codes
    groups = 1 if group is None else ceil_div(columns, group)  # of padded inputs too

    def by_group(array: np.ndarray, dtype: type) -> np.ndarray:
        found = np.broadcast_to(np.atleast_1d(array).reshape(-1, 1), (n, 1)) if group is None else np.broadcast_to(array, scale.shape)
        made = np.zeros((groups, rows), dtype)
        made[: found.shape[1], :n] = found.T
        return made

    zeros = by_group(np.zeros(()) if zero_point is None else zero_point, np.int32)
    sums = padded.sum(1, dtype=np.int32) - zeros[0] * k  # a range of the whole tensor goes with one group
    stored = padded if bits == 8 else _four_bits(padded)
    return GroupWeights(
        constant(f"{name}.weight", stored), constant(f"{name}.scale", by_group(scale, np.float32)),
        constant(f"{name}.zero", zeros) if zeros.any() else None, constant(f"{name}.sums", sums), n, k, columns,
        columns if group is None else group, bits,
    )  # fmt: skip


def _four_bits(codes: np.ndarray) -> np.ndarray:
    """Bytes [N, K / 2] as `sixteen_codes` reads them: of eight codes the first four are low halves."""
    raised = (codes + 8).astype(np.uint8).reshape(len(codes), -1, 2, 4)
    return (raised[:, :, 0] | raised[:, :, 1] << 4).reshape(len(codes), -1).view(np.int8)


def linear(
    name: str, x: View, weights: GroupWeights, bias: np.ndarray | None, y: View, granularity: str, terms: int = 1
) -> list[Launch]:
    """x [M, K] float32 without gaps, y [M, N]; ranges of x by `tensor`, `token` or `group`; two terms of x for 16 bits."""
    m, k = x.shape
    groups = ceil_div(k, weights.group) if granularity == "group" else 1
    codes = _buffer(f"{name}.codes", np.int8, terms * m, weights.padded_k)
    scale = _buffer(f"{name}.scale", np.float32, terms * m, groups)
    launches, span = [], None
    if granularity == "tensor":
        span = _buffer(f"{name}.range", np.float32, 2)
        kernel = Kernel("tensor_range", "qc_dynamic.cuh", "qc::TensorRangeParams", "qc::tensor_range(p)", 256)
        launches.append(Launch(kernel, (1, 1, 1), (("p", reading(x)), ("p", writing(span)), *ints(x.count), ("a", 8)), x.count))
    fields: list[Field] = [
        ("p", reading(x)), ("p", writing(codes)), ("p", writing(scale)), ("p", reading(span)),
        *ints(m, k, weights.padded_k, weights.group if granularity == "group" else weights.padded_k, groups), ("a", 8),
    ]  # fmt: skip
    several = f"_{terms}_terms" if terms > 1 else ""
    kernel = Kernel(f"dynamic_codes{several}", "qc_dynamic.cuh", "qc::DynamicCodesParams", f"qc::dynamic_codes<{terms}>(p)", 32 * WARPS)
    launches.append(Launch(kernel, (ceil_div(m * groups, WARPS), 1, 1), tuple(fields), x.count))
    held = None if bias is None else constant(f"{name}.bias", bias.astype(np.float32))
    fields = [
        ("p", reading(codes)), ("p", reading(weights.codes)), ("p", reading(scale)), ("p", reading(weights.scale)),
        ("p", reading(weights.zero)), ("p", reading(span)), ("p", reading(weights.sums)), ("p", reading(held)), ("p", writing(y)),
        *ints(m, weights.n, weights.padded_n, weights.padded_k, weights.group, groups, terms), ("a", 8),
    ]  # fmt: skip
    rows, tile = (16, "16, 16, 16") if m <= 16 else (64, "64, 32, 32")
    zeros = weights.zero is not None
    kernel = Kernel(
        f"group_product{weights.bits}_{rows}{'_zeros' if zeros else ''}", "qc_dynamic.cuh", "qc::GroupProductParams",
        f"qc::group_product<{tile}, {weights.bits}, {str(zeros).lower()}>(p)", 128,
    )  # fmt: skip
    launches.append(Launch(kernel, (ceil_div(m, rows), weights.padded_n // TILE_N, 1), tuple(fields), terms * m * weights.n * k))
    return launches


def _buffer(name: str, dtype: type, *shape: int) -> View:
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    return in_order(Buffer(name, size), np.dtype(dtype), shape)
