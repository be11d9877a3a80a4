"""The units in C++ beside their definitions: random shapes, widths and foldings, native and vendor's integers."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fpga.draw_units import KINDS, alone, draw_codes, draw_unit
from benchmarks.fpga.unit_bodies import run_unit
from qcompiler.kernels.fpga_hls import FOLDER
from qcompiler.targets.fpga_hls.emit import write_texts
from qcompiler.targets.fpga_hls.emit_top import flat_header, flat_source, top_header, top_source
from qcompiler.targets.fpga_hls.emit_units import memory_file, unit_file
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.toolchain import FLAGS, NATIVE, vendor_options
from qcompiler.targets.programs import call
from support.tools import requires_tool

FRAMES = 2


def draw(index: int, rng: np.random.Generator) -> Unit:
    """A unit as legalization makes them: two operands, two copies."""
    while True:
        unit = draw_unit(KINDS[index % len(KINDS)], rng, f"unit{index}")
        if len(unit.inputs) <= 2 and len(unit.outputs) <= 2:
            return unit


def build(units: list[Unit], folder: Path, types: list[str]) -> ctypes.CDLL:
    """One library with `run_NAME` for every unit."""
    texts = {f"kernels/{p.name}": p.read_text() for p in FOLDER.glob("*.h")}
    for unit in units:
        graph = alone(unit, f"net_{unit.name}")
        texts |= {f"units/{unit.name}.h": unit_file(unit), f"weights/{unit.name}.h": memory_file(unit)}
        text = top_header(graph, "a unit") + top_source(graph, "a unit") + flat_header(graph) + flat_source(graph)
        text = re.sub(r'#include "(top|flat)\.h"', "", text).replace("qc_run", f"run_{unit.name}")
        texts[f"{unit.name}.cpp"] = re.sub(r"#(ifndef|define|endif).*QC_(TOP|FLAT)_H|#endif", "", text.replace("#ifdef QC_TRACE", "").replace('#include "trace.h"', ""))
    texts["all.cpp"] = "".join(f'#include "{u.name}.cpp"\n#undef QC_INPUTS\n#undef QC_OUTPUTS\n' for u in units)
    write_texts(folder, texts)
    library = folder / "units.so"
    command = [requires_tool("g++"), *FLAGS, "-O1", *types, "-shared", "-fPIC", "-I.", "-Ikernels", "all.cpp", "-o", library]
    call(command, folder, "compiling units")
    return ctypes.CDLL(str(library))


def differing(library: ctypes.CDLL, unit: Unit, rng: np.random.Generator) -> tuple[int, int]:
    """(integers compared, integers that differ) over `FRAMES` frames."""
    inputs = [draw_codes(rng, port, FRAMES) for port in unit.inputs]
    parts = [[codes.reshape(FRAMES, -1)[f] for codes in inputs] for f in range(FRAMES)]
    x = np.concatenate([np.concatenate(frame) for frame in parts]).astype(np.int32)
    sizes = [port.words * port.lanes for port in unit.outputs]
    y = np.full(FRAMES * sum(sizes), 77_777, np.int32)
    getattr(library, f"run_{unit.name}")(x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), FRAMES)
    ends = np.cumsum(sizes)[:-1]
    found = [np.concatenate(rows) for rows in zip(*(np.split(row, ends) for row in y.reshape(FRAMES, -1)), strict=True)]
    wanted = run_unit(unit, inputs, FRAMES)
    return y.size, sum(int((got != want.ravel()).sum()) for got, want in zip(found, wanted, strict=True))


@pytest.mark.parametrize(("vendor", "count"), [(False, 66), (True, 22)])
def test_units_compute_their_definition(vendor: bool, count: int, tmp_path: Path) -> None:
    if vendor:
        pytest.importorskip("hls4ml", reason="needs the vendor's ap_int.h: pip install 'qcompiler[fpga]'")
    rng = np.random.default_rng(count)
    units = [draw(i, rng) for i in range(count)]
    # no step may be undefined in C++, as shifting a negative number is: the first that is ends the process
    native = [NATIVE, "-Werror", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    library = build(units, tmp_path, vendor_options() if vendor else native)
    results = {unit.name: differing(library, unit, rng) for unit in units}
    assert sum(n for n, _ in results.values()) > 100 * count / 11
    assert {name: n for name, (_, n) in results.items() if n} == {}, [u for u in units if results[u.name][1]]
