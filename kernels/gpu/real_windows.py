"""Windows over real numbers (`cuda/qc_real_windows.cuh`): averages, maxima, convolutions; a thread per result."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.kernels.gpu.gemm import Geometry
from qcompiler.kernels.gpu.launch import (
    Field,
    Kernel,
    Launch,
    View,
    ceil_div,
    constant,
    ints,
    reading,
)
from qcompiler.kernels.gpu.windows import THREADS, front, sizes


def window(
    kind: str, x: View, y: View, geometry: Geometry, ends: tuple[int, ...], weight: np.ndarray | None = None, bias: np.ndarray | None = None,
    groups: int = 1,
) -> Launch:  # fmt: skip
    """x, y [N, C, H, W] or [N, C, D, H, W], any strides; `kind` of `qc::RealWindow`, `ends`: padding behind the last elements.

    Weights [O, C / groups, *kernel] and bias [O] are those of a convolution.
    """
    held = [None if v is None else constant("window", v.astype(np.float32)) for v in (weight, bias)]
    channels = 1 if weight is None else weight.shape[1]
    fields: list[Field] = [
        *front(x, real=True), *front(y, write=True, real=True), *(("p", reading(v)) for v in held), *sizes(x, y, geometry),
        *ints(*[0] * (3 - len(ends)), *ends, y.count, channels, y.shape[1] // groups), ("a", 8),
    ]  # fmt: skip
    kernel = Kernel(f"real_window_{kind.lower()}", "qc_real_windows.cuh", "qc::RealWindowParams", f"qc::real_window<qc::{kind}>(p)", THREADS)
    work = y.count * channels * math.prod(geometry.kernel)
    return Launch(kernel, (ceil_div(y.count, THREADS), 1, 1), tuple(fields), work)
