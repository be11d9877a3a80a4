"""The Verilog of a dataflow graph: one module that connects the units' modules, and the files of their memories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qcompiler.kernels.fpga_hls.rtl import FOLDER, SOURCES
from qcompiler.targets.fpga_hls.dataflow import BORDER, Dataflow, Edge
from qcompiler.targets.fpga_hls.stream import Port, Unit
from qcompiler.targets.fpga_hls.units import Fork
from qcompiler.targets.fpga_hls.verilog.instance import Instance, instance, own_queue
from qcompiler.targets.fpga_hls.verilog.storage import BLOCK_DEPTH, in_block, queue_depth

# Where a module's output queue is inside it.
_QUEUES = {
    "qc_mvu": "results",
    "qc_window": "results",
    "qc_max_pool": "results",
    "qc_frame_pool": "results",
    "qc_add": "control.results",
    "qc_lookup": "control.results",
}
_PLAIN_DEPTH = 2  # an edge without a queue holds what its reader's handshake allows; more needs a queue


@dataclass(frozen=True)
class Queue:
    """A queue of the design.

    Attributes:
        edge: name of the edge whose words it holds.
        path: of its `qc_fifo`, inside the design.
        depth: words.
    """

    edge: str
    path: str
    depth: int


@dataclass(frozen=True)
class Design:
    """The Verilog of a network.

    Attributes:
        name: of the module.
        text: of the module; it needs the files of `SOURCES`.
        memories: file name -> text.
        inputs, outputs: what its ports carry.
        queues: of its edges.
        instances: by name of the unit.
    """

    name: str
    text: str
    memories: Mapping[str, str]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    queues: tuple[Queue, ...]
    instances: Mapping[str, Instance]

    def texts(self) -> dict[str, str]:
        """Module, sources and memories by file name; simulators find the memories from the folder they are started in."""
        sources = {name: (FOLDER / name).read_text(encoding="utf-8") for name in SOURCES}
        return {f"{self.name}.v": self.text, **self.memories, **sources}

    def write(self, folder: Path) -> None:
        """Write all of it."""
        for name, text in self.texts().items():
            (folder / name).write_text(text, encoding="utf-8")


def emit_design(graph: Dataflow, dsp_bits: int = 25) -> Design:
    """The design of a network, for multipliers whose wide side takes `dsp_bits` bits.

    Raises:
        UnsupportedError: a unit has no Verilog twin.
    """
    instances = {unit.name: instance(unit, dsp_bits) for unit in graph.units}
    memories: dict[str, str] = {}
    queues: list[Queue] = []
    body: list[str] = []
    for edge in graph.edges:
        body += _wires(graph, edge, instances, queues)
    for unit in graph.units:
        body += _unit(graph, unit, instances[unit.name], memories)
    inputs = tuple(graph.port(_border(graph, "source", i)) for i in range(len(graph.inputs)))
    outputs = tuple(graph.port(_border(graph, "target", i)) for i in range(len(graph.outputs)))
    ports = ["input clk", "input rst"]
    for i, port in enumerate(inputs):
        ports += [f"input [{port.width - 1}:0] in{i}_data", f"input in{i}_valid", f"output in{i}_ready"]
    for i, port in enumerate(outputs):
        ports += [f"output [{port.width - 1}:0] out{i}_data", f"output out{i}_valid", f"input out{i}_ready"]
    head = f"module {graph.name} (\n  " + ",\n  ".join(ports) + "\n);\n"
    text = head + "".join(f"  {line}\n" for line in body) + "endmodule\n"
    return Design(graph.name, text, memories, inputs, outputs, tuple(queues), instances)


def _border(graph: Dataflow, side: str, index: int) -> Edge:
    (edge,) = [
        e for e in graph.edges if getattr(e, side) == BORDER and getattr(e, f"{side}_port") == index
    ]  # fmt: skip
    return edge


@dataclass(frozen=True)
class Placed:
    """Where the words of an edge wait.

    Attributes:
        own: depth of the queue in the writing module; 0 if it has none.
        depth: of the queue on the edge itself; 0 if there is none.
        block: that queue is block RAM.
        clocks: that it adds to the way of a word.
    """

    own: int
    depth: int
    block: bool
    clocks: int


def place_queue(network: Dataflow, edge: Edge, least: int) -> Placed:
    """Where the words of an edge wait, `least` being what the writing module needs for itself, 0 if it has no queue."""
    forked = edge.source != BORDER and isinstance(network.unit(edge.source), Fork)
    if least and (deeper := queue_depth(max(least, edge.depth))) <= BLOCK_DEPTH:
        return Placed(deeper, 0, False, 0)
    if not forked and edge.depth <= _PLAIN_DEPTH:
        return Placed(0, 0, False, 0)
    depth = queue_depth(edge.depth)
    block = in_block(network.port(edge).width, depth, "auto")
    # a fork's latency counts the queue behind it already
    return Placed(queue_depth(least) if least else 0, depth, block, int(not forked) + int(block))


def _wires(graph: Dataflow, edge: Edge, instances: Mapping[str, Instance], queues: list[Queue]) -> list[str]:
    """Wires `NAME_w*` where the edge is written and `NAME_r*` where it is read, a queue between them if there is one."""
    port, made = graph.port(edge), instances.get(edge.source)
    n, span = edge.name, f"[{port.width - 1}:0] "
    lines = [f"wire {span}{n}_wd, {n}_rd;", f"wire {n}_wv, {n}_wr, {n}_rv, {n}_rr;"]
    placed = place_queue(graph, edge, own_queue(graph.unit(edge.source)) if made is not None else 0)
    if placed.depth:
        queues.append(Queue(n, f"q_{n}", placed.depth))
        lines.append(
            f"qc_fifo #(.W({port.width}), .D({placed.depth}), .BLOCK({int(placed.block)})) q_{n} (.clk(clk), .rst(rst), "
            f".in_data({n}_wd), .in_valid({n}_wv), .in_ready({n}_wr), "
            f".out_data({n}_rd), .out_valid({n}_rv), .out_ready({n}_rr));"
        )
    else:
        if made is not None and placed.own:
            queues.append(Queue(n, f"u_{edge.source}.{_QUEUES[made.module]}", placed.own))
        lines.append(f"assign {n}_rd = {n}_wd, {n}_rv = {n}_wv, {n}_wr = {n}_rr;")
    if edge.source == BORDER:
        i = edge.source_port
        lines.append(f"assign {n}_wd = in{i}_data, {n}_wv = in{i}_valid, in{i}_ready = {n}_wr;")
    if edge.target == BORDER:
        i = edge.target_port
        lines.append(f"assign out{i}_data = {n}_rd, out{i}_valid = {n}_rv, {n}_rr = out{i}_ready;")
    return lines


def _unit(graph: Dataflow, unit: Unit, made: Instance, memories: dict[str, str]) -> list[str]:
    """The instance `u_NAME`; several streams of a module lie side by side, the first one lowest."""
    read, written = graph.into(unit), graph.out_of(unit)
    parameters = dict(made.parameters)
    if least := own_queue(unit):
        parameters["DEPTH"] = place_queue(graph, written[0], least).own
    for name, text in made.files.items():
        file = f"{graph.name}_{unit.name}_{name.lower()}.hex"
        memories[file] = text
        parameters[name] = f'"{file}"'
    ports = {
        "clk": "clk",
        "rst": "rst",
        "in_data": _joined([f"{e.name}_rd" for e in read]),
        "in_valid": _joined([f"{e.name}_rv" for e in read]),
        "in_ready": _joined([f"{e.name}_rr" for e in read]),
        "out_data": _joined([f"{e.name}_wd" for e in written]),
        "out_valid": _joined([f"{e.name}_wv" for e in written]),
        "out_ready": _joined([f"{e.name}_wr" for e in written]),
    }
    return [
        f"// {type(unit).__name__} of {unit.module or 'the top level'}",
        f"{made.module} #({', '.join(f'.{k}({v})' for k, v in parameters.items())}) u_{unit.name}",
        f"  ({', '.join(f'.{k}({v})' for k, v in ports.items())});",
    ]


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else "{" + ", ".join(reversed(names)) + "}"
