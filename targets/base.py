"""What a target is: legal kernels and precisions, capabilities, and the hooks that emit, run and measure.

Passes ask a target for capabilities, never for its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qcompiler.errors import InternalError, UnsupportedError
from qcompiler.ir import DType, Graph
from qcompiler.ir.fixed_point import PROFILES
from qcompiler.ir.ops import get_op

# Everything a pass may ask for by `Target.can`.
CAPABILITIES: dict[str, str] = {
    "online_hadamard": "a Hadamard transform of activations at run time costs additions only",
    "float_islands": "ops may stay in float32 between quantized ones",
    "dynamic_linear": "has kernels for dynamic_linear",
    "accumulator_to_float": "a linear whose accumulators are dequantized is one kernel",
    "int16_pair_products": "u8 x s8 products are added in pairs in int16; weights must be pair-safe to be fast",
    "signed_codes": "products take signed codes only",
    "measurable": "latency can be measured on this machine",
    "simulated": "instructions are counted on a simulator",
    "memory_plan": "flash and RAM of a program are known before it runs",
    "one_shift_per_layer": "a rescale has one shift for all channels of a layer, and only its multipliers differ",
}


@dataclass(frozen=True)
class Kernel:
    """A quantized kernel: one legal tuple of precisions for an op.

    Attributes:
        name: as the coverage table shows it.
        activation: type of the first operand's codes; None for ops that take any.
        weight: type of the second operand's codes; None where there is none.
        note: restriction, in words.
        group_sizes: weights along the input channels that may share a scale; () for none, None for any number.
    """

    name: str
    activation: DType | None = None
    weight: DType | None = None
    note: str = ""
    group_sizes: tuple[int, ...] | None = ()


@dataclass(frozen=True)
class KernelChoice:
    """Which kernel one node of the graph became.

    Attributes:
        module: path in the user's model.
        op: of the graph.
        dtype: what it computes on (`uint8 x int8`, `float32`).
        kernel: name.
        why: what the choice depended on, "" where there was none.
        slow: why this kernel is slower than the target's first choice; "" if it is not.
    """

    module: str
    op: str
    dtype: str
    kernel: str
    why: str = ""
    slow: str = ""


@dataclass(frozen=True)
class Emission:
    """Result of emitting.

    Attributes:
        files: written.
        kernels: of every node.
        tiles: measured settings that kernels were made with, plain values by what they belong to.
    """

    files: tuple[Path, ...]
    kernels: tuple[KernelChoice, ...]
    tiles: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """Latency beside a baseline, taken in one run, alternating.

    Attributes:
        latency_ms: median of the artefact.
        baseline_ms: median of the float baseline.
        ratio: median of the ratios of neighbouring runs.
        spread: interquartile range of these ratios divided by their median.
        noisy: the spread is too wide for differences below 10 % to mean anything.
        rounds: pairs of runs.
        threads: used by both.
        kind: `measured`.
    """

    latency_ms: float
    baseline_ms: float
    ratio: float
    spread: float
    noisy: bool
    rounds: int
    threads: int
    kind: str = "measured"


@dataclass(frozen=True)
class LayerCount:
    """Instructions of one step of a program: what the artefact calls for one or more ops."""

    module: str
    op: str
    kernel: str
    instructions: int
    macs: int


@dataclass(frozen=True)
class Simulation:
    """The artefact run on a simulator: outputs beside the reference, and what it costs there.

    Attributes:
        on: the simulator.
        samples: sets of inputs.
        differing: raw output integers that differ from the reference.
        instructions: of a program, executed for one inference; they are no cycles.
        layers: of them, per step.
        flash_bytes: code and constants, of the linked program.
        ram_bytes: static memory and worst stack.
        arena_bytes: static memory alone.
        first_cycles: of a circuit, clocks from the first input to the end of the first frame's result.
        cycles: of a circuit, clocks between the ends of two frames.
        predicted: some of these as the compiler gave them before.
        resources: what a circuit takes of its part, by the compiler's models.
        kind: `simulated`.
    """

    on: str
    samples: int
    differing: int
    instructions: int | None = None
    layers: tuple[LayerCount, ...] = ()
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    arena_bytes: int | None = None
    first_cycles: int | None = None
    cycles: int | None = None
    predicted: Mapping[str, int] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    kind: str = "simulated"


@dataclass(frozen=True)
class KernelTime:
    """One kernel of an artefact.

    Attributes:
        name: in the artefact.
        kernel: family and instruction.
        modules: of the ops that it computes.
        ms: median, or mean of runs without a pause.
        gops: integer operations per nanosecond; None where there are no products.
        share: of the measured peak; on a GPU of the roof that peak and memory give.
    """

    name: str
    kernel: str
    modules: tuple[str, ...]
    ms: float
    gops: float | None
    share: float | None


@dataclass(frozen=True)
class Profile:
    """Times of all kernels, and the peak measured in the same run.

    Attributes:
        kernels: in order of execution.
        peak_gops: of products in the first cache level, one thread; on a GPU in registers, all of it.
        instruction: that it used.
    """

    kernels: tuple[KernelTime, ...]
    peak_gops: float
    instruction: str


class Session(Protocol):
    """A loaded artefact."""

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for one set of inputs, in the order of the graph."""
        ...


