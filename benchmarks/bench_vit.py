"""A small vision transformer with 4-bit weights and activations: what each step brings, in top-1 of Fashion-MNIST.

    python -m benchmarks.bench_vit                 all rows; one row: --rows plain
    python -m benchmarks.bench_vit --images 10000  the whole test set

Every row quantizes the trained network of `benchmarks/models/vit_tiny_fmnist` for target `onnx` and runs the plan as
fake quantization, many images at once. `--artefact` compiles the row instead and runs the file in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import qcompiler as qc
from benchmarks.models import MODELS
from qcompiler.calibration import load_samples
from qcompiler.compilation import Request, build_passes, capture_model
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.passes.base import Context, run_passes
from qcompiler.recipe import load_recipe
from qcompiler.targets import get_target

MODEL = MODELS["vit_tiny_fmnist"]
CALIBRATION = 128
BATCH = 250

OFF = {"enabled": False}
PLAIN: dict[str, Any] = {
    "activation_range": {"method": "minmax"},
    "weight_range": "minmax",
    "bias_correction": False,
    "passes": {"round_softmax": OFF, "reparameterize_layer_norm": OFF},
}


def _rounded(method: str) -> dict[str, Any]:
    return {"rules": [{"match": "*", "ops": ["linear"], "rounding": method}]}


ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("minimum and maximum", PLAIN),
    "ranges": ("+ ranges of least squared error, bias correction", {"passes": PLAIN["passes"]}),
    "softmax": ("+ attention weights as powers of two", {"passes": {"reparameterize_layer_norm": OFF}}),
    "w4a4": ("+ norms reparameterized: recipe w4a4", {}),
    "gptq": ("w4a4, rounding: gptq", _rounded("gptq")),
    "brecq": ("w4a4, rounding: brecq", _rounded("brecq")),
    "autoround": ("w4a4, rounding: autoround", _rounded("autoround")),
}
"""By name: what a row adds, and its changes to the recipe."""


def fake_quantized(changes: Mapping[str, Any], images: np.ndarray) -> np.ndarray:
    """Logits [n, 10] of images [n, 1, 28, 28] under the plan that the recipe with these changes makes."""
    module, _ = MODEL.load()
    batch = torch.export.Dim("batch", min=1, max=1024)
    request = Request(module, (torch.zeros(2, *MODEL.input_shape),), dynamic_shapes=({0: batch},))
    graph, _ = capture_model(request)
    target = get_target("onnx")
    context = Context(target=target, samples=load_samples([x[None] for x in MODEL.calibration(CALIBRATION)], graph))
    recipe = load_recipe({"base": "w4a4", **changes})
    passes = [step for step in build_passes(recipe, target) if step.name != "lower_to_quantized"]
    run_passes(graph, passes, context)
    plan = context.tables["plan"]
    executor = TorchExecutor(plan.graph)
    chunks = (images[i : i + BATCH] for i in range(0, len(images), BATCH))
    return np.concatenate([np.asarray(executor.run([chunk], plan=plan)[0]) for chunk in chunks])


def compiled(changes: Mapping[str, Any], images: np.ndarray) -> np.ndarray:
    """The same through the compiled file."""
    module, example_inputs = MODEL.load()
    data = [x[None] for x in MODEL.calibration(CALIBRATION)]
    made = qc.compile(
        module, example_inputs, target="onnx", recipe={"base": "w4a4", **changes}, calibration=data, progress=False
    )
    return np.concatenate([made.run(image[None])[0] for image in images])


def floating(images: np.ndarray) -> np.ndarray:
    """Logits of the float network."""
    module, _ = MODEL.load()
    with torch.no_grad():
        return np.concatenate([module(torch.from_numpy(chunk)).numpy() for chunk in np.split(images, len(images) // BATCH)])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--images", type=int, default=2000, help=f"of the test set, a multiple of {BATCH}")
    parser.add_argument("--artefact", action="store_true", help="compile, and run the file in ONNX Runtime")
    options = parser.parse_args()
    if options.images % BATCH or not 0 < options.images <= 10_000:
        parser.error(f"--images is a multiple of {BATCH} up to 10000")
    torch.set_num_threads(1)
    images, labels = MODEL.evaluation(options.images)
    exact = MODEL.score(images, floating(images), labels)
    print(f"{MODEL.title}, {len(images)} test images, calibrated on {CALIBRATION} others")
    print("| W4A4 | top-1 | loss, points |")
    print("|---|---|---|")
    print(f"| float | {exact:.4f} | |", flush=True)
    for name in options.rows:
        title, changes = ROWS[name]
        found = MODEL.score(images, (compiled if options.artefact else fake_quantized)(changes, images), labels)
        print(f"| {title} | {found:.4f} | {100 * (exact - found):.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
