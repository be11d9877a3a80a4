"""Running and timing ONNX models in ONNX Runtime on the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from onnx import TensorProto
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NoSuchFile
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplemented_

from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.ir import DType

from ..base import Measurement
from ..timing import measure_pair


class OnnxSession:
    """A model in ONNX Runtime's CPU provider."""

    def __init__(
        self, model: Path | bytes, threads: int = 1, optimize: bool = True, optimized_path: Path | None = None
    ) -> None:
        """Load a model.

        Args:
            model: file (needed where weights lie beside it) or serialized model.
            threads: of one op; ops run one after the other.
            optimize: graph optimizations, all or none.
            optimized_path: where to write the optimized graph.

        Raises:
            UnsupportedError: ONNX Runtime has no kernel for an op of the model.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
        if optimized_path is not None:
            options.optimized_model_filepath = str(optimized_path)
        source = str(model) if isinstance(model, Path) else model
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except NotImplemented_ as error:
            raise UnsupportedError(f"ONNX Runtime {onnxruntime.__version__} cannot run the model: {error}") from error
        except (Fail, InvalidGraph, InvalidProtobuf, NoSuchFile) as error:
            if not isinstance(model, Path):
                raise
            raise UsageError(f"ONNX Runtime cannot load {model}; is the file damaged? {error}") from error
        self.input_names = [i.name for i in self._session.get_inputs()]
        self.output_names = [o.name for o in self._session.get_outputs()]

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs in the model's order.

        Raises:
            UsageError: wrong number of inputs.
        """
        if len(arrays) != len(self.input_names):
            raise UsageError(f"the model takes {len(self.input_names)} inputs ({', '.join(self.input_names)}), got {len(arrays)}")
        return run_arrays(self._session, arrays)


def run_arrays(session: onnxruntime.InferenceSession, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a loaded model, in its order, for one array per input in its order.

    ONNX Runtime's own `run` takes and gives no bfloat16, for which NumPy itself has no type: such tensors go in as the
    bits they are and are copied out of the runtime's memory.
    """
    names = [i.name for i in session.get_inputs()]
    if not any(_is_bfloat16(t) for t in (*session.get_inputs(), *session.get_outputs())):
        return list(session.run(None, dict(zip(names, arrays, strict=True))))
    values = {name: _to_value(array) for name, array in zip(names, arrays, strict=True)}
    return [_from_value(value) for value in session.run_with_ort_values(None, values)]


def _is_bfloat16(tensor: onnxruntime.NodeArg | onnxruntime.OrtValue) -> bool:
    return (tensor.data_type() if isinstance(tensor, onnxruntime.OrtValue) else tensor.type) == "tensor(bfloat16)"


def _to_value(array: np.ndarray) -> onnxruntime.OrtValue:
    make = onnxruntime.OrtValue
    if array.dtype != DType.bfloat16.numpy:
        return make.ortvalue_from_numpy(array)
    bits = np.ascontiguousarray(array).view(np.uint16)
    return make.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)


def _from_value(value: onnxruntime.OrtValue) -> np.ndarray:
    if not _is_bfloat16(value):
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    if 0 in shape:
        return np.zeros(shape, DType.bfloat16.numpy)
    bits = ctypes.cast(value.data_ptr(), ctypes.POINTER(ctypes.c_uint16))
    return np.ctypeslib.as_array(bits, shape).copy().view(DType.bfloat16.numpy)


class Runnable(Protocol):
    """A loaded model."""

    def run(self, arrays: Sequence[np.ndarray]) -> object:
        """One run."""
        ...


def measure_sessions(
    subject: Runnable, baseline: Runnable, arrays: Sequence[np.ndarray], seconds: float = 3.0, threads: int = 1
) -> Measurement:
    """`measure_pair` of two loaded models on the same inputs."""
    return measure_pair(lambda: subject.run(arrays), lambda: baseline.run(arrays), seconds, threads)
