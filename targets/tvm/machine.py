"""A CPU as TVM and the kernels know it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from qcompiler.errors import UsageError, did_you_mean
from qcompiler.kernels.cpu.isa import Isa, best_isa
from qcompiler.targets.tvm.version import require_tvm

AARCH64 = "aarch64-linux-gnu"


@dataclass(frozen=True)
class Machine:
    """A CPU.

    Attributes:
        cpu: LLVM's name.
        triple: LLVM's triple.
        isa: what the kernels use of it.
        host: this machine.
    """

    cpu: str
    triple: str
    isa: Isa
    host: bool

    def tvm_target(self, threads: int = 1) -> Any:
        """TVM's description."""
        import tvm

        return tvm.target.Target({"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu, "num-cores": threads})


@functools.cache
def host_machine() -> Machine:
    """This machine; `mcpu=native` would give code without vectors, so LLVM is asked for the name."""
    require_tvm()
    import tvm

    found = tvm.target.Target.from_device("cpu")
    return _machine(str(found.attrs["mcpu"]), str(found.attrs["mtriple"]), True)


@functools.cache
def machine_named(cpu: str) -> Machine:
    """The CPU of a name that LLVM knows for x86-64 or Arm64.

    Raises:
        UsageError: LLVM knows no such CPU.
    """
    host = host_machine()
    if not cpu or cpu == host.cpu:
        return host
    known = []
    for triple in dict.fromkeys((host.triple, "x86_64-linux-gnu", AARCH64)):
        names = _cpus(triple)
        if cpu in names:
            return _machine(cpu, triple, False)
        known += names
    raise UsageError(f"unknown CPU {cpu!r}.{did_you_mean(cpu, known)} LLVM knows names like znver4, sapphirerapids, neoverse-n1")


def _cpus(triple: str) -> list[str]:
    import tvm
    from tvm.target import codegen

    generic = "generic" if triple == AARCH64 else "x86-64"
    return [str(n) for n in codegen.llvm_get_cpu_archlist(tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": generic}))]


def _machine(cpu: str, triple: str, host: bool) -> Machine:
    return Machine(cpu, triple, best_isa(features_of(cpu, triple), cpu), host)


def missing_features(machine: Machine) -> list[str]:
    """What LLVM would use of a machine that this one does not have, by LLVM's names; no tuning flags."""
    host = host_machine()
    if machine.host or machine.cpu == host.cpu:
        return []
    if machine.triple.partition("-")[0] != host.triple.partition("-")[0]:
        return [f"the architecture {machine.triple.partition('-')[0]}"]
    return sorted((features_of(machine.cpu, machine.triple) - features_of(host.cpu, host.triple)) & INSTRUCTIONS)


INSTRUCTIONS = frozenset(
    "avx2 fma avx avx512f avx512bw avx512vl avx512dq avx512cd avx512vnni avxvnni avx512bf16 avx512fp16 avx512vbmi avx512vbmi2 "
    "avx512bitalg avx512vpopcntdq avx512ifma amx-tile amx-int8 amx-bf16 bmi bmi2 lzcnt popcnt sse4.1 sse4.2 ssse3 sse3 gfni "
    "vaes vpclmulqdq avxifma avxneconvert avxvnniint8 avxvnniint16 f16c movbe sha "
    "neon dotprod i8mm bf16 fullfp16 lse rcpc sve sve2".split()
)
"""Features that change which instructions are used in code like ours."""


@functools.cache
def features_of(cpu: str, triple: str) -> frozenset[str]:
    """What LLVM knows a CPU to have, by LLVM's names."""
    import tvm
    from tvm.target import codegen

    target = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu})
    return frozenset(str(f) for f in codegen.llvm_get_cpu_features(target))
