"""Samples nested as the model's forward takes them; samples that are doubtful."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration import load_samples
from qcompiler.calibration.signature import Signature
from qcompiler.errors import CalibrationError
from qcompiler.ir import DType, Value

NESTED = ("batch_ids", "batch_image_0", "batch_image_1", "scale")
A, B, C, D = (np.full((1, 2), float(i), np.float32) for i in range(4))


@pytest.mark.parametrize(
    "item",
    [
        ({"ids": A, "image": [B, C]}, D),
        ({"image": (B, C), "ids": A}, D),  # the order of keys does not matter
        {"scale": D, "batch": {"image": [B, C], "ids": A}},
        ({"ids": A, "image": [B, C]}, None, D),  # an argument left out
        (({"ids": A, "image": [B, C]}, D),),
    ],
    ids=["positional", "other order", "keywords", "none", "wrapped"],
)
def test_nested_arguments_as_the_model_takes_them(item):
    inputs = [Value(DType.float32, (1, 2), name=n) for n in NESTED]
    samples = load_samples([item], inputs)
    assert [float(a[0, 0]) for a in samples[0]] == [0.0, 1.0, 2.0, 3.0]


def test_one_mapping_may_be_the_only_argument():
    inputs = [Value(DType.float32, (1, 2), name=n) for n in ("batch_ids", "batch_pixel_values")]
    sample = Signature(inputs).sample({"Pixel-Values": B, "ids": A}, 0)
    assert [float(a[0, 0]) for a in sample] == [0.0, 1.0]


def test_keywords_in_capitals_are_found():
    """torch.export writes names of inputs in lower case."""
    inputs = [Value(DType.float32, (1, 2), name=n) for n in ("imga", "imgb")]
    assert [float(a[0, 0]) for a in Signature(inputs).sample({"imgB": B, "imgA": A}, 0)] == [0.0, 1.0]


@pytest.mark.parametrize("item", [({"ids": A, "picture": [B, C]}, D), ({"ids": A}, D), (A, B, C, D, 1.0)])
def test_nested_arguments_that_do_not_fit_are_refused(item):
    inputs = [Value(DType.float32, (1, 2), name=n) for n in NESTED]
    with pytest.raises(CalibrationError, match="the model takes 4"):
        load_samples([item], inputs)


@pytest.mark.parametrize(
    ("data", "doubts"),
    [
        ([A + i + np.eye(2, dtype=np.float32)[:1] for i in range(3)], []),
        ([np.array([[1.0, 2.0]], np.float32)] * 3, ["all 3 samples of a list are the same"]),
        ([A, B], ["input 'x' is 0 everywhere in the first sample of a list"]),
    ],
    ids=["good", "equal", "constant"],
)
def test_doubtful_samples_are_named(data, doubts):
    assert load_samples(data, [Value(DType.float32, (1, 2), name="x")]).doubts() == doubts
