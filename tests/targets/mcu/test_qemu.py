"""Every core in QEMU: the reference's integers, and flash, RAM and stack as predicted from the object files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from qcompiler.errors import MissingToolError, UnsupportedError, VerificationError
from qcompiler.targets import get_target
from qcompiler.targets.mcu.emit import emit_project, plan_program
from qcompiler.targets.mcu.emit_project import LIBRARY_CALLS
from qcompiler.targets.mcu.memory_file import read_memory
from qcompiler.targets.mcu.parts import CORES, parse_part
from qcompiler.targets.mcu.qemu import build_program, run_emulated
from qcompiler.targets.mcu.simulate import simulate
from support.integer_networks import random_codes, residual_network
from support.tools import requires_tool

ARM = [name for name, core in CORES.items() if core.board is not None]
ENTRY_FRAMES = 16
"""Stack that the test program itself uses around the model where the core has no tail calls."""


def requires_arm() -> None:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm", "make", "gcc"):
        requires_tool(tool)


@pytest.mark.parametrize("core", ARM)
def test_core(core: str, tmp_path: Path) -> None:
    requires_arm()
    graph, part = residual_network(), parse_part(core, "")
    emit_project(graph, part, tmp_path)
    samples = [random_codes(graph, seed) for seed in range(4)]
    found = simulate(graph, part, tmp_path, samples)
    assert (found.differing, found.samples, found.kind) == (0, 4, "simulated")
    assert found.predicted == {"flash_bytes": found.flash_bytes, "ram_bytes": found.ram_bytes}
    memory = read_memory(tmp_path)  # written before anything was linked
    assert (memory.flash, memory.ram, memory.arena) == (found.flash_bytes, found.ram_bytes, found.arena_bytes)
    assert len(found.layers) == len(plan_program(graph, part).program.steps)
    assert all(layer.instructions > 0 for layer in found.layers)
    assert sum(layer.instructions for layer in found.layers) <= found.instructions


def test_stack_and_counts(tmp_path: Path) -> None:
    """The predicted stack is a bound that is reached, and counts repeat to the instruction."""
    requires_arm()
    graph, part = residual_network(), parse_part("cortex-m4", "")
    emit_project(graph, part, tmp_path)
    plan, samples = plan_program(graph, part), [random_codes(graph, seed) for seed in range(2)]
    runs = [run_emulated(plan, tmp_path, samples) for _ in range(2)]
    assert runs[0].stack_used == runs[0].predicted.stack
    assert (runs[0].instructions, runs[0].layers) == (runs[1].instructions, runs[1].layers)
    by_clock = run_emulated(plan, tmp_path, samples, plugin=False)
    assert by_clock.layers == () and abs(by_clock.instructions - runs[0].instructions) < 200


def test_library_has_no_float_no_heap_and_two_routines_of_libc(tmp_path: Path) -> None:
    requires_arm()
    emit_project(residual_network(), parse_part("cortex-m4", ""), tmp_path)
    library = build_program(tmp_path, tmp_path / "build", "libqc_model.a")
    symbols = subprocess.run(["arm-none-eabi-nm", library], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in symbols.splitlines() if line.strip() and not line.endswith(":")]
    defined = {row[-1] for row in rows if row[-2] != "U"}
    outside = {row[-1] for row in rows if row[-2] == "U"} - defined
    assert outside <= LIBRARY_CALLS
    assert {row[-2] for row in rows} & {"D", "d"} == set()  # no initialised data
    code = subprocess.run(["arm-none-eabi-objdump", "-d", library], capture_output=True, text=True, check=True).stdout
    mnemonics = {line.split("\t")[2].strip() for line in code.splitlines() if line.count("\t") >= 2}
    assert "smlad" in mnemonics or "smladx" in mnemonics
    assert [m for m in mnemonics if re.search(r"\.f(16|32|64)|^v(ldr|str|mov|add|mul|cvt)", m)] == []


def test_makefile_checks_itself_and_reports_on_a_serial_port(tmp_path: Path) -> None:
    requires_arm()
    emit_project(residual_network(), parse_part("cortex-m4", ""), tmp_path)
    done = subprocess.run(["make", "-s", "check"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "PASS 2 vectors, 0 bytes differ" in done.stderr
    subprocess.run(["make", "-s", "uart"], cwd=tmp_path, capture_output=True, check=True)
    command = [
        "qemu-system-arm", "-M", "mps2-an386", "-kernel", "build/selfcheck_uart.elf", "-display", "none", "-monitor", "none",
        "-serial", "stdio", "-semihosting-config", "enable=on,target=native",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "PASS 2 vectors, 0 bytes differ")


def test_wrong_integers_on_the_board_are_counted(tmp_path: Path) -> None:
    requires_arm()
    graph, part = residual_network(), parse_part("cortex-m3", "")
    emit_project(graph, part, tmp_path)
    source = tmp_path / "model.c"
    source.write_text(source.read_text().replace(".zero_point = 3,", ".zero_point = 4,"))
    assert simulate(graph, part, tmp_path, [random_codes(graph)]).differing > 0
    text = (tmp_path / "test/stream.c").read_text()
    call = "qc_flat_run(input, output);"
    (tmp_path / "test/stream.c").write_text(text.replace(call, f"{call} *(volatile int *)0xFFFFFFF0u = 1;"))
    with pytest.raises(VerificationError, match="status 99"):
        simulate(graph, part, tmp_path, [random_codes(graph)])


def test_missing_tools_are_named_with_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, part = residual_network(), parse_part("cortex-m4", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    emit_project(graph, part, tmp_path)  # the project can be written without them, its code size is then unknown
    assert read_memory(tmp_path).flash is None
    with pytest.raises(MissingToolError, match="apt-get install qemu-system-arm"):
        simulate(graph, part, tmp_path, [random_codes(graph)])
    with pytest.raises(MissingToolError, match="apt-get install gcc"):
        get_target("cortex-m4").open(tmp_path)


def test_the_host_is_not_emulated(tmp_path: Path) -> None:
    graph = residual_network()
    with pytest.raises(UnsupportedError, match="qemu"):
        get_target("host-c").simulate(graph, tmp_path, [], "qemu")
    with pytest.raises(UnsupportedError, match="verilator"):
        get_target("cortex-m4").simulate(graph, tmp_path, [], "verilator")
