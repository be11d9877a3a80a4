"""Which files a set of kernels needs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent
HEADERS = ("qc_isa.h", "qc_fixed_point.h", "qc_internal.h", "qc_kernels.h", "qc_sums.h")

# File of a kernel -> files whose functions it calls. A kernel's file has its function's name without `qc_`.
USES: dict[str, tuple[str, ...]] = {
    "conv2d_s8": ("gather_s8", "expand_s8", "extend", "column_bytes", "packed_weight_bytes", "product_s8", "product_mve_s8", "limit", "add_s8"),
    "fully_connected_s8": ("expand_s8", "extend", "column_bytes", "product_s8", "product_mve_s8", "product_s8_s16", "limit"),
    "depthwise_conv2d_s8": ("depthwise_load_s8", "depthwise_keep_s8", "depthwise_rows_s8", "depthwise_rows_dsp_s8", "limit"),
    "max_pool_s8": (),
    "max_pool_s16": (),
    "avg_pool_s8": (),
    "add_s8": (),
    "mul_s8": (),
    "requantize_s8": (),
    "requantize_s32_s8": (),
    "scale_channels_s8": (),
    "pad_s8": (),
    "copy": (),
    "transpose": (),
    "lookup_s8": (),
    "matmul_s8": (
        "expand_s8", "extend", "column_bytes", "packed_weight_bytes", "product_s8", "product_mve_s8", "product_s8_s16",
        "limit",
    ),
    "softmax_lookup_s8": (),
    "softmax_lookup_s16": (),
    "shiftmax": (),
    "add_s16": (),
    "mul_s16": (),
    "requantize_s16": (),
    "lookup_s8_s16": (),
    "lookup_interpolated_s16": (),
    "normalize_s16": (),
    "mean_s16": (),
    "log2_softmax": (),
    "shift_sigmoid": (),
    "gather_rows": (),
    "not_zero": (),
    "logical_and": (),
    "where": (),
}  # fmt: skip
# Needed as well when a layer has 4-bit weights (-DQC_INT4=1).
INT4 = ("product_s4",)


def kernel_sources(kernels: Iterable[str]) -> list[Path]:
    """The C files of some kernels and what they call, sorted; `HEADERS` lie in `FOLDER` too.

    Raises:
        KeyError: no such kernel.
    """
    names: set[str] = set()
    for kernel in kernels:
        names |= {kernel, *USES[kernel]}
    return sorted(FOLDER / f"{name}.c" for name in names)
