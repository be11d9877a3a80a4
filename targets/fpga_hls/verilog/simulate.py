"""Designs run in open simulators: Verilator for exact cycles, Icarus Verilog as a second opinion."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qcompiler.errors import InternalError, MissingToolError, UsageError
from qcompiler.kernels.fpga_hls.rtl import BENCH, FOLDER, SOURCES
from qcompiler.targets.fpga_hls.stream import Port
from qcompiler.targets.fpga_hls.verilog.emit import Design
from qcompiler.targets.fpga_hls.verilog.words import hex_text, pack, unpack

SIMULATORS = {"verilator": "verilator", "icarus": "iverilog"}
IDLE = 20_000
"""Clocks without any word moving after which a design counts as stuck, if nobody says otherwise."""


@dataclass(frozen=True)
class Stimulus:
    """A design and what it is fed.

    Attributes:
        design: unique names among the stimuli of one run.
        inputs: for every input codes [vectors, channels] of all frames, one after the other.
        frames: in them.
        idle: clocks without a word into or out of any queue, or at an end, after which it counts as stuck.
    """

    design: Design
    inputs: Sequence[np.ndarray]
    frames: int
    idle: int = IDLE


@dataclass(frozen=True, eq=False)
class Trace:
    """What came out of a design.

    Attributes:
        outputs: for every output codes [vectors, channels].
        clocks: for every output the clock of each word; clock 0 is the first in which inputs are offered.
        held: by name of the edge, the most words that its queue held.
        stuck: by name of the edge, whether its queue was full (True) or empty (False) when nothing moved any more; empty
            where all outputs came.
    """

    outputs: tuple[np.ndarray, ...]
    clocks: tuple[np.ndarray, ...]
    held: Mapping[str, int]
    stuck: Mapping[str, bool] = field(default_factory=dict)


def simulate(stimuli: Sequence[Stimulus], simulator: str = "verilator", optimize: bool = False) -> list[Trace]:
    """Run designs side by side, each with its own sources and sinks, which never wait; see `simulate_stalled`."""
    return simulate_stalled(stimuli, (0,), simulator, optimize)[0]


def simulate_stalled(
    stimuli: Sequence[Stimulus], stalls: Sequence[int], simulator: str = "verilator", optimize: bool = False
) -> list[list[Trace]]:
    """Run designs side by side, each with its own sources and sinks, once per element of `stalls`.

    Args:
        stalls: of 16 clocks, those in which sources offer nothing; sinks take nothing in as many others.
        simulator: one of `SIMULATORS`.
        optimize: let the compiler of Verilator's C++ optimize; pays for runs of 10^5 clocks and more.

    Raises:
        UsageError: no such simulator.
        MissingToolError: it, or for Verilator a C++ compiler, is not installed.
        InternalError: the simulator refuses the design.
    """
    if simulator not in SIMULATORS:
        raise UsageError(f"no simulator {simulator!r}; known: {', '.join(SIMULATORS)}")
    program = SIMULATORS[simulator]
    if shutil.which(program) is None:
        raise MissingToolError(f"{program} is not installed; on Debian: apt-get install {program}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, stimulus in enumerate(stimuli):
            stimulus.design.write(folder)
            for port, codes in enumerate(stimulus.inputs):
                words = pack(np.asarray(codes).reshape(-1, stimulus.design.inputs[port].lanes), stimulus.design.inputs[port].bits)
                (folder / f"source{index}_{port}.hex").write_text(hex_text(words))
        (folder / BENCH).write_text((FOLDER / BENCH).read_text())
        (folder / "bench.v").write_text(_bench(stimuli))
        sources = [*SOURCES, BENCH, *dict.fromkeys(f"{s.design.name}.v" for s in stimuli), "bench.v"]
        run = (_verilator if simulator == "verilator" else _icarus)(folder, sources, optimize)
        found = []
        for stall in stalls:
            _call([*run, f"+stall={stall}"], folder)
            found.append([_trace(folder, index, stimulus) for index, stimulus in enumerate(stimuli)])
        return found


def _verilator(folder: Path, sources: list[str], optimize: bool) -> list[str]:
    """Compile; the command that runs it."""
    (folder / "main.cpp").write_text(_MAIN)
    level = ["-O3", "-CFLAGS", "-O1"] if optimize else ["-O1", "-CFLAGS", "-O0"]
    # wide constants are cut to parameters' widths on purpose, and `parts` of streams are indexed by constants
    _call(
        ["verilator", "--cc", "--exe", "--build", *level, "-DQC_WATCH", "-Wno-lint", "-Wno-fatal", "--top-module", "bench",
         "--Mdir", "built", "-o", "run", "main.cpp", *sources], folder,
    )  # fmt: skip
    return ["built/run"]


def _icarus(folder: Path, sources: list[str], optimize: bool) -> list[str]:
    """Compile; the command that runs it."""
    (folder / "clock.v").write_text(_CLOCK)
    _call(["iverilog", "-g2005", "-DQC_WATCH", "-s", "clock", "-o", "run.vvp", *sources, "clock.v"], folder)
    return ["vvp", "-n", "run.vvp"]


_MAIN = """#include "Vbench.h"
#include "verilated.h"
int main(int count, char **arguments) {
  VerilatedContext context;
  context.commandArgs(count, arguments);
  Vbench bench(&context);
  while (!context.gotFinish()) {
    bench.clk = 0;
    bench.eval();
    bench.clk = 1;
    bench.eval();
  }
  bench.final();
}
"""
_CLOCK = """module clock;
  reg clk = 0;
  always #1 clk = ~clk;
  bench b(.clk(clk));
