"""Machine code of a lowered program, and running it in TVM's virtual machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from qcompiler.errors import UsageError
from qcompiler.kernels.cpu.codegen import register_pipeline


def compile_module(module: Any, machine: Any) -> Any:
    """The executable of a Relax module for a TVM target."""
    with tvm.transform.PassContext(opt_level=3):
        return tvm.compile(
            module, target=machine, relax_pipeline=relax.get_default_pipeline(machine), tir_pipeline=register_pipeline()
        )


class VmSession:
    """A program in TVM's virtual machine, with its constants.

    Attributes:
        vm: the machine.
        constants: tensors that `main` takes behind the inputs.
    """

    def __init__(self, executable: Any, constants: Sequence[np.ndarray], inputs: Sequence[tuple[str, str, int]]) -> None:
        """Load.

        Args:
            executable: compiled program or loaded library.
            constants: arrays.
            inputs: name, element type and rank of each input.
        """
        self.device = tvm.cpu()
        self.vm = relax.VirtualMachine(executable, self.device)
        self.constants = [self.tensor(array) for array in constants]
        self.inputs = list(inputs)
        self._main = self.vm["main"]

    def tensor(self, array: np.ndarray) -> Any:
        """An array on the device."""
        return tvm.runtime.tensor(np.require(array, requirements="C"), self.device)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for one set of inputs.

        Raises:
            UsageError: wrong number, type or shape of the inputs.
        """
        if len(arrays) != len(self.inputs):
            names = ", ".join(name for name, _, _ in self.inputs)
            raise UsageError(f"the program takes {len(self.inputs)} inputs ({names}), got {len(arrays)}")
        for array, (name, kind, rank) in zip(arrays, self.inputs, strict=True):
            if str(array.dtype) != kind or array.ndim != rank:
                raise UsageError(f"input {name!r} must be {kind} of rank {rank}, got {array.dtype}{list(array.shape)}")
        try:
            results = self._main(*[self.tensor(a) for a in arrays], *self.constants)
        except (ValueError, RuntimeError) as error:
            if "match_cast" in str(error) or "ErrorContext" in str(error):
                given = ", ".join(f"{name}{list(a.shape)}" for (name, _, _), a in zip(self.inputs, arrays, strict=True))
                raise UsageError(f"these shapes are not the ones that the program was compiled for: {given}") from None
            raise
        return [result.numpy() for result in results]


def load_library(path: Path) -> Any:
    """A library that was exported before."""
    return tvm.runtime.load_module(str(path))
