"""A whole project from an INTEGER graph: units, foldings, text, and the checks before any C++ is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from qcompiler.artifact import GRAPH_NAME, WEIGHTS_NAME
from qcompiler.executors.reference import run_reference
from qcompiler.graph_files import write_graph
from qcompiler.ir import Graph
from qcompiler.kernels.fpga_hls import FOLDER, HEADERS
from qcompiler.targets.base import Emission, KernelChoice
from qcompiler.targets.fpga_hls.cpp_text import wrapped
from qcompiler.targets.fpga_hls.dataflow import Dataflow
from qcompiler.targets.fpga_hls.emit_top import flat_header, flat_source, top_header, top_source
from qcompiler.targets.fpga_hls.emit_units import memory_file, unit_file
from qcompiler.targets.fpga_hls.legalize import Legalized, legalize
from qcompiler.targets.fpga_hls.model.fit import check_fit, estimate_text
from qcompiler.targets.fpga_hls.model.folding_search import search_foldings, with_foldings
from qcompiler.targets.fpga_hls.order import flatten
from qcompiler.targets.fpga_hls.parts import Option
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.toolchain import FLAGS
from qcompiler.targets.fpga_hls.units import Weighted
from qcompiler.targets.fpga_hls.verilog.emit import emit_design
from qcompiler.targets.fpga_hls.verilog.instance import has_twin
from qcompiler.targets.fpga_hls.verilog.synthesis import DSP_BITS

HERE = Path(__file__).parent / "project"
VECTORS = 4
VECTOR_ELEMENTS = 1 << 14
"""Vectors that are compiled in have about this many elements; there is one at least."""

_TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, keep_trailing_newline=True)


@dataclass(frozen=True)
class Plan:
    """A network for one part: legal units with their foldings.

    Attributes:
        legalized: the units as they come from the graph, and what ties them to it.
        dataflow: with foldings, converters and FIFO depths.
    """

    legalized: Legalized
    dataflow: Dataflow
    option: Option


def plan_network(graph: Graph, option: Option) -> Plan:
    """Legalize and fold.

    Raises:
        UnsupportedError: ops without a streaming form, all of them.
        ConstraintError: symbolic shapes, a batch, sums that overflow, or a part that is too small.
        UsageError: a folding of the option that is not legal.
    """
    legalized = legalize(graph)
    network = search_foldings(legalized.dataflow, option.part)
    if option.folds:
        network = with_foldings(legalized.dataflow, network, option.part, option.folds)
    return Plan(legalized, network, option)


def emit_project(graph: Graph, option: Option, folder: Path, metadata: Mapping[str, str] | None = None) -> Emission:
    """Write the project of a graph into an existing folder."""
    plan = plan_network(graph, option)
    texts = project_texts(graph, plan, metadata or {})
    part = option.part
    texts["estimate.md"] = estimate_text(plan.dataflow, part, check_fit(plan.dataflow, part))
    if all(has_twin(unit) for unit in plan.dataflow.units):
        design = emit_design(plan.dataflow, DSP_BITS[part.family])
        texts |= {f"verilog/{name}": text for name, text in design.texts().items()}
    files = write_texts(folder, texts)
    write_graph(graph, folder / GRAPH_NAME, folder / WEIGHTS_NAME)  # what the C++ is compared with; not of the project
    return Emission(tuple(files), kernel_choices(plan))


def project_texts(graph: Graph, plan: Plan, metadata: Mapping[str, str]) -> dict[str, str]:
    """All files of a project by their paths."""
    network, title = plan.dataflow, _title(plan.option, metadata)
    facts = {
        "name": network.name, "device": plan.option.part.device, "period": f"{plan.option.period_ns:g}", "flags": " ".join(FLAGS)
    }  # fmt: skip
    texts = {"top.h": top_header(network, title), "top.cpp": top_source(network, title)}
    for unit in network.units:
        texts[f"units/{unit.name}.h"] = unit_file(unit)
        if memory := memory_file(unit):
            texts[f"weights/{unit.name}.h"] = memory
    texts |= {f"kernels/{name}": (FOLDER / name).read_text(encoding="utf-8") for name in HEADERS}
    texts |= {f"test/{name}": (HERE / name).read_text(encoding="utf-8") for name in ("testbench.cpp", "trace.h")}
    texts |= {"test/flat.h": flat_header(network), "test/flat.cpp": flat_source(network), "test/vectors.h": vectors(graph, network)}
    return texts | {name: _TEMPLATES.get_template(f"{name}.j2").render(facts) for name in ("Makefile", "vitis_hls.tcl")}


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write files below a folder, by their paths."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def vectors(graph: Graph, network: Dataflow) -> str:
    """Random codes over the whole range of their types, and what the reference makes of them."""
    rng = np.random.default_rng(0)
    size = sum(int(np.prod(t.shape)) for t in network.inputs)
    rows: dict[str, list[np.ndarray]] = {"inputs": [], "outputs": []}
    for _ in range(max(1, min(VECTORS, VECTOR_ELEMENTS // max(1, size)))):
        arrays = [rng.integers(t.dtype.min, t.dtype.max + 1, t.shape, np.int64).astype(t.dtype.numpy) for t in network.inputs]
        rows["inputs"].append(flatten(network.inputs, arrays))
        rows["outputs"].append(flatten(network.outputs, run_reference(graph, arrays)))
    count = len(rows["inputs"])
    arrays_text = "".join(
        f"static const int32_t qc_vector_{role}[QC_VECTORS][{found[0].size}] = {{\n"
        + "".join(f"    {{{wrapped(row.tolist())}}},\n" for row in found)
        + "};\n"
        for role, found in rows.items()
    )
    return f"// Inputs, and the outputs that the reference interpreter computes.\n#pragma once\n\n#include <stdint.h>\n\n#define QC_VECTORS {count}\n\n{arrays_text}"


def kernel_choices(plan: Plan) -> tuple[KernelChoice, ...]:
    """One row per node of the graph that became part of a unit."""
    units = {u.name: u for u in plan.dataflow.units}
    return tuple(
        KernelChoice(c.node.origin.module, c.node.op, types(units[c.unit], c.node.op), type(units[c.unit]).__name__, lanes(units[c.unit]))
        for c in plan.legalized.choices
    )


def types(unit: Unit, op: str) -> str:
    """What a unit computes on."""
    port = (unit.inputs or unit.outputs)[0]
    codes = f"{'int' if port.signed else 'uint'}{port.bits}"
    if not isinstance(unit, Weighted) or op == "requantize":
        return codes
    return f"{codes} x int{unit.weight_bits}" + (f" of {unit.digits} signed digits" if unit.digits else "")


def lanes(unit: Unit) -> str:
    """How a unit is folded."""
    return ", ".join(f"{key} {getattr(unit.folding, key)}" for key in unit.choices if key != "storage")


def _title(option: Option, metadata: Mapping[str, str]) -> str:
    made = f"qcompiler {metadata['version']}" if "version" in metadata else "qcompiler"
    recipe = f", recipe {metadata['recipe']}" if "recipe" in metadata else ""
    return f"Generated by {made} for {option.text}{recipe}. Do not edit."
