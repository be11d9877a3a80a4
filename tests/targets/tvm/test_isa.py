"""Code for other machines than this one: instructions in the assembly, and Arm code run in an emulator."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.errors import UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph, Value
from qcompiler.kernels.cpu.isa import ISAS, best_isa, isa_named
from support.integer_networks import IntegerLayers, random_codes
from support.tools import requires_tool
from support.tvm_programs import built, differing, session_of

tvm = pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

DRIVER = Path(__file__).parents[2] / "support" / "arm_kernel.c"


def linear(columns: int = 64, depth: int = 40) -> Graph:
    b = IntegerLayers("one")
    return b.graph(b.linear(b.codes("x", 8, depth), columns))


def convolution() -> Graph:
    b = IntegerLayers("one")
    return b.graph(b.conv(b.codes("x", 1, 5, 6, 7), 12, relu=True, zero_point=-128))


@pytest.mark.parametrize(
    ("cpu", "instruction", "register"),
    [
        ("znver4", "vpdpbusd", "zmm"),
        ("sapphirerapids", "vpdpbusd", "zmm"),
        ("skylake-avx512", "vpmaddwd", "zmm"),
        ("alderlake", "vpdpbusd", "ymm"),
        ("haswell", "vpmaddwd", "ymm"),
    ],
)
def test_products_use_the_instruction_of_the_cpu(cpu: str, instruction: str, register: str) -> None:
    library, lowered = built(linear(depth=512), cpu)
    assembly = library.inspect_source("asm")
    lines = [line for line in assembly.splitlines() if instruction in line]
    assert lines and all(register in line for line in lines)
    assert "vpmaddubsw" not in assembly  # adds pairs in 16 bits and saturates
    assert lowered.kernels[0].kernel.startswith(instruction)
    # accumulators stay in registers: the loop that multiplies stores nothing
    blocks = [block for block in re.split(r"^\.LBB\w+:", assembly, flags=re.MULTILINE) if block.count(instruction) >= 4]
    loops = [block for block in blocks if re.search(r"\bj\w+\s+\.LBB", block)]
    assert loops
    stores = [line for block in loops for line in _before_the_jump(block) if re.search(rf"vmov\w+\s+%{register}\d+, [^%]", line)]
    assert stores == []


def _before_the_jump(block: str) -> list[str]:
    lines = block.splitlines()
    return lines[: next(i for i, line in enumerate(lines) if re.search(r"\bj\w+\s+\.LBB", line))]


def test_every_instruction_set_of_this_cpu_gives_the_same_integers() -> None:
    graph = linear(columns=20)
    arrays = random_codes(graph, 1)
    for isa in ("avx2", "sse2"):
        assert differing(graph, arrays, session_of(graph, isa).run(arrays)) == 0


@pytest.mark.parametrize("make", [linear, convolution])
def test_arm_dot_products_in_an_emulator(make: Any, tmp_path: Path) -> None:
    emulator, compiler = requires_tool("qemu-aarch64"), requires_tool("aarch64-linux-gnu-gcc")
    import tvm_ffi

    graph = make()
    library, lowered = built(graph, "cortex-a76")
    assert "sdot" in library.inspect_source("asm")
    kernel, (codes,) = lowered.kernels[0], random_codes(graph, 2)
    layout = lowered.layouts[kernel.output]
    outcome = np.zeros(_shape(lowered, kernel), np.int8)
    arrays = [codes if isinstance(a, Value) else a for a in kernel.arguments]
    (tmp_path / "tensors").write_bytes(_encoded([*arrays, outcome]))
    library.export_library(str(tmp_path / "kernel.so"), fcompile=_keep_object(tmp_path / "kernel.o"))
    include = [f"-I{path}" for path in _includes(tvm_ffi)]
    program = tmp_path / "program"
    subprocess.run(
        [compiler, "-O1", "-static", *include, str(DRIVER), str(tmp_path / "kernel.o"), "-o", str(program), "-lm"], check=True
    )
    subprocess.run([emulator, str(program), str(tmp_path / "tensors"), str(tmp_path / "result")], check=True, timeout=60)
    got = np.frombuffer((tmp_path / "result").read_bytes(), np.int8)
    (wanted,) = run_reference(graph, [codes])
    wanted = np.moveaxis(wanted, 1, -1) if layout.kind == "channels_last" else wanted
    assert np.array_equal(got, wanted.reshape(-1))


def _shape(lowered: Any, kernel: Any) -> tuple[int, ...]:
    function = lowered.module[kernel.name]
    return tuple(int(d) for d in function.params[-1].ty.shape)


def _encoded(arrays: list[np.ndarray]) -> bytes:
    codes = {"i": 0, "u": 1, "f": 2}
    parts = [np.int64(len(arrays)).tobytes()]
    for a in arrays:
        head = [codes[a.dtype.kind], a.dtype.itemsize * 8, a.ndim, *a.shape]
        parts += [np.asarray(head, np.int64).tobytes(), np.ascontiguousarray(a).tobytes()]
    return b"".join(parts)


def _keep_object(path: Path) -> Any:
    def keep(output: str, objects: list[str], **_: Any) -> None:
        path.write_bytes(Path(objects[0]).read_bytes())
        Path(output).write_bytes(b"")

    keep.output_format = "so"
    return keep


def _includes(package: Any) -> list[str]:
    return [str(p) for p in (package.libinfo.find_include_path(), package.libinfo.find_dlpack_include_path())]


def test_slow_machines_say_why() -> None:
    assert [isa.name for isa in ISAS if isa.slow] == ["sse2", "neon"]
    assert best_isa({"sse2", "avx2", "fma"}, "x").name == "avx2"
    assert best_isa({"sse2", "avx2"}, "x").name == "sse2"  # half of what AVX2 machines have is not AVX2
    with pytest.raises(UsageError, match="none of the instruction sets"):
        best_isa({"altivec"}, "power9")
    with pytest.raises(UsageError, match="unknown instruction set"):
        isa_named("avx3")
