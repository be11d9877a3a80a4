"""Machine code of a lowered program, and running it in TVM's virtual machine."""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from qcompiler.errors import InternalError, MissingToolError, UsageError
from qcompiler.kernels.cpu.codegen import register_pipeline
from qcompiler.targets.tvm.lower import INPUTS, KERNEL_PREFIX

UNCHECKED = {"tirx.disable_assert": True}
"""Kernels do not check their arguments: `main` does, once, and the checks are a third of the code to compile."""
ALIGNMENT, PAGE = 64, 1 << 21
"""Bytes: of tensors, as kernels take for granted, and of a large page."""
CHECKS = ("vm.builtin.check_tensor_info", "vm.builtin.match_shape")


def compile_module(module: Any, machine: Any) -> Any:
    """The executable of a Relax module for a TVM target; `main` checks the inputs that its attribute `INPUTS` counts."""
    pipeline = tvm.transform.Sequential([relax.get_default_pipeline(machine), _without_checks_of_constants()])
    with tvm.transform.PassContext(opt_level=3, config=UNCHECKED):
        return tvm.compile(module, target=machine, relax_pipeline=pipeline, tir_pipeline=register_pipeline())


def _without_checks_of_constants() -> Any:
    """Drops what `main` checks of constants: two calls each, more than kernels, in every run. Loading checks them."""

    @tvm.transform.module_pass(opt_level=0)
    def run(module: Any, context: Any) -> Any:
        main = module["main"]
        constants = set(main.params[int(main.attrs[INPUTS]) :])

        def needed(binding: Any) -> bool:
            call = binding.value
            checks = isinstance(call, relax.Call) and isinstance(call.op, relax.ExternFunc) and str(call.op.global_symbol) in CHECKS
            return not checks or call.args[0] not in constants

        blocks = [relax.BindingBlock([b for b in block.bindings if needed(b)]) for block in main.body.blocks]
        body = relax.SeqExpr(blocks, main.body.body)
        module.update_func(module.get_global_var("main"), relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs))
        return module

    return run


def compile_function(function: Any, name: str, machine: Any) -> Any:
    """One PrimFunc by itself, as `compile_module` compiles it, under a name."""
    with tvm.transform.PassContext(opt_level=3, config=UNCHECKED):
        return tvm.tirx.build(function.with_attr("global_symbol", name), target=machine, pipeline=register_pipeline())


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
        self._executable = executable
        self.vm = relax.VirtualMachine(executable, self.device)
        self.constants = together(constants)
        self.inputs = list(inputs)
        self._main = self.vm["main"]

    def tensor(self, array: np.ndarray) -> Any:
        """An array on the device."""
        return tvm.runtime.tensor(np.require(array, requirements="C"), self.device)

    def _lent(self, array: np.ndarray) -> Any:
        """The array itself where it lies as kernels expect it, for one call; else a copy.

        Weights have taken all caches since the last call: every line of code that runs here comes from memory.
        """
        if not array.size:
            return self.tensor(array)
        if not (array.flags.c_contiguous and array.flags.writeable and address(array) % ALIGNMENT == 0):
            block = np.empty(array.nbytes + ALIGNMENT, np.uint8)
            first = -address(block) % ALIGNMENT
            copy = block[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
            copy[...] = array
            array = copy
        return tvm.runtime.from_dlpack(array)

    def call(self, tensors: Sequence[Any]) -> Any:
        """One run on tensors of the device, nothing checked or copied: what is timed."""
        return self._main(*tensors, *self.constants)

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
            results = self._main(*[self._lent(a) for a in arrays], *self.constants)
        except (ValueError, RuntimeError) as error:
            if "match_cast" in str(error) or "ErrorContext" in str(error):
                given = ", ".join(f"{name}{list(a.shape)}" for (name, _, _), a in zip(self.inputs, arrays, strict=True))
                raise UsageError(f"these shapes are not the ones that the program was compiled for: {given}") from None
            raise
        return [np.from_dlpack(result).copy() if math.prod(result.shape) else result.numpy() for result in results]

    def run_tapped(self, arrays: Sequence[np.ndarray], on_kernel: Callable[[int, np.ndarray], None]) -> list[np.ndarray]:
        """The same, with `on_kernel(index, what it wrote)` after every kernel, in order of execution."""
        count = iter(range(1 << 30))

        def after(function: Any, name: str, before: bool, result: Any, *arguments: Any) -> int:
            if not before and name.startswith(KERNEL_PREFIX):
                on_kernel(next(count), arguments[-1].numpy())
            return 0

        return self._instrumented(after).run(arrays)

    def _instrumented(self, instrument: Any) -> VmSession:
        """A machine of its own: an instrument cannot be taken off again, and costs time at every call."""
        session = VmSession(self._executable, [], self.inputs)
        session.constants = self.constants
        session.vm.set_instrument(instrument)
        return session

    def kernel_times(self, arrays: Sequence[np.ndarray], rounds: int) -> np.ndarray:
        """Seconds per kernel and round, [rounds, kernels]."""
        started, rows = [0.0], []

        def clock(function: Any, name: str, before: bool, result: Any, *arguments: Any) -> int:
            if name.startswith(KERNEL_PREFIX):
                if before:
                    started[0] = time.perf_counter()
                else:
                    rows[-1].append(time.perf_counter() - started[0])
            return 0

        session = self._instrumented(clock)
        for _ in range(rounds):
            rows.append([])
            session.run(arrays)
        return np.asarray(rows)


def together(arrays: Sequence[np.ndarray]) -> list[Any]:
    """Tensors of arrays side by side in one block, in order: large pages, and what runs past one's end meets the next."""
    starts = np.cumsum([0] + [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays])
    block = np.empty(int(starts[-1]) + PAGE, np.uint8)  # NumPy asks for large pages itself
    first = -address(block) % PAGE
    tensors = []
    for array, start in zip(arrays, starts, strict=False):
        if not array.size:
            tensors.append(tvm.runtime.tensor(array))
            continue
        place = block[first + start : first + start + array.nbytes].view(array.dtype).reshape(array.shape)
        place[...] = array
        tensors.append(tvm.runtime.from_dlpack(place))
    return tensors


def address(array: np.ndarray) -> int:
    """Where the first element lies."""
    return int(array.__array_interface__["data"][0])


def load_library(path: Path) -> Any:
    """A library that was exported before."""
    return tvm.runtime.load_module(str(path))


def link_library(executable: Any, path: Path, triple: str, host: bool) -> None:
    """Link an executable or a built kernel into a shared library.

    Raises:
        MissingToolError: there is no C compiler for the machine.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    options = ["-shared", "-fPIC"]
    if not host and triple.startswith("aarch64"):
        compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None:
        package = "gcc-aarch64-linux-gnu" if triple.startswith("aarch64") and not host else "gcc"
        raise MissingToolError(f"linking for {triple} needs a C compiler: apt-get install {package}")
    executable.export_library(str(path), fcompile=_linker(compiler, options))


def _linker(compiler: str, options: list[str]) -> Any:
    def link(output: str, objects: list[str], **_: Any) -> None:
        # one hash for equal code: the temporary names of the objects are not part of the library
        result = subprocess.run([compiler, *options, "-Wl,--build-id=none", "-s", "-o", output, *objects], capture_output=True, text=True)
        if result.returncode:
            raise InternalError(f"linking the library failed: {result.stderr.strip()[-2000:]}")

    link.output_format = "so"  # type: ignore[attr-defined]
    return link
