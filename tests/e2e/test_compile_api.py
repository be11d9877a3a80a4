"""`qc.compile` end to end on a small network: artefact, reference, report, folder, lock."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qcompiler as qc
from qcompiler.errors import UnsupportedError, UsageError

TARGETS = ["onnxruntime-cpu", "onnx"]
RECIPES = ["w8a8", "w8a8-dynamic"]


@pytest.fixture(scope="module")
def data(here):
    return np.load(here / "calibration.npz")["image"]


@pytest.fixture(scope="module")
def compiled(user_module, data):
    model, example = user_module.net()
    return qc.compile(model, example, calibration=data)


def sqnr(reference, value):
    return 10 * np.log10((reference**2).sum() / ((reference - value) ** 2).sum())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_target_and_recipe(user_module, here, data, target, recipe):
    model, example = user_module.net()
    made = qc.compile(
        model, example, target=target, recipe=recipe, calibration=data, evaluation=str(here / "evaluation.npz")
    )
    image = np.load(here / "evaluation.npz")["image"][:1]
    expected = model(torch.from_numpy(image)).detach().numpy()
    (got,) = made.run(image)
    (reference,) = made.reference(image)
    assert got.dtype == np.float32
    assert sqnr(expected, got) > 20
    assert sqnr(reference, got) > 40
    assert made.report.verified
    assert made.report.accuracy.data == "evaluation"
    assert made.report.accuracy.samples == 8
    assert made.report.latency.quantized_ms > 0
    assert any(row.quantized for row in made.report.coverage)
    assert all(row.quantized or row.why_not for row in made.report.coverage)


def test_inputs_by_position_name_and_mapping_of_tensors_or_arrays(compiled, data):
    (expected,) = compiled.run(data[:1])
    for got in (
        compiled.run(torch.from_numpy(data[:1])),
        compiled.run(image=data[:1]),
        compiled.run({"image": data[:1]}),
    ):
        np.testing.assert_array_equal(got[0], expected)
    for wrong in ((), (data[:1], data[:1]), (data[:1, :2],)):
        with pytest.raises(UsageError):
            compiled.run(*wrong)
    with pytest.raises(UsageError, match="given twice"):
        compiled.run(data[:1], image=data[:1])


def test_report_says_how_the_data_was_split(compiled):
    accuracy = compiled.report.accuracy
    assert accuracy.data == "held_back"
    assert accuracy.samples == 6
    assert compiled.report.samples == 18
    assert accuracy.sqnr_db > 20
    assert len(compiled.report.layers) >= 6
    assert all(np.isfinite(row.max_abs_error) for row in compiled.report.layers)
    assert {stage.name for stage in compiled.report.stages} >= {"capture", "quantize", "emit", "verify", "measure"}


def test_saved_folder_is_whole_and_loads_to_the_same(compiled, data, tmp_path):
    out = compiled.save(tmp_path / "out")
    names = {path.name for path in out.iterdir()}
    assert names == {
        "model.onnx", "graph.txt", "weights.safetensors", "recipe.lock.yaml", "report.html", "report.json", "float", "SHA256SUMS",
    }  # fmt: skip
    loaded = qc.load(out)
    for method in ("run", "reference"):
        np.testing.assert_array_equal(getattr(loaded, method)(data[:1])[0], getattr(compiled, method)(data[:1])[0])
    assert loaded.report == compiled.report
    assert loaded.lock == compiled.lock
    with pytest.raises(UsageError, match="exists"):
        compiled.save(out)
    again = loaded.save(tmp_path / "again", float_model=False)
    assert not (again / "float").exists()
    assert (again / "model.onnx").read_bytes() == (out / "model.onnx").read_bytes()
    # A loaded artefact may replace the folder it came from.
    loaded.save(out, force=True)
    np.testing.assert_array_equal(qc.load(out).run(data[:1])[0], compiled.run(data[:1])[0])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_lock_repeats_the_artefact_byte_for_byte_without_measuring(
    user_module, data, tmp_path, monkeypatch, recipe
):
    model, example = user_module.net()
    first = qc.compile(model, example, recipe=recipe, calibration=data, seed=3).save(tmp_path / "first")

    def measured(*args, **kwargs):
        raise AssertionError("a compile from a lock must not measure")

    monkeypatch.setattr(type(qc.load(first).target), "measure", measured)
    for name in ("second", "third"):
        model, example = user_module.net()
        again = qc.compile(model, example, calibration=data, lock=first).save(tmp_path / name)
        for file in ("model.onnx", "graph.txt", "weights.safetensors", "recipe.lock.yaml"):
            assert (again / file).read_bytes() == (first / file).read_bytes(), file


def test_a_lock_calibrates_on_the_same_samples_with_or_without_evaluation_data(user_module, here, data, tmp_path):
    model, example = user_module.net()
    first = qc.compile(model, example, calibration=data).save(tmp_path / "first")
    other = str(here / "evaluation.npz")
    again = qc.compile(model, example, calibration=data, evaluation=other, lock=first).save(tmp_path / "again")
    for file in ("model.onnx", "recipe.lock.yaml"):
        assert (again / file).read_bytes() == (first / file).read_bytes()
    first = qc.compile(model, example, calibration=data, evaluation=other).save(tmp_path / "all")
    again = qc.compile(model, example, calibration=data, lock=first)
    assert again.report.accuracy.data == "calibration"
    assert (again.folder / "model.onnx").read_bytes() == (first / "model.onnx").read_bytes()


def test_one_sample_is_calibrated_and_evaluated_on(user_module, data):
    model, example = user_module.net()
    assert qc.compile(model, example, calibration=data[:1]).report.accuracy.data == "calibration"


def test_a_lock_is_refused_for_another_model_or_other_data(user_module, data, tmp_path):
    model, example = user_module.net()
    lock = qc.compile(model, example, calibration=data).save(tmp_path / "out")
    with pytest.raises(UsageError, match="hash of the calibration data"):
        qc.compile(model, example, calibration=data[::-1].copy(), lock=lock)
    with torch.no_grad():
        model.head.weight[0, 0] += 1
    with pytest.raises(UsageError, match="hash of the model") as error:
        qc.compile(model, example, calibration=data, lock=lock)
    assert "calibration data" not in str(error.value)


def test_global_random_generators_are_left_alone(user_module, data):
    model, example = user_module.net()
    torch.manual_seed(5)
    np.random.seed(5)
    before = (torch.random.get_rng_state(), np.random.get_state()[1].copy())
    qc.compile(model, example, calibration=data)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_the_users_metric(user_module, data):
    model, example = user_module.net()
    made = qc.compile(model, example, calibration=data, metric=user_module.mean_of_first)
    (row,) = made.report.accuracy.metrics
    assert row.name == "mean_of_first"
    assert row.float_value == pytest.approx(row.quantized_value, abs=0.1)
    with pytest.raises(UsageError, match="metric broken_metric raised TypeError"):
        qc.compile(model, example, calibration=data, metric=user_module.broken_metric)
    with pytest.raises(UsageError, match="Did you mean 'cosine'?"):
        qc.compile(model, example, calibration=data, metric="cosin")


def test_dynamic_batch(user_module, data):
    model, _ = user_module.net()
    example = (torch.zeros(2, 3, 32, 32),)
    made = qc.compile(model, example, calibration=data, dynamic_shapes={"image": {0: "batch"}})
    (whole,) = made.run(data[:5])
    rows = np.concatenate([made.run(data[i : i + 1])[0] for i in range(5)])
    np.testing.assert_allclose(whole, rows, atol=1e-5)


def test_ignored_modules_stay_in_float(user_module, data):
    model, example = user_module.net()
    made = qc.compile(model, example, calibration=data, recipe={"base": "w8a8", "ignore": ["blocks.0", "head"]})
    integer = {row.module: row.quantized for row in made.report.coverage if row.op in ("conv", "linear")}
    assert integer == {
        "stem": True, "blocks.0.first": False, "blocks.0.second": False, "blocks.1.first": True,
        "blocks.1.second": True, "head": False,
    }  # fmt: skip
    with pytest.raises(UsageError, match="matches no module.*Did you mean 'blocks.0"):
        qc.compile(model, example, calibration=data, recipe={"base": "w8a8", "ignore": ["block.0"]})


def test_weights_left_in_float_without_being_named_are_an_error(user_module, data):
    class Computed(torch.nn.Module):
        """A linear layer whose weight is computed from the input."""

        def __init__(self):
            super().__init__()
            self.fixed = torch.nn.Linear(8, 8)

        def forward(self, x):
            return torch.nn.functional.linear(self.fixed(x), x.transpose(0, 1) @ x)

    rows = [(torch.randn(4, 8),) for _ in range(4)]
    with pytest.raises(UnsupportedError, match="Name the op in `allow`"):
        qc.compile(Computed(), rows[0], calibration=rows, recipe={"base": "w8a8", "allow": ["movement"]})


def test_random_calibration_is_refused_or_stamped(user_module):
    model, example = user_module.net()
    with pytest.raises(UsageError, match="needs calibration data"):
        qc.compile(model, example)
    made = qc.compile(model, example, allow_random_calibration=True)
    assert made.lock.random_calibration
    assert made.report.random_calibration


def test_dynamic_ranges_need_no_calibration(user_module):
    model, _ = user_module.net()
    made = qc.compile(model, (torch.randn(1, 3, 32, 32),), recipe="w8a8-dynamic")
    assert made.report.samples == 0
    assert made.report.verified
