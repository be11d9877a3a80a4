"""Take a network that ONNX Runtime quantized, and run it on a Cortex-M4, emulated: same scales, no calibration.

    python examples/06_import_quantized.py --out out/imported-m4

DS-CNN of `benchmarks/models` is exported by torch.onnx and quantized by `onnxruntime.quantization` on images of
Fashion-MNIST (Debian: dataset-fashion-mnist). That is how such a file comes to be; what follows needs the file alone.
It is compiled to a C project, checked integer by integer against the reference, compared with ONNX Runtime running the
file, and run in QEMU (Debian: gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm make).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import qcompiler as qc
from qcompiler.boundary import quantize_inputs
from qcompiler.errors import MissingToolError
from qcompiler.report import print_report

sys.path.insert(0, str(Path(__file__).parent.parent))  # the networks are not part of the package
from benchmarks.models import MODELS  # noqa: E402

NETWORK = MODELS["ds_cnn"]


class Reader:
    """Calibration data as ONNX Runtime takes it."""

    def __init__(self, images: np.ndarray) -> None:
        self.images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """One sample."""
        image = next(self.images, None)
        return None if image is None else {"x": image[None]}


def quantized_elsewhere(path: Path) -> None:
    """Write the network as ONNX Runtime quantizes it: Q/DQ, int8 weights per channel, uint8 activations."""
    network, example = NETWORK.load()
    with tempfile.TemporaryDirectory() as place:
        exported, prepared = Path(place) / "float.onnx", Path(place) / "prepared.onnx"
        torch.onnx.export(network, example, exported, dynamo=False, opset_version=17, input_names=["x"])
        quant_pre_process(exported, prepared)
        quantize_static(
            prepared, path, Reader(NETWORK.calibration(64)), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip


def main(out: Path, count: int) -> None:
    """Quantize, import, check, compare, emulate."""
    images, labels = NETWORK.evaluation(count)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "quantized.onnx"
        quantized_elsewhere(path)
        compiled = qc.compile(path, target="cortex-m4", evaluation=[(image[None],) for image in images])
        options = onnxruntime.SessionOptions()  # not optimized it computes what the file says, on every CPU
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        theirs = np.concatenate([session.run(None, {"x": image[None]})[0] for image in images])
    print_report(compiled.report)

    ours = np.concatenate([compiled.run(image[None])[0] for image in images])
    pairs = [(f(image[None], raw=True)[0] for f in (compiled.run, compiled.reference)) for image in images]
    print(f"{sum(int((a != b).sum()) for a, b in pairs)} integers of the C program differ from the reference")
    step = float(compiled.graph.outputs[0].quant.scale)
    print(f"ONNX Runtime: results within {np.abs(ours - theirs).max() / step:.0f} steps,", end=" ")
    print(f"right on {np.mean(theirs.argmax(1) == labels):.1%} of {count} images; the C program on {np.mean(ours.argmax(1) == labels):.1%}")

    folder = compiled.save(out, force=True)
    samples = [quantize_inputs(compiled.graph, [image[None]]) for image in images[:2]]
    try:
        run = compiled.target.simulate(compiled.graph, folder, samples, "qemu")
    except MissingToolError as missing:
        print(f"not run on an emulated board: {missing}")
        return
    print(
        f"in QEMU: {run.differing} integers differ from the reference, {run.instructions:,} instructions,"
        f" {run.flash_bytes} bytes of flash, {run.ram_bytes} bytes of RAM"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/imported-m4"), help="artefact folder")
    parser.add_argument("--images", type=int, default=100, help="of Fashion-MNIST to compare on")
    given = parser.parse_args()
    main(given.out, given.images)
