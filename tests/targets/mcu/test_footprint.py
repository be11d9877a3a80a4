"""Sizes and stack from object files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qcompiler.errors import InternalError
from qcompiler.targets.mcu.elf import Elf
from qcompiler.targets.mcu.footprint import Footprint, predict
from support.tools import requires_tool

PUSHES = {
    "push {r4, lr}": 8, "push.w {r4-r11, lr}": 36, "push.w {r9}": 4, "vpush {d8-d11}": 32, "sub sp, #508": 508,
    "sub.w sp, sp, #260": 260, "sub.w sp, sp, #4096": 4096, "subw sp, sp, #4093": 4093, "mov r0, r1": 0, "str r3, [sp, #8]": 0,
}  # fmt: skip


def compiled(folder: Path, **sources: str) -> list[Path]:
    compiler = requires_tool("arm-none-eabi-gcc")
    for name, text in sources.items():
        (folder / f"{name}.c").write_text(text)
    flags = ["-mcpu=cortex-m4", "-mfloat-abi=hard", "-mthumb", "-O2", "-ffunction-sections", "-fdata-sections", "-fstack-usage", "-c"]
    subprocess.run([compiler, *flags, *(f"{name}.c" for name in sources)], cwd=folder, check=True)
    return [folder / f"{name}.o" for name in sources]


@pytest.mark.parametrize("instruction", PUSHES)
def test_pushes_of_inline_assembly_count(instruction: str, tmp_path: Path) -> None:
    text = f'__attribute__((naked)) void qc_model_run(void) {{ __asm__ volatile("{instruction}\\n bx lr"); }}'
    assert predict(compiled(tmp_path, model=text), []).stack == PUSHES[instruction]


def test_deepest_chain_and_reached_sections_only(tmp_path: Path) -> None:
    model = """
    void deep(char *); void flat(char *); extern const int used[3], unused[5]; int state[7];
    void qc_model_run(void) { char a[40]; flat(a); char b[80]; deep(b); state[used[0]] = b[1] + a[0]; }
    """
    others = """
    const int used[3] = {1, 2, 3}; const int unused[5] = {4};
    void deep(char *p) { volatile char c[200]; c[0] = p[0]; p[1] = c[0]; }
    void flat(char *p) { p[0] = 1; }
    void never(char *p) { volatile char c[900]; c[0] = p[0]; p[1] = c[0]; }
    """
    objects = compiled(tmp_path, model=model, others=others)
    found = predict(objects, [])
    frames = {line.split(":")[-1].split("\t")[0]: int(line.split("\t")[1]) for o in objects for line in o.with_suffix(".su").open()}
    assert found.stack == frames["qc_model_run"] + frames["deep"] > 300
    assert (found.constants, found.static_ram) == (12, 28)
    elf = Elf.read(objects[1])
    assert {"deep", "flat", "never"} == set(elf.functions())
    never = elf.section(".text.never")
    assert never is not None and never.size > 0 and found.code < sum(s.size for o in objects for s in Elf.read(o).sections if s.flags & 4)


def test_unbounded_and_unknown_calls(tmp_path: Path) -> None:
    loop = "int qc_model_run(int n); __attribute__((noinline)) int other(int n) { return 1 + qc_model_run(n - 1); }\n"
    loop += "__attribute__((noinline)) int qc_model_run(int n) { return n ? 2 + other(n) : 0; }"
    with pytest.raises(InternalError, match="calls itself"):
        predict(compiled(tmp_path, model=loop), [])
    with pytest.raises(InternalError, match="no library defines nowhere"):
        predict(compiled(tmp_path, model="void nowhere(void); void qc_model_run(void) { nowhere(); }"), [])
    with pytest.raises(InternalError, match="no|not a 32-bit"):
        Elf(b"\x7fELF\x02", "wide.o")


def test_sums() -> None:
    found = Footprint(code=3, constants=4, static_ram=5, stack=6)
    assert (found.flash, found.ram) == (7, 11)
