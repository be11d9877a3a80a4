"""ONNX's own test models with expected outputs: each is imported, run by the reference interpreter and compared.

They come with the onnx package. Where an operand works like an attribute of the graph (a shape, axes, a scalar bound),
the test feeds it as an input; it is then fixed to the value that the test gives it, and the outcome says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

EQUAL, FIXED, UNSUPPORTED, DIFFERENT, FAULTY = "equal", "equal, operands fixed", "unsupported", "different", "faulty test"
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
HALF_TOLERANCE = 5e-3
"""16-bit floats are computed in float32 here and rounded after every step there: a few units of 2^-9 (bfloat16)."""


@dataclass(frozen=True)
class Case:
    """A model with inputs and expected outputs."""

    kind: str
    name: str
    model: onnx.ModelProto
    inputs: list[Any]
    outputs: list[Any]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """What became of a case: one of the words above, and why."""

    case: str
    kind: str
    detail: str = ""


def cases(kind: str) -> Iterator[Case]:
    """The models of a kind: `node`, `simple`, `pytorch-converted`, `pytorch-operator` or `light`."""
    if kind == "light":
        yield from _light_cases()
        return
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow on purpose
        tests = load_model_tests(kind=kind)
    for test in tests:
        if test.model is not None:
            inputs, outputs = ([_array(v) for v in part] for part in (test.data_sets or [([], [])])[0])
            yield Case(kind, test.name, test.model, inputs, outputs, test.rtol, test.atol)
        else:
            folder = Path(test.model_dir)
            model = onnx.load(folder / "model.onnx")
            found = _read(folder / "test_data_set_0", "input"), _read(folder / "test_data_set_0", "output")
            yield Case(kind, test.name, model, *found, test.rtol, test.atol)


def _light_cases() -> Iterator[Case]:
    """Classic networks whose weights are constants made in the graph; inputs are as the package's own runner makes them."""
    for path in sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx")):
        model = onnx.load(path)
        constants = {t.name for t in model.graph.initializer}
        inputs = []
        for info in model.graph.input:
            if info.name not in constants:
                shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
                inputs.append((np.arange(np.prod(shape)) / np.prod(shape)).astype(np.float32).reshape(shape))
        expected = numpy_helper.to_array(onnx.load_tensor(str(path.with_name(f"{path.stem}_output_0.pb"))))
        yield Case("light", path.stem, model, inputs, [expected], 1e-3, 1e-7)


def _array(value: Any) -> Any:
    """Tests of casts give messages; sequences and optionals are no arrays."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _read(folder: Path, stem: str) -> list[Any]:
    arrays = []
    for index in range(len(list(folder.glob(f"{stem}_*.pb")))):
        tensor = onnx.TensorProto()
        try:
            tensor.ParseFromString((folder / f"{stem}_{index}.pb").read_bytes())
            arrays.append(numpy_helper.to_array(tensor))
        except Exception:  # a sequence or an optional, which no graph takes
            arrays.append(None)
    return arrays


def run_case(case: Case) -> Outcome:
    """Import, run, compare; operands that have to be known are fixed in a second attempt."""
    from qcompiler.errors import UnsupportedError

    constants = {t.name for t in case.model.graph.initializer}
    infos = [i for i in case.model.graph.input if i.name not in constants]
    faulty = _faulty(infos, case.inputs)
    if faulty:
        return Outcome(case.name, FAULTY, faulty)
    try:
        return Outcome(case.name, *_compare(case, case.model, case.inputs))
    except UnsupportedError as error:
        small = {i.name for i, a in zip(infos, case.inputs, strict=False) if isinstance(a, np.ndarray | np.generic) and a.ndim <= 1}
        if "must be known" not in str(error) or not small:
            return Outcome(case.name, UNSUPPORTED, _reason(error))
    try:
        rest = [a for i, a in zip(infos, case.inputs, strict=False) if i.name not in small]
        kind, detail = _compare(case, _fixed(case, infos, small), rest)
        return Outcome(case.name, FIXED if kind == EQUAL else kind, detail)
    except UnsupportedError as error:
        return Outcome(case.name, UNSUPPORTED, _reason(error))


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[1] if len(lines) > 1 else lines[0]).strip()


def _faulty(infos: list[onnx.ValueInfoProto], inputs: list[Any]) -> str:
    """Some tests of the package feed arrays of another rank than their own model declares."""
    for info, array in zip(infos, inputs, strict=False):
        tensor = info.type.tensor_type
        if info.type.HasField("tensor_type") and tensor.HasField("shape") and isinstance(array, np.ndarray | np.generic):
            if len(tensor.shape.dim) != np.ndim(array):
                return f"input {info.name} is declared with {len(tensor.shape.dim)} axes and fed with {np.ndim(array)}"
    return ""


def _fixed(case: Case, infos: list[onnx.ValueInfoProto], names: set[str]) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for info, array in zip(infos, case.inputs, strict=False):
        if info.name in names:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), info.name))
    return model


def _compare(case: Case, model: onnx.ModelProto, inputs: list[Any]) -> tuple[str, str]:
    from qcompiler.executors.reference import run_reference
    from qcompiler.executors.torch_executor import TorchExecutor
    from qcompiler.frontend.onnx import import_onnx
    from qcompiler.passes.base import Context
    from qcompiler.passes.canonicalize import WidenHalf

    graph = WidenHalf().run(import_onnx(model), Context()).graph
    if case.kind == "light":
        # All weights of a layer are equal and logits reach 1e8: one rounding per channel decides. torch sums all
        # channels in the same order, as the package's runner does.
        got = [t.numpy() for t in TorchExecutor(graph).run(inputs)]
    else:
        got = run_reference(graph, [np.asarray(a) for a in inputs])
    for array, wanted in zip(got, case.outputs, strict=True):
        wanted = np.asarray(wanted)
        if wanted.dtype.name in ("int2", "uint2", "int4", "uint4"):
            wanted = wanted.astype(array.dtype)  # stored one per byte here
        if array.shape != wanted.shape or array.dtype != wanted.dtype:
            return DIFFERENT, f"{array.dtype}{list(array.shape)} for {wanted.dtype}{list(wanted.shape)}"
        half = wanted.dtype.itemsize == 2 and wanted.dtype.kind not in "iub"
        tolerance = max(case.rtol, HALF_TOLERANCE) if half else case.rtol
        a, b = (v.astype(np.float64) if v.dtype.kind not in "iub" else v for v in (array, wanted))
        if not np.allclose(a, b, rtol=tolerance, atol=max(case.atol, tolerance if half else 0), equal_nan=True):
            return DIFFERENT, f"max|a-b| {np.abs(a - b).max():.3g}"
    return EQUAL, ""
