"""The network in C++: a function per network that calls its units, and the flat form in which tests call it."""

from __future__ import annotations

from collections.abc import Mapping

from qcompiler.targets.fpga_hls.cpp_text import word
from qcompiler.targets.fpga_hls.dataflow import BORDER, Dataflow, Edge, Terminal
from qcompiler.targets.fpga_hls.names import Names


def port_names(graph: Dataflow) -> dict[Edge, str]:
    """Parameter names of the edges at the border."""
    names = Names()
    found = {}
    for index, terminal in enumerate(graph.inputs):
        found |= {e: names.fresh(terminal.name) for e in graph.edges if e.source == BORDER and e.source_port == index}
    for index, terminal in enumerate(graph.outputs):
        found |= {e: names.fresh(terminal.name) for e in graph.edges if e.target == BORDER and e.target_port == index}
    return found


def stream_name(edge: Edge, ports: Mapping[Edge, str]) -> str:
    """Variable of an edge in the top function."""
    return ports[edge] if edge in ports else edge.name


def signature(graph: Dataflow) -> str:
    """The top function's prototype, without a semicolon."""
    ports = port_names(graph)
    parameters = ",\n        ".join(f"hls::stream<{word(graph.port(e))} > &{name}" for e, name in ports.items())
    return f"void {graph.name}({parameters})"


def top_header(graph: Dataflow, title: str) -> str:
    """top.h."""
    order = {e: t for e, t in zip(port_names(graph), (*graph.inputs, *graph.outputs), strict=True)}
    lines = [
        f"//   {name}: {graph.port(e).words} words of {graph.port(e).lanes} {terminal(order[e])}" for e, name in port_names(graph).items()
    ]
    comment = "\n".join(lines)
    return (
        f"// {title}\n//\n// One call takes one frame. Streams:\n{comment}\n#ifndef QC_TOP_H\n#define QC_TOP_H\n\n"
        f'#include "qc_types.h"\n\n{signature(graph)};\n\n#endif\n'
    )


def terminal(found: Terminal) -> str:
    """What flows at the border."""
    axes = ", ".join(f"{a}" for a in found.order)
    return f"{found.dtype.name} codes of {list(found.shape)}, axes in the order ({axes})"


def top_source(graph: Dataflow, title: str) -> str:
    """top.cpp."""
    ports = port_names(graph)
    includes = "".join(f'#include "units/{u.name}.h"\n' for u in graph.units)
    inner = [e for e in graph.edges if e not in ports]
    interface = "".join(f"#pragma HLS INTERFACE axis port={name}\n" for name in ports.values())
    streams = "".join(
        f'    hls::stream<{word(graph.port(e))} > {e.name}("{e.name}");\n#pragma HLS STREAM variable={e.name} depth={e.depth}\n'
        for e in inner
    )
    calls = []
    for unit in graph.units:
        edges = [*graph.into(unit), *graph.out_of(unit)]
        calls.append(f"    units::{unit.name}({', '.join(stream_name(e, ports) for e in edges)});\n")
        calls += [f"    QC_TAP({graph.edges.index(e)}, {stream_name(e, ports)})\n" for e in graph.out_of(unit)]
    return (
        f'// {title}\n#ifdef QC_TRACE\n#include "trace.h"\n#endif\n#include "top.h"\n\n{includes}\n{signature(graph)} {{\n{interface}#pragma HLS DATAFLOW\n{streams}\n'
        f"{''.join(calls)}}}\n"
    )


def flat_header(graph: Dataflow) -> str:
    """test/flat.h."""
    sizes = [sum(graph.port(e).words * graph.port(e).lanes for e in graph.edges if BORDER == getattr(e, end)) for end in ("source", "target")]
    return (
        "// The network behind one signature for all tests: the elements of all inputs one after the other, in the order\n"
        "// of the streams, and so the outputs.\n#ifndef QC_FLAT_H\n#define QC_FLAT_H\n\n#include <stdint.h>\n\n"
        f"#define QC_INPUTS {sizes[0]}\n#define QC_OUTPUTS {sizes[1]}\n\n"
        'extern "C" void qc_run(const int32_t *input, int32_t *output, int32_t frames);\n\n#endif\n'
    )


def flat_source(graph: Dataflow) -> str:
    """test/flat.cpp."""
    ports = port_names(graph)
    before, after = "", ""
    for edge, name in ports.items():
        port = graph.port(edge)
        kind = word(port)
        before += f'        hls::stream<{kind} > {name}("{name}");\n'
        if edge.source == BORDER:
            before += (
                f"        for (int i = 0; i < {port.words}; ++i) {{\n            {kind} word;\n"
                f"            for (int l = 0; l < {port.lanes}; ++l) {{\n                word.lane[l] = *input++;\n            }}\n"
                f"            {name}.write(word);\n        }}\n"
            )
        else:
            after += (
                f"        for (int i = 0; i < {port.words}; ++i) {{\n            const {kind} word = {name}.read();\n"
                f"            for (int l = 0; l < {port.lanes}; ++l) {{\n                *output++ = (int32_t)word.lane[l];\n"
                "            }\n        }\n"
            )
    return (
        '#include "flat.h"\n\n#include "top.h"\n\nvoid qc_run(const int32_t *input, int32_t *output, int32_t frames) {\n'
        f"    for (int32_t frame = 0; frame < frames; ++frame) {{\n{before}        {graph.name}({', '.join(ports.values())});\n{after}    }}\n}}\n"
    )
