"""Running an artefact: inputs into the arena, launches in order, outputs out of it. On a GPU or in the emulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from qcompiler.errors import UsageError
from qcompiler.kernels.gpu.emulator import Region, build
from qcompiler.targets.cuda.plan import HEADERS, SOURCE, WEIGHTS, Plan, Tensor, plan_for, read_plans

AfterLaunch = Callable[[int, np.ndarray], None]


def checked_inputs(plan: Plan, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The inputs as they lie in the arena.

    Raises:
        UsageError: number, type or shape do not fit, or an index lies outside its table.
    """
    if len(arrays) != len(plan.inputs):
        raise UsageError(f"the program takes {len(plan.inputs)} inputs, got {len(arrays)}")
    for tensor, array in zip(plan.inputs, arrays):
        if array.dtype != tensor.dtype or array.shape != tensor.shape:
            raise UsageError(f"input {tensor.name!r} must be {tensor.dtype}{list(tensor.shape)}, got {array.dtype}{list(array.shape)}")
        if tensor.rows is not None and array.size and not -tensor.rows <= array.min() <= array.max() < tensor.rows:
            raise UsageError(f"input {tensor.name!r} indexes a table of {tensor.rows} rows, got {array.min()} to {array.max()}")
    return [np.ascontiguousarray(a) for a in arrays]


def read_weights(folder: Path, plan: Plan) -> np.ndarray:
    """The constants.

    Raises:
        UsageError: the file is missing, or of another length than the plan says.
    """
    path = folder / WEIGHTS
    try:
        weights = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if len(weights) != plan.weights_bytes:
        raise UsageError(f"{path} has {len(weights)} bytes, {plan.weights_bytes} were written: it is damaged; compile the model again")
    return weights


class EmulatedSession:
    """The artefact's own sources on the CPU; every access to memory is checked.

    Attributes:
        plans: of the folder, one per combination of dynamic sizes.
    """

    def __init__(self, folder: Path) -> None:
        """Compile the sources for this machine.

        Raises:
            UsageError: a file is missing or damaged.
            MissingToolError: there is no g++.
        """
        self.plans = read_plans(folder)
        self._weights = read_weights(folder, self.plans[0])
        try:
            text = (folder / SOURCE).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot read {folder / SOURCE}: {error}") from error
        self._library = build(text, folder / HEADERS)

    def run(self, arrays: Sequence[np.ndarray], after: AfterLaunch | None = None) -> list[np.ndarray]:
        """Outputs, in codes, for inputs in codes; `after(index, arena)` is called after every launch.

        Raises:
            EmulationError: a kernel did what a GPU does not promise.
        """
        plan = self.plans[plan_for(self.plans, arrays)]
        arena = np.full(plan.arena_bytes, 0xA5, np.uint8)  # nothing may depend on what was there
        for tensor, array in zip(plan.inputs, checked_inputs(plan, arrays)):
            arena[tensor.offset : tensor.offset + tensor.size] = array.reshape(-1).view(np.uint8)
        spaces = {"arena": arena, "weights": self._weights}
        for index, launch in enumerate(plan.launches):
            regions = [
                Region(p["name"], spaces[p["space"]][p["first"] : p["first"] + p["size"]], p["access"]) for p in launch.pointers
            ]
            self._library.launch(launch.kernel, launch.grid, launch.block, lambda places, c=launch: c.pack({}, list(places)), regions)
            if after is not None:
                after(index, arena)
        return [output_of(t, arena) for t in plan.outputs]


def output_of(tensor: Tensor, arena: np.ndarray) -> np.ndarray:
    """An output as an array."""
    return tensor.from_bytes(arena[tensor.offset : tensor.offset + tensor.size])
