"""Launches on host arrays in the emulator: what tests, fuzzing and the emulated session share."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import numpy as np

from qcompiler.kernels.gpu.emulator import EmulatedLibrary, Region, build
from qcompiler.kernels.gpu.launch import Buffer, Launch, Pointer, View, pack, source

Memory = MutableMapping[Buffer, np.ndarray]
"""Bytes of buffers: flat uint8 arrays."""


def emulate(launches: Sequence[Launch], memory: Memory, library: EmulatedLibrary | None = None) -> None:
    """Run launches in order; constants need not be in `memory`, results that are not are added.

    Raises:
        EmulationError: a kernel did what a GPU does not promise.
    """
    library = library or build(source(launches))
    for launch in launches:
        run_launch(library, launch, memory)


def run_launch(library: EmulatedLibrary, launch: Launch, memory: Memory) -> None:
    """Run one launch."""
    pointers = launch.pointers
    regions = []
    for p in pointers:
        if p.buffer not in memory:
            given = p.buffer.data
            memory[p.buffer] = np.zeros(p.buffer.size, np.uint8) if given is None else given.reshape(-1).view(np.uint8)
        regions.append(Region(p.buffer.name, memory[p.buffer][p.first : p.first + p.size], p.access))

    def parameters(places: Sequence[int]) -> bytes:
        at = iter(places)
        moved = []
        for code, value in launch.fields:
            if code == "p" and isinstance(value, Pointer):
                # an address of its own for every pointer: two may look at one buffer
                place = Buffer(value.buffer.name, 0)
                moved.append((place, next(at) - value.first + value.offset))
        address = dict(moved)
        own = iter(address)
        fields = [(c, Pointer(next(own), 0, 0, 0, "read") if c == "p" and isinstance(v, Pointer) else v) for c, v in launch.fields]
        return pack(fields, address)

    library.launch(launch.kernel.name, launch.grid, (launch.kernel.threads, 1, 1), parameters, regions)


def read(view: View, memory: Memory) -> np.ndarray:
    """A tensor as an array of its shape."""
    raw = memory[view.buffer]
    size = view.dtype.itemsize
    flat = np.frombuffer(raw.tobytes()[view.offset % size :][: (len(raw) - view.offset % size) // size * size], view.dtype)
    start = view.offset // size
    strides = [s * size for s in view.strides]
    return np.lib.stride_tricks.as_strided(flat[start:], view.shape, strides).copy()
