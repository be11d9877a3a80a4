"""The C simulation of hls4ml as an independent oracle: it reads a program written as QONNX and must compute the same integers.

    python -m benchmarks.fpga.hls4ml_oracle [--models autoencoder] [--samples 16] [--python PYTHON]

What hls4ml reads exactly: powers of two as scales, one per tensor, no zero points (recipe `w8a8-pow2` with
`per_channel: false` and `activations: s8_symmetric`). It truncates its inputs before they are quantized, so inputs are
numbers that codes stand for. hls4ml and qonnx have an environment of their own, made in the work folder unless `--python`
names one that has them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import qcompiler as qc
from benchmarks.environments import environment
from benchmarks.fpga.beside_hls4ml import networks
from benchmarks.import_trained import QONNX_PINS
from benchmarks.models import MODELS
from qcompiler.boundary import dequantize_outputs, quantize_inputs
from qcompiler.executors.reference import run_reference
from qcompiler.recipe import load_recipe

PINS = (*QONNX_PINS, "hls4ml==1.3.0")
NAMES = ("linear layers", "convolutions", "residual", "depthwise", "autoencoder")
CHANGES = {"activations": "s8_symmetric", "per_channel": False}

SIMULATE = """
import json, sys
import hls4ml
import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.util.cleanup import cleanup_model
path, data, folder = sys.argv[1:]
data = np.load(data)
images = data["x"].ndim == 4
model = cleanup_model(ModelWrapper(path))
if images:
    model = model.transform(ConvertToChannelsLastAndClean())
model = cleanup_model(model.transform(GemmToMatMul()))
# 28 bits behind the point: products of small scales end there
config = hls4ml.utils.config_from_onnx_model(model, granularity="name", backend="Vitis", default_precision="ap_fixed<48,20>")
made = hls4ml.converters.convert_from_onnx_model(
    model, output_dir=folder, backend="Vitis", io_type="io_stream" if images else "io_parallel", hls_config=config
)
made.compile()
found = np.asarray(made.predict(np.ascontiguousarray(data["x"]))).reshape(data["y"].shape)
print(json.dumps([int((found != data["y"]).sum()), int(found.size), float(np.abs(found).max())]))
"""


class Residual(torch.nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (torch.nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return torch.relu(x + self.third(torch.relu(self.second(x))))


def small_networks() -> dict[str, tuple[torch.nn.Module, tuple[int, ...]]]:
    """By name: module and shape of its input."""
    torch.manual_seed(0)
    relu = torch.nn.ReLU
    depthwise = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), relu(), torch.nn.Conv2d(8, 8, 3, groups=8), relu(), torch.nn.Conv2d(8, 12, 1), relu()
    )
    return {**networks(), "residual": (Residual().eval(), (3, 12, 12)), "depthwise": (depthwise.eval(), (3, 12, 12))}


def load(name: str, samples: int) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], np.ndarray, np.ndarray]:
    """(module, example inputs, calibration inputs, test inputs): of the trained network, images; of the others, noise."""
    if name in MODELS:
        model, example = MODELS[name].load()
        return model, example, MODELS[name].calibration(64), MODELS[name].evaluation(samples)[0]
    model, shape = small_networks()[name]
    noise = np.random.default_rng(0).normal(size=(32 + samples, *shape)).astype(np.float32)
    return model, (torch.zeros(1, *shape),), noise[:32], noise[32:]


def main() -> int:
    """Print a row per network; 1 if a number differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--python", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/bench-fpga"))
    given = parser.parse_args()
    python = given.python or environment(given.work / "hls4ml", PINS)
    recipe = load_recipe("w8a8-pow2").with_changes(CHANGES)
    print("| network | inputs | output integers | C simulation of ours: differing | of hls4ml: differing |\n|---|---|---|---|---|", flush=True)
    bad = False
    for name in given.models:
        model, example, calibration, test = load(name, given.samples)
        compiled = qc.compile(
            model, example, target="fpga-hls", recipe=recipe, calibration=[(x[None],) for x in calibration],
            evaluation=[(x[None],) for x in test[:4]],
        )  # fmt: skip
        graph = compiled.graph
        quant = graph.inputs[0].quant
        assert quant is not None
        inputs, outputs, simulated = [], [], 0
        for x in test:
            codes = quantize_inputs(graph, [x[None]])
            wanted = run_reference(graph, codes)
            inputs.append(quant.dequantize(codes[0])[0])
            outputs.append(dequantize_outputs(graph, wanted)[0])
            simulated += sum(int((a != b).sum()) for a, b in zip(compiled.run(inputs[-1][None], raw=True), wanted, strict=True))
        with tempfile.TemporaryDirectory() as folder:
            path, data = compiled.save_qonnx(Path(folder) / "model.onnx"), Path(folder) / "data.npz"
            np.savez(data, x=np.stack(inputs), y=np.stack(outputs))
            done = subprocess.run([python, "-c", SIMULATE, path, data, Path(folder) / "project"], capture_output=True, text=True)
        if done.returncode:
            print(f"hls4ml does not take {name}:\n" + "\n".join(done.stderr.splitlines()[-12:]), file=sys.stderr, flush=True)
            bad = True
            continue
        differing, count, peak = json.loads(done.stdout.splitlines()[-1])
        print(f"| {name} | {len(test)} | {count} | {simulated} | {differing} |", flush=True)
        bad |= bool(simulated or differing or not peak)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
