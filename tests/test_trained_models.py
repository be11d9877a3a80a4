"""The small networks of benchmarks/models: shapes, cost, data, and what their weights reach."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.models import MODELS, fashion_mnist
from benchmarks.models.registry import area_under_curve
from benchmarks.models.training import augment
from qcompiler.errors import MissingToolError, UsageError
from support.tools import requires_file

# Millions of multiply-accumulates of MLPerf Tiny's networks (Banbury et al. 2021); ours have ten classes.
MLPERF_TINY = {"resnet8": 12.5, "ds_cnn": 2.66, "mobilenet_v1_025": 7.49, "autoencoder": 0.264}


@pytest.fixture
def images() -> None:
    requires_file(fashion_mnist.folder() / "t10k-images-idx3-ubyte.gz", fashion_mnist.PACKAGE)


@pytest.mark.parametrize("name", MODELS)
def test_multiplications(name: str) -> None:
    model = MODELS[name]
    module = model.untrained().eval()
    # The fused attention is not counted; the composed one is made of products that are.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        module(*model.example_inputs())
    assert counter.get_total_flops() == 2 * model.macs
    if name in MLPERF_TINY:
        assert model.macs / 1e6 == pytest.approx(MLPERF_TINY[name], rel=0.003)


@pytest.mark.parametrize("name", MODELS)
def test_untrained_networks_depend_on_the_seed(name: str) -> None:
    first, again, other = (MODELS[name].untrained(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", MODELS)
def test_data_fits_the_network(name: str, images: None) -> None:
    model = MODELS[name]
    calibration = model.calibration(5)
    inputs, labels = model.evaluation(40)
    assert calibration.shape == (5, *model.input_shape) and inputs.shape == (40, *model.input_shape)
    assert calibration.dtype == inputs.dtype == np.float32 and labels.shape == (40,)
    assert np.array_equal(calibration, model.calibration(5))
    assert not np.array_equal(calibration, model.calibration(5, seed=1))
    classes = {0, 1} if model.metric == "auc" else set(range(10))
    assert set(labels.tolist()) == classes
    assert model.untrained().eval()(torch.from_numpy(inputs[:2])).shape == (
        2,
        640 if model.metric == "auc" else 10,
    )


def test_resampled_images_keep_their_mean(images: None) -> None:
    """Seen at any size, an image has about the same brightness; a transposed or shifted one would fail at 49x10."""
    pixels, _ = fashion_mnist.read("t10k")
    original = MODELS["vit_tiny_fmnist"].prepare(pixels[:50])
    rows = original.mean(3)[:, 0]
    for name in ("ds_cnn", "mobilenet_v1_025", "autoencoder"):
        prepared = MODELS[name].prepare(pixels[:50])
        image = prepared.reshape(50, -1, 32, 20) if name == "autoencoder" else prepared
        assert image.mean((1, 2, 3)) == pytest.approx(original.mean((1, 2, 3)), abs=0.05)
        halves = np.stack([image[:, 0, : image.shape[2] // 2].mean((1, 2)), rows[:, :14].mean(1)])
        assert np.corrcoef(halves)[0, 1] > 0.99
    padded = MODELS["resnet8"].prepare(pixels[:50])
    assert np.array_equal(padded[:, 1, 2:30, 2:30], original[:, 0])
    assert np.unique(padded[:, :, :2]).size == 1 and np.array_equal(padded[:, 0], padded[:, 2])


def test_area_under_the_curve() -> None:
    labels = np.array([0, 0, 1, 1])
    assert area_under_curve(np.array([1.0, 2, 3, 4]), labels) == 1
    assert area_under_curve(np.array([3.0, 4, 1, 2]), labels) == 0
    assert area_under_curve(np.array([1.0, 1, 1, 1]), labels) == 0.5
    assert area_under_curve(np.array([1.0, 3, 2, 4]), labels) == 0.75


def test_augmentation_moves_and_mirrors() -> None:
    image = torch.zeros(200, 28, 28, dtype=torch.uint8)
    image[:, 10, 7] = 255
    moved = augment(image, 2, torch.Generator().manual_seed(0))
    _, rows, columns = moved.nonzero(as_tuple=True)
    assert len(rows) == 200 and set(rows.tolist()) == set(range(8, 13))
    assert set(columns.tolist()) == {*range(5, 10), *range(18, 23)}


@pytest.mark.parametrize("name", MODELS)
def test_missing_data_names_the_package(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path))
    fashion_mnist.read.cache_clear()
    with pytest.raises(MissingToolError, match="apt-get install dataset-fashion-mnist"):
        MODELS[name].evaluation()
    with pytest.raises(MissingToolError, match="set FASHION_MNIST"):
        MODELS[name].calibration()


@pytest.mark.parametrize(
    "content",
    [b"", gzip.compress(b"\0\0\x08\x03"), gzip.compress(bytes(16)) + b"tail"],
    ids=["empty", "cut short", "longer than it says"],  # gzip writes the time, and ids have to be equal in all workers
)
def test_damaged_data_is_refused(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path))
    fashion_mnist.read.cache_clear()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(UsageError, match="is damaged"):
        fashion_mnist.read("t10k")
