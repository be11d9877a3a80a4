"""Instruction sets that decide which integer kernels of ONNX Runtime are exact and fast."""

from __future__ import annotations

import platform
from pathlib import Path

# name -> what it means for u8 x s8 products
ISAS: dict[str, str] = {
    "avx2": "vpmaddubsw: pairs of products saturate at 16 bits",
    "avx512": "vpmaddubsw: pairs of products saturate at 16 bits",
    "avx_vnni": "vpdpbusd: exact",
    "avx512_vnni": "vpdpbusd: exact",
    "arm64": "exact",
}
PAIR_PRODUCTS = frozenset({"avx2", "avx512"})


def host_isa(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The entry of `ISAS` for this machine.

    Where the flags cannot be read the answer is `avx2`: its weights are exact on every x86 machine.
    """
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return "avx2"
    flags = set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))
    if "avx512_vnni" in flags:
        return "avx512_vnni"
    if "avx_vnni" in flags:
        return "avx_vnni"
    return "avx512" if "avx512bw" in flags else "avx2"
