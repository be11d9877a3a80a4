"""What the peers make of the same models: each starts from the torch.onnx export and the same samples."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from benchmarks.workloads import Sample, Workload

OPSET = 20
"""From 21 on, NNCF notes an output type beside zero points of another type, and ONNX Runtime refuses the file."""


def export_float(workload: Workload, folder: Path) -> Path:
    """The float model by torch.onnx: the baseline of every ratio and the start of every peer."""
    import torch

    model, example = workload.load()
    path = folder / "float.onnx"
    torch.onnx.export(
        model, example, path, dynamo=True, opset_version=OPSET, input_names=list(workload.inputs),
        dynamic_shapes=workload.dynamic_shapes(), external_data=False, verbose=False,
    )  # fmt: skip
    return path


class _Reader:
    """ONNX Runtime's form of calibration data."""

    def __init__(self, samples: list[Sample]) -> None:
        self._samples = samples
        self.rewind()

    def rewind(self) -> None:
        self._next: Iterator[Sample] = iter(self._samples)

    def get_next(self) -> Sample | None:
        return next(self._next, None)


def _prepared(workload: Workload, folder: Path) -> Path:
    """The export after ONNX Runtime's own preparation for quantization."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = folder.resolve() / "prepared.onnx"
    exported = export_float(workload, folder).resolve()
    with contextlib.chdir(folder):  # it leaves temporary files in the current folder
        # Its symbolic shape inference gives up on graphs with a dynamic sequence; ONNX's own is enough here.
        quant_pre_process(exported, path, skip_symbolic_shape=True)
    return path


def ort_static(workload: Workload, folder: Path, reduce_range: bool = False) -> Path:
    """ONNX Runtime `quantize_static`: min-max, per channel, uint8 activations, int8 weights, Q/DQ.

    `reduce_range` is what its documentation advises for CPUs without VNNI: weights of 7 bits.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    prepared, path = _prepared(workload, folder), folder / "model.onnx"
    quantize_static(
        prepared, path, _Reader(workload.calibration()), quant_format=QuantFormat.QDQ, per_channel=True,
        reduce_range=reduce_range, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )  # fmt: skip
    return path


def ort_dynamic(workload: Workload, folder: Path) -> Path:
    """ONNX Runtime `quantize_dynamic`, per channel."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared, path = _prepared(workload, folder), folder / "model.onnx"
    # It turns Gemm weights round but keeps the shapes noted for them, and then fails on the contradiction.
    model = onnx.load(prepared)
    del model.graph.value_info[:]
    quantize_dynamic(model, path, per_channel=True, weight_type=QuantType.QInt8)
    return path


def nncf(workload: Workload, folder: Path) -> Path:
    """NNCF post-training quantization of the ONNX model: mixed preset, bias correction, SmoothQuant where it applies."""
    import nncf
    import onnx

    nncf.set_log_level(logging.ERROR)
    model = onnx.load(export_float(workload, folder))
    samples = workload.calibration()
    quantized = nncf.quantize(
        model, nncf.Dataset(samples), preset=nncf.QuantizationPreset.MIXED, subset_size=len(samples),
        model_type=nncf.ModelType.TRANSFORMER if workload.transformer else None, fast_bias_correction=True,
    )  # fmt: skip
    path = folder / "model.onnx"
    onnx.save(quantized, path)
    return path