@dataclass(frozen=True)
class Target(ABC):
    """A target, validated when it is made.

    Attributes:
        name: canonical, with what was chosen for this machine (`onnxruntime-cpu:avx2`).
        family: folder under `targets/`.
        artefact: file name of the main file in the artefact folder.
        kernels: op -> quantized kernels, best first. Ops that are absent stay in float.
        roundings: requantize profiles, the default first.
        capabilities: names from `CAPABILITIES`.
        isa: instruction set the choices are made for, None if portable.
        mult_bits: widest multiplier of a rescale; programs for the target have no wider ones.
    """

    name: str
    family: str
    artefact: str
    kernels: Mapping[str, tuple[Kernel, ...]]
    roundings: tuple[str, ...]
    capabilities: frozenset[str] = field(default_factory=frozenset)
    isa: str | None = None
    mult_bits: int = 31

    def __post_init__(self) -> None:
        for op in self.kernels:
            get_op(op)
        unknown = self.capabilities - CAPABILITIES.keys()
        if unknown or not set(self.roundings) <= set(PROFILES) or not self.roundings:
            raise InternalError(f"target {self.name}: capabilities {sorted(unknown)} or roundings {self.roundings} unknown")

    def can(self, capability: str) -> bool:
        """True if the target has a capability.

        Raises:
            InternalError: for a name that is none.
        """
        if capability not in CAPABILITIES:
            raise InternalError(f"no capability {capability!r}; known: {', '.join(CAPABILITIES)}")
        return capability in self.capabilities

    def quantizes(self, op: str) -> bool:
        """True if the op has a quantized kernel."""
        return op in self.kernels

    @abstractmethod
    def pipeline(self, configs: Mapping[str, Any]) -> list[Any]:
        """The ordered passes for this target; `configs` maps a step's name to its configuration, None switches it off."""

    @abstractmethod
    def emit(self, graph: Graph, folder: Path, metadata: Mapping[str, str] | None = None) -> Emission:
        """Write the artefact of a graph into an existing folder."""

    def with_tiles(self, tiles: Mapping[str, Any]) -> Target:
        """The target with the settings of an earlier `Emission` in place of what was measured since."""
        return self

    @abstractmethod
    def open(self, folder: Path, threads: int = 1, optimize: bool = True) -> Session:
        """Load the artefact of a folder."""

    def open_emulated(self, folder: Path) -> Session:
        """Load the artefact in an emulator of its device, if the target has one.

        Raises:
            UnsupportedError: it has none.
        """
        raise UnsupportedError(f"target {self.name} has no emulator")

    def open_to_evaluate(self, graph: Graph, folder: Path, threads: int = 1) -> Session:
        """What a compile judges accuracy with: the artefact, unless its device is elsewhere and its integers are proven."""
        return self.open(folder, threads)

    @abstractmethod
    def measure(
        self,
        folder: Path,
        baseline: Graph,
        arrays: Sequence[np.ndarray],
        threads: int = 1,
        seconds: float = 3.0,
        codes: Sequence[np.ndarray] | None = None,
    ) -> Measurement:
        """Time the artefact beside the FLOAT graph `baseline`; `codes` is what the artefact takes, if not `arrays`."""

    def profile(self, folder: Path, arrays: Sequence[np.ndarray], threads: int = 1) -> Profile | None:
        """Time per kernel on `arrays`, which are what the artefact takes; None where the runtime does not tell."""
        return None

    def tune_kernels(
        self, graph: Graph, trials: int, seed: int, database: Path | None, tracker: tuple[str, int] | None, key: str | None,
        progress: Callable[[str], None],
    ) -> Mapping[str, Any]:  # fmt: skip
        """Measure tiles for the kernels of a program; see the command `tune-kernels`.

        Raises:
            UnsupportedError: the target's kernels have nothing to tune.
        """
        raise UnsupportedError(f"the kernels of target {self.name} are not tuned; those of tvm-cpu are")

    def footprint(self, graph: Graph) -> Mapping[str, float]:
        """What a program takes on the device, by the target's own models; empty where the files say it.

        Bytes as `flash_bytes` and `ram_bytes`, or as `size_bytes` with the resources of a part.
        """
        return {}

    @abstractmethod
    def verify(
        self, graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], threads: int = 1
    ) -> Any:
        """Compare the artefact with the reference interpreter running `graph`."""

    @property
    def simulators(self) -> tuple[str, ...]:
        """What `simulate` runs on; none for targets of this machine."""
        return ()

    def simulate(self, graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], on: str) -> Simulation:
        """Run the artefact on a simulator, if the target has one.

        Raises:
            UnsupportedError: it has none of that name.
        """
        known = f"it runs on {', '.join(self.simulators)}" if self.simulators else "only targets for other machines are simulated"
        raise UnsupportedError(f"target {self.name} does not run on {on!r}; {known}")
