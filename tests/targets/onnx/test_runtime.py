"""Sessions, timing, weights beside the model, borders left after optimization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import quantized_models as models
from onnx_models.float_models import conv_chain

from qcompiler.errors import UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.targets import get_target, timing
from qcompiler.targets.onnx import emit
from qcompiler.targets.onnx.emitter import Style
from qcompiler.targets.onnx.runtime import OnnxSession
from qcompiler.targets.timing import measure_pair


class Clock:
    """perf_counter that only moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def costs(self, *milliseconds: float):
        """A call that takes these times in turn."""
        state = {"calls": 0}

        def call() -> None:
            self.now += milliseconds[state["calls"] % len(milliseconds)] / 1e3
            state["calls"] += 1

        return call


def test_ratio_is_of_neighbouring_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    measured = measure_pair(clock.costs(1.0), clock.costs(4.0), seconds=0.2, threads=2)
    assert measured.latency_ms == pytest.approx(1.0) and measured.baseline_ms == pytest.approx(4.0)
    assert measured.ratio == pytest.approx(0.25) and not measured.noisy
    assert measured.rounds == 16 and measured.threads == 2 and measured.kind == "measured"


def test_uses_its_time_where_the_ratio_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    measured = measure_pair(clock.costs(1.0, 1.3, 1.6), clock.costs(4.0), seconds=0.4)
    assert measured.rounds > 70


def test_wide_spread_is_called_noisy(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    measured = measure_pair(clock.costs(1.0, 3.0), clock.costs(4.0), seconds=0.0)
    assert measured.noisy and measured.rounds == 5


def test_number_of_inputs_is_checked(tmp_path: Path) -> None:
    graph, arrays = models.cnn()
    target = get_target("onnx")
    target.emit(graph, tmp_path)
    with pytest.raises(UsageError, match=r"takes 1 inputs \(image\), got 2"):
        target.open(tmp_path).run([*arrays, *arrays])


def test_large_weights_lie_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, arrays = models.cnn()
    target = get_target("onnxruntime-cpu:avx2")
    (whole,) = target.emit(graph, tmp_path).files
    expected = OnnxSession(whole).run(arrays)
    monkeypatch.setattr(emit, "EXTERNAL_DATA_BYTES", 100)
    monkeypatch.setattr(emit, "EXTERNAL_TENSOR_BYTES", 100)
    other = tmp_path / "split"
    other.mkdir()
    for _ in range(2):  # writing again replaces, it does not append
        files = target.emit(graph, other).files
    assert [f.name for f in files] == ["model.onnx", "model.onnx.data"]
    assert any(t.data_location == onnx.TensorProto.EXTERNAL for t in onnx.load(files[0], load_external_data=False).graph.initializer)
    size = files[1].stat().st_size
    target.emit(graph, other)
    assert files[1].stat().st_size == size
    assert np.array_equal(target.open(other).run(arrays)[0], expected[0])


def test_artefact_says_what_it_was_made_for(tmp_path: Path) -> None:
    graph, _ = models.cnn()
    target = get_target("onnxruntime-cpu:avx512")
    (path,) = target.emit(graph, tmp_path, {"recipe": "w8a8"}).files
    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert props == {
        "qcompiler.isa": "avx512",
        "qcompiler.level": "quantized",
        "qcompiler.recipe": "w8a8",
        "qcompiler.target": "onnxruntime-cpu:avx512",
    }


def test_remaining_borders_have_reasons(tmp_path: Path) -> None:
    graph, _ = models.mlp()
    target = get_target("onnxruntime-cpu:avx2")
    target.emit(graph, tmp_path)
    found = {u.name: u.why for u in target.unfused(tmp_path)}
    assert found["layer.0.fc1/QuantizeLinear_0"] == "model input enters integer arithmetic"
    assert "result of Gelu" in found["layer.0.fc2/QuantizeLinear_0"]
    portable = tmp_path / "portable"
    portable.mkdir()
    get_target("onnx").emit(models.cnn()[0], portable)
    assert {u.op_type for u in get_target("onnx").unfused(portable)} <= {"QuantizeLinear", "DequantizeLinear"}


def test_measure_runs_the_artefact_beside_the_float_graph(tmp_path: Path) -> None:
    graph, arrays = models.mlp()
    target = get_target("onnxruntime-cpu")
    target.emit(graph, tmp_path)
    float_graph = conv_chain()
    with pytest.raises(Exception, match="Invalid"):  # the inputs do not fit the other model: both are really run
        target.measure(tmp_path, float_graph, arrays, seconds=0.01)


def test_float_baseline_is_the_graph(tmp_path: Path) -> None:
    graph = conv_chain()
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    session = get_target("onnxruntime-cpu").open_float(graph)
    np.testing.assert_allclose(session.run([image])[0], run_reference(graph, [image])[0], rtol=1e-4, atol=1e-5)
    names = {n.domain for n in emit.emit_model(graph, Style(True, True)).proto.graph.node}
    assert names == {""}


def test_float_baseline_is_the_same_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, arrays = conv_chain(), [np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)]
    target = get_target("onnxruntime-cpu")
    whole = target.open_float(graph).run(arrays)
    spilled = []
    write = emit.spill_model
    monkeypatch.setattr(emit, "spill_model", lambda model, path: spilled.append(path) or write(model, path))
    monkeypatch.setattr("qcompiler.targets.onnx.target.SPILLED_BYTES", 0)
    for a, b in zip(target.open_float(graph).run(arrays), whole, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(spilled) == 1 and not spilled[0].parent.exists()
