"""What a pass is, and how a list of passes is run."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from qcompiler.errors import InternalError
from qcompiler.ir import Graph, Level, verify_graph


class Kind(Enum):
    """EXACT passes preserve the function; LOSSY ones do not."""

    EXACT = "exact"
    LOSSY = "lossy"


class PassConfig(BaseModel):
    """Base of pass configurations: frozen, JSON round trip, unknown fields refused.

    A field's search range, where it has one, is `Field(json_schema_extra={"search": [...]})`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Note:
    """One site a pass looked at.

    Attributes:
        site: module path and op.
        taken: True if the pass changed it.
        reason: why it was refused, or what was done.
        data: figures (JSON types).
    """

    site: str
    taken: bool
    reason: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a pass returns: the new graph, whether it differs, and every site taken or refused."""

    graph: Graph
    changed: bool
    notes: tuple[Note, ...] = ()


class Kept(Protocol):
    """Where decisions are kept while a compilation runs; see `kept_decisions`."""

    def read(self, name: str) -> Any:
        """What a pass decided, None if it has not."""

    def write(self, name: str, decision: Any) -> None:
        """Keep what a pass decided."""


@dataclass
class Context:
    """What passes share in one compilation.

    Attributes:
        target: target description; passes ask it for capabilities, never for its name.
        samples: calibration data, re-iterable, None before or without calibration.
        seed: of every random choice; `rng(name)` gives each pass its own generator.
        tables: side tables and statistics by name, for later passes (keyed by Value inside).
        decisions: measured choices by pass name; what a lock file records and replays. A pass that finds its
            own entry in `locked` applies it and measures nothing.
        locked: decisions of a lock file, None for a fresh compilation.
        progress: called as progress(what, done, total).
        checkpoint: folder in which long passes keep what they have finished; None for none.
        fingerprint: what such a folder belongs to: hashes of model, data and recipe by name.
        kept: decisions of an earlier run that was killed; replayed like those of a lock.
    """

    target: Any = None
    samples: Any = None
    seed: int = 0
    tables: dict[str, Any] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)
    locked: dict[str, Any] | None = None
    progress: Callable[[str, int, int], None] = lambda what, done, total: None
    checkpoint: Path | None = None
    fingerprint: dict[str, str] = field(default_factory=dict)
    kept: Kept | None = None

    def rng(self, name: str) -> np.random.Generator:
        """A private generator, the same for the same seed and name."""
        return np.random.default_rng([self.seed, *name.encode()])


class Pass(ABC):
    """Base of all passes.

    Class attributes:
        name: verb first, as the file is called.
        kind: EXACT or LOSSY.
        requires: levels the pass takes.
        ensures: level of the result, None if unchanged.
        must_follow: names of passes that have to come earlier where they are in the same list.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    requires: ClassVar[tuple[Level, ...]] = (Level.FLOAT,)
    ensures: ClassVar[Level | None] = None
    must_follow: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def run(self, graph: Graph, context: Context) -> Result:
        """Apply the pass; the graph given is never changed."""


@dataclass(frozen=True)
class Step:
    """One executed pass, for the report."""

    name: str
    kind: Kind
    changed: bool
    seconds: float
    notes: tuple[Note, ...]


def check_order(passes: Sequence[Pass]) -> None:
    """Check `must_follow` and the chain of levels when a list is built.

    Raises:
        InternalError: naming the pass that comes too early.
    """
    names = [p.name for p in passes]
    for index, step in enumerate(passes):
        for earlier in step.must_follow:
            if earlier in names[index + 1 :] and earlier not in names[:index]:
                raise InternalError(f"pass {step.name} must follow {earlier}, order is {', '.join(names)}")


AfterPass = Callable[[Graph, Step], None]


def _run_kept(step: Pass, graph: Graph, context: Context) -> Result:
    """The pass, with what it decided in a run that was killed; what it decides now is kept."""
    if context.locked is not None or context.kept is None:
        return step.run(graph, context)
    earlier = context.kept.read(step.name)
    context.locked = None if earlier is None else {step.name: earlier}
    try:
        result = step.run(graph, context)
    finally:
        context.locked = None
    if earlier is None and step.name in context.decisions:
        context.kept.write(step.name, context.decisions[step.name])
    return result


def run_passes(
    graph: Graph,
    passes: Sequence[Pass],
    context: Context,
    after: AfterPass | None = None,
    verify_each: bool = False,
) -> tuple[Graph, list[Step]]:
    """Run passes in order; the verifier runs wherever the level changes and at the end.

    Raises:
        InternalError: wrong order, or a graph at a level the pass does not take.
        GraphError: a pass broke the graph.
    """
    check_order(passes)
    steps = []
    for index, step in enumerate(passes):
        if graph.level not in step.requires:
            raise InternalError(f"pass {step.name} takes {[v.value for v in step.requires]}, got {graph.level.value}")
        context.progress(step.name, index, len(passes))
        start = time.perf_counter()
        result = _run_kept(step, graph, context)
        record = Step(step.name, step.kind, result.changed, time.perf_counter() - start, result.notes)
        if step.ensures is not None and result.graph.level is not step.ensures:
            raise InternalError(f"pass {step.name} must end at level {step.ensures.value}")
        if verify_each or result.graph.level is not graph.level or index == len(passes) - 1:
            verify_graph(result.graph)
        graph = result.graph
        steps.append(record)
        if after is not None:
            after(graph, record)
    return graph, steps