endmodule
"""


def _call(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr + done.stdout).splitlines()
        raise InternalError(f"{command[0]} failed in {folder}:\n" + "\n".join(lines[:30]))
    return done.stdout


def _bench(stimuli: Sequence[Stimulus]) -> str:
    """A module with all designs, their sources and sinks; it ends when all outputs have come or nothing moves."""
    body: list[str] = []
    moved: list[str] = []
    full: list[str] = []
    report: list[str] = []
    for index, stimulus in enumerate(stimuli):
        design, at = stimulus.design, f"s{index}"
        ports: list[str] = []
        for kind, terminals in (("in", design.inputs), ("out", design.outputs)):
            for i, port in enumerate(terminals):
                n = f"{at}_{kind}{i}"
                words = port.words * stimulus.frames
                ports += [f".{kind}{i}_{x}({n}_{x})" for x in ("data", "valid", "ready")]
                body.append(f"wire [{port.width - 1}:0] {n}_data; wire {n}_valid, {n}_ready, {n}_moved;")
                common = f".WIDTH({port.width}), .WORDS({words}), .SEED({index * 7 + i + 1})"
                wires = f".data({n}_data), .valid({n}_valid), .ready({n}_ready), .moved({n}_moved)"
                if kind == "in":
                    body.append(f'qc_source #({common}, .FILE("source{index}_{i}.hex")) {n} (.clk(clk), .rst(rst), {wires});')
                else:
                    body.append(f"wire {n}_full;")
                    body.append(
                        f'qc_sink #({common}, .FILE("sink{index}_{i}.txt")) {n} '
                        f"(.clk(clk), .rst(rst), .clock(clock), {wires}, .full({n}_full));"
                    )
                    full.append(f"{n}_full")
                moved.append(f"{n}_moved")
        body.append(f"{design.name} {at} (.clk(clk), .rst(rst), {', '.join(ports)});")
        moved += [f"{at}.{queue.path}.{way}" for queue in design.queues for way in ("push", "pull")]
        report += [
            f'$fdisplay(file, "{index} {queue.edge} %0d %0d", {at}.{queue.path}.most, {at}.{queue.path}.held);'
            for queue in design.queues
        ]
    idle = max(stimulus.idle for stimulus in stimuli)
    lines = "".join(f"  {line}\n" for line in body)
    return f"""module bench (input clk);
  integer clock = -4, quiet = 0, file;
  wire rst = clock < 0;
{lines}  wire moved = {" || ".join(moved)};
  wire full = {" && ".join(full)};
  always @(posedge clk) begin
    clock <= clock + 1;
    quiet <= moved || rst ? 0 : quiet + 1;
    if (full || quiet > {idle}) begin
      file = $fopen("queues.txt", "w");
      {(chr(10) + "      ").join(report)}
      $fclose(file);
      $finish;
    end
  end
endmodule
"""


def _trace(folder: Path, index: int, stimulus: Stimulus) -> Trace:
    outputs, clocks = [], []
    complete = True
    for i, port in enumerate(stimulus.design.outputs):
        lines = [line.split() for line in (folder / f"sink{index}_{i}.txt").read_text().splitlines()]
        complete &= len(lines) == port.words * stimulus.frames
        outputs.append(_codes([int(word, 16) if word.isalnum() and "x" not in word else 0 for _, word in lines], port))
        clocks.append(np.array([int(clock) for clock, _ in lines], np.int64))
    rows = [line.split() for line in (folder / "queues.txt").read_text().splitlines()]
    rows = [row[1:] for row in rows if int(row[0]) == index]
    depth = {queue.edge: queue.depth for queue in stimulus.design.queues}
    stuck = {} if complete else {edge: int(now) == depth[edge] for edge, _, now in rows}
    return Trace(tuple(outputs), tuple(clocks), {edge: int(most) for edge, most, _ in rows}, stuck)


def _codes(words: list[int], port: Port) -> np.ndarray:
    whole = len(words) * port.lanes // port.channels
    return unpack(words, port.lanes, port.bits, port.signed).reshape(-1)[: whole * port.channels].reshape(whole, port.channels)
