"""A network trained with Brevitas, by torch.export and by the QONNX file that Brevitas writes: `make bench-import`.

Brevitas does not resolve with the other packages, so it has an environment of its own that borrows their torch.
Fashion-MNIST is needed (Debian: dataset-fashion-mnist).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.environments import environment
from benchmarks.import_networks import decibels, working_folder

PINS = ("brevitas==0.13.4", "dependencies==2.0.1", "unfoldNd==0.2.3", "setuptools==80.10.2", "onnxoptimizer==0.4.2", "qonnx==1.0.0")
SAMPLES = 16

_TRAIN = """
import sys, warnings
warnings.simplefilter("ignore")
import brevitas.nn as qnn
import numpy as np, torch
from brevitas.export import export_qonnx
from brevitas.quant import Int8WeightPerChannelFloat

folder, images, labels = sys.argv[1], *np.load(sys.argv[2]).values()
torch.manual_seed(0)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        weights = {"weight_bit_width": 4, "weight_quant": Int8WeightPerChannelFloat, "bias": False}
        self.input = qnn.QuantIdentity(bit_width=8)
        self.stem = qnn.QuantConv2d(images.shape[1], 16, 3, stride=2, padding=1, **weights)
        self.first = qnn.QuantReLU(bit_width=8)
        self.deep = qnn.QuantConv2d(16, 16, 3, stride=2, padding=1, groups=16, **weights)
        self.second = qnn.QuantReLU(bit_width=8)
        self.point = qnn.QuantConv2d(16, 32, 1, **weights)
        self.third = qnn.QuantReLU(bit_width=8)
        self.head = qnn.QuantLinear(32 * (images.shape[2] // 4) ** 2, 10, **weights)

    def forward(self, x):
        x = self.first(self.stem(self.input(x)))
        x = self.third(self.point(self.second(self.deep(x))))
        return self.head(torch.flatten(x, 1))


net, data, truth = Net(), torch.from_numpy(images), torch.from_numpy(labels).long()
optimizer = torch.optim.Adam(net.parameters(), 2e-3)
for part in torch.randperm(len(data)).split(50):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(data[part]), truth[part]).backward()
    optimizer.step()
net.eval()
codes = []
for quantizer in (net.input, net.first, net.second, net.third):
    quantizer.register_forward_hook(lambda m, _, y: codes.append(torch.round(y / m.act_quant.scale()).numpy()))
with torch.no_grad():
    outputs = [net(x[None]).numpy() for x in data[:SAMPLES]]
    weights = [layer.quant_weight().int().numpy() for layer in (net.stem, net.deep, net.point, net.head)]
np.savez(folder + "/theirs.npz", **{f"w{i}": w for i, w in enumerate(weights)}, outputs=np.stack(outputs),
         **{f"a{i:03}": a for i, a in enumerate(codes)})
for quantizer in (net.input, net.first, net.second, net.third):
    quantizer._forward_hooks.clear()
torch.export.save(torch.export.export(net, (data[:1],)), folder + "/trained.pt2")
export_qonnx(net, data[:1], folder + "/trained.onnx", opset_version=17, dynamo=False)
""".replace("SAMPLES", str(SAMPLES))


def _environment(folder: Path) -> Path:
    """Python with Brevitas and the packages of this interpreter."""
    python = environment(folder, PINS, "--no-deps")
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "borrowed.pth").write_text("\n".join(p for p in sys.path if p.endswith("-packages")))
    return python


def _note(found: list[np.ndarray], _: object, array: np.ndarray) -> None:
    found.append(array)


def brevitas(only: Sequence[str], keep: Path | None) -> str:
    """Weights and activations of a trained network, beside those of Brevitas."""
    from benchmarks.models import MODELS
    from qcompiler.executors.reference import run_reference
    from qcompiler.frontend import capture
    from qcompiler.imported import bring_in
    from qcompiler.passes.base import Context

    images, labels = MODELS["resnet8"].training(2000)
    lines = [
        "| a network trained with Brevitas, 4-bit weights per channel | codes of weights that differ | codes of activations that differ | outputs |",
        "|---|---|---|---|",
    ]
    with working_folder(keep, "brevitas-environment") as place, tempfile.TemporaryDirectory() as made:
        np.savez(Path(made) / "data.npz", images=images, labels=labels)
        variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        subprocess.run([_environment(place), "-c", _TRAIN, made, Path(made) / "data.npz"], check=True, stdout=sys.stderr, env=variables)
        theirs = dict(np.load(Path(made) / "theirs.npz"))
        for way, file in (("by torch.export", "trained.pt2"), ("by QONNX", "trained.onnx")):
            if only and way not in only:
                continue
            graph, _, _ = bring_in(capture(Path(made) / file), Context(), None, False)
            products = [n.operands[1] for n in graph.nodes if n.op in ("conv", "linear")]
            pairs = [(w.data, theirs[f"w{i}"]) for i, w in enumerate(products) if w.data is not None]
            found: list[np.ndarray] = []
            steps = [v for n in graph.nodes if n.op in ("quantize", "requantize") for v in n.outputs]
            note = partial(_note, found)
            outputs = [run_reference(graph, [image[None]], steps, note)[0] for image in images[:SAMPLES]]
            codes = list(zip(found, (theirs[k] for k in sorted(theirs) if k.startswith("a")), strict=True))
            counts = [f"{sum(int((a != b).sum()) for a, b in part)} of {sum(a.size for a, _ in part)}" for part in (pairs, codes)]
            lines.append(f"| {way} | {' | '.join(counts)} | {decibels(list(zip(theirs['outputs'], outputs, strict=True)))} |")
    return "\n".join(lines)
