"""Small networks trained on Fashion-MNIST, four of them with the shapes of the MLPerf Tiny benchmarks.

MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597) fixes the architectures; its data sets and weights are not
used. The inputs keep the benchmarks' shapes: the images are resampled to them. `python -m
benchmarks.models.NAME.train` trains a network again.

    model, example_inputs = MODELS["resnet8"].load()
    inputs, labels = MODELS["resnet8"].evaluation()
"""

from __future__ import annotations

from benchmarks.models.autoencoder.model import Autoencoder
from benchmarks.models.ds_cnn.model import DSCNN
from benchmarks.models.mobilenet_v1_025.model import MobileNetV1
from benchmarks.models.registry import TrainedModel
from benchmarks.models.resnet8.model import ResNet8
from benchmarks.models.vit_tiny_fmnist.model import VisionTransformer

MODELS = {
    model.name: model
    for model in (
        TrainedModel("resnet8", "ResNet-8, 32x32", ResNet8, (3, 32, 32), 12_501_632),
        TrainedModel("ds_cnn", "DS-CNN, 49x10", DSCNN, (1, 49, 10), 2_656_640),
        TrainedModel("mobilenet_v1_025", "MobileNetV1-0.25, 96x96", MobileNetV1, (3, 96, 96), 7_491_712),
        TrainedModel(
            "autoencoder", "autoencoder of ankle boots, 640", Autoencoder, (640,), 264_192, "auc", 9
        ),
        TrainedModel(
            "vit_tiny_fmnist", "ViT, 49 tokens of width 64", VisionTransformer, (1, 28, 28), 10_913_920
        ),
    )
}
"""The networks by name."""

__all__ = ["MODELS", "TrainedModel"]
