"""`plan.json`: all that is needed to run the kernels of an artefact, and nothing of the compiler.

    {"schema_version": 2, "arch": 80, "weights_bytes": ...,
     "plans": [{"sizes": {}, "arena_bytes": ...,
                "inputs": [{"name", "dtype", "shape", "strides", "offset", "rows"?}], "outputs": [...],
                "launches": [{"kernel", "grid", "block", "parameters", "module", "op", "work"}]}]}

There is one plan for every combination of sizes that a model with dynamic dimensions was compiled for, and one arena for
all of them; a run takes the plan of its inputs' shapes.

`parameters` are the fields of the kernel's struct in order, laid out as C does: {"i": int32}, {"q": int64}, {"align": 8},
null for a null pointer, and pointers {"space": arena | weights, "at", "first", "size", "access", "name"}: the address is
that of byte `at`; the kernel touches `size` bytes from byte `first` on. `rows` of an input: its numbers index a table.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import UsageError
from qcompiler.kernels.gpu.launch import Field, Pointer, View
from qcompiler.targets.cuda.lower import Program
from qcompiler.targets.cuda.memory import Memory

PLAN = "plan.json"
SOURCE = "kernels.cu"
FATBIN = "kernels.fatbin"
WEIGHTS = "weights.bin"
HEADERS = "cuda"
SCHEMA = 2


def plan_json(
    programs: Sequence[tuple[Mapping[str, int], Program, Memory]], input_names: tuple[str, ...], output_names: tuple[str, ...]
) -> str:
    """The text of the file, for programs with the sizes they are for; equal programs give equal text."""
    plans = ",\n".join(_plan_text(sizes, program, memory, input_names, output_names) for sizes, program, memory in programs)
    _, program, memory = programs[0]
    head = {"schema_version": SCHEMA, "arch": program.arch, "weights_bytes": memory.constants.size}
    return json.dumps(head)[:-1] + f',\n "plans": [\n{plans}\n ]\n}}\n'


def _plan_text(sizes: Mapping[str, int], program: Program, memory: Memory, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> str:
    launches = [
        {
            "kernel": step.launch.kernel.name,
            "grid": list(step.launch.grid),
            "block": [step.launch.kernel.threads, 1, 1],
            "parameters": [_field(f, memory) for f in step.launch.fields],
            "module": step.nodes[0].origin.module if step.nodes else "",
            "op": "+".join(dict.fromkeys(n.op for n in step.nodes)) if step.result is not None else "copy",
            "work": step.launch.work,
        }
        for step in program.steps
    ]
    content = {
        "sizes": dict(sizes),
        "arena_bytes": memory.arena_size,
        "inputs": [_tensor(n, v, memory, program.indices) for n, v in zip(inputs, program.inputs)],
        "outputs": [_tensor(n, v, memory, {}) for n, v in zip(outputs, program.outputs)],
    }
    rows = ",\n".join("   " + json.dumps(launch) for launch in launches)
    return "  " + json.dumps(content)[:-1] + f',\n  "launches": [\n{rows}\n  ]}}'


def _field(field: Field, memory: Memory) -> Any:
    code, value = field
    if code == "p":
        if not isinstance(value, Pointer):
            return None
        space = "arena" if value.buffer.data is None else "weights"
        base = (memory.arena if space == "arena" else memory.constants.offsets)[value.buffer]
        return {
            "space": space, "at": base + value.offset, "first": base + value.first, "size": value.size, "access": value.access,
            "name": value.buffer.name,
        }  # fmt: skip
    return {"align": 8} if code == "a" else {code: value}


def _tensor(name: str, view: View, memory: Memory, rows: Mapping[str, int]) -> dict[str, Any]:
    found = {"name": name, "dtype": view.dtype.name, "shape": list(view.shape), "strides": list(view.strides)}
    found["offset"] = memory.arena[view.buffer] + view.offset
    return {**found, "rows": rows[name]} if name in rows else found


@dataclass(frozen=True)
class Tensor:
    """An input or output of the program.

    Attributes:
        strides: in elements.
        offset: of its first element in the arena; bytes.
        rows: of the table that its numbers index, None for other inputs.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    rows: int | None = None

    @property
    def size(self) -> int:
        """Bytes; the elements lie without gaps."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def from_bytes(self, raw: np.ndarray) -> np.ndarray:
        """The array in bytes that lie as in the arena."""
        flat = raw.view(self.dtype)
        if flat.size == 0:
            return np.zeros(self.shape, self.dtype)
        return np.lib.stride_tricks.as_strided(flat, self.shape, [s * self.dtype.itemsize for s in self.strides]).copy()


@dataclass(frozen=True)
class PlannedLaunch:
    """A kernel call of the plan."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    parameters: tuple[Any, ...]
    module: str
    op: str
    work: int

    def pack(self, bases: Mapping[str, int], places: list[int] | None = None) -> bytes:
        """The struct's bytes.

        Args:
            bases: addresses of `arena` and `weights`.
            places: instead of them one address per pointer, that of its byte `first`.
        """
        raw = bytearray()
        own = iter(places or ())
        for field in self.parameters:
            if field is None or "space" in field or "align" in field:
                raw += bytes(-len(raw) % 8)
                if field is None:
                    raw += bytes(8)
                elif "space" in field:
                    address = next(own) - field["first"] + field["at"] if places else bases[field["space"]] + field["at"]
                    raw += struct.pack("<Q", address)
            elif "i" in field:
                raw += bytes(-len(raw) % 4) + struct.pack("<i", field["i"])
            else:
                raw += bytes(-len(raw) % 8) + struct.pack("<q", field["q"])
        return bytes(raw + bytes(-len(raw) % 8))

    @property
    def pointers(self) -> list[Mapping[str, Any]]:
        """Fields that are pointers."""
        return [f for f in self.parameters if f is not None and "space" in f]


@dataclass(frozen=True)
class Plan:
    """A plan that was read.

    Attributes:
        sizes: of the dynamic dimensions that it is for.
        weights_bytes: of the constants, which all plans of an artefact share.
    """

    arch: int
    sizes: Mapping[str, int]
    arena_bytes: int
    weights_bytes: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    launches: tuple[PlannedLaunch, ...]


def read_plans(folder: Path) -> tuple[Plan, ...]:
    """The plans of an artefact.

    Raises:
        UsageError: the file is missing, damaged, or of another version.
    """
    path = folder / PLAN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema_version"] != SCHEMA:
            raise UsageError(f"{path} has version {content['schema_version']}, this qcompiler reads {SCHEMA}: compile the model again")
        return tuple(_read(content, plan) for plan in content["plans"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _read(content: Mapping[str, Any], plan: Mapping[str, Any]) -> Plan:
    launches = tuple(
        PlannedLaunch(c["kernel"], tuple(c["grid"]), tuple(c["block"]), tuple(c["parameters"]), c["module"], c["op"], c["work"])
        for c in plan["launches"]
    )
    inputs, outputs = (
        tuple(
            Tensor(t["name"], np.dtype(t["dtype"]), tuple(t["shape"]), tuple(t["strides"]), t["offset"], t.get("rows"))
            for t in plan[key]
        )
        for key in ("inputs", "outputs")
    )
    return Plan(content["arch"], plan["sizes"], plan["arena_bytes"], content["weights_bytes"], inputs, outputs, launches)


def plan_for(plans: Sequence[Plan], arrays: Sequence[np.ndarray]) -> int:
    """Index of the plan for these inputs; what else may be wrong with them is checked later.

    Raises:
        UsageError: the artefact has plans for other sizes only.
    """
    if len(plans) == 1:
        return 0
    shapes = [a.shape for a in arrays]
    for index, plan in enumerate(plans):
        if [t.shape for t in plan.inputs] == shapes:
            return index
    known = "; ".join(", ".join(f"{n}={v}" for n, v in p.sizes.items()) for p in plans)
    raise UsageError(f"inputs of shapes {', '.join(str(list(s)) for s in shapes)}; the artefact was compiled for {known}")
