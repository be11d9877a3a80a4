"""The GPTQ pass: better than nearest on the whole network, shared moments, checkpoints, refused data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from qcompiler.calibration import load_samples
from qcompiler.errors import CalibrationError, UsageError
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, Graph, Node
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.quantize.plan import QuantPlan
from qcompiler.passes.rounding.blocks import block_of
from qcompiler.passes.rounding.round_gptq import GptqConfig, RoundGptq
from qcompiler.passes.rounding.side_by_side import Part, SideBySide
from qcompiler.recipe import load_recipe
from qcompiler.targets import get_target
from qcompiler.targets.saturation import is_pair_safe
from support.toy_networks import Layers, basic_passes, encoder_network, plan_of, random_samples, sqnr_db

TARGET = get_target("onnxruntime-cpu:avx2")


STATIC = {"scheme": "static", "group_size": None, "weight_bits": 8, "activation_range": {"method": "minmax"}}


def deep(width: int = 32, depth: int = 3) -> Graph:
    """Residual blocks of two linear layers each; module paths `layers.N.up` and `layers.N.down`."""
    b = Layers("deep")
    x = b.input("tokens", DType.float32, (1, 24, width))
    for i in range(depth):
        h = b.op("silu", b.linear(b.op("rms_norm", x, None, eps=1e-5), 2 * width, at=f"layers.{i}.up"))
        x = b.op("add", x, b.linear(h, width, bias=False, at=f"layers.{i}.down"))
    return b.build([x])


def recipe(**changes: object):
    return load_recipe("w4a16").with_changes({"group_size": 16, "keep_head": False, **changes})


def context(graph: Graph, **fields: object) -> Context:
    return Context(target=TARGET, samples=random_samples(graph, 16), **fields)


def rounded(graph: Graph, ctx: Context, config: GptqConfig | None = None, **changes: object) -> QuantPlan:
    run_passes(graph, [*basic_passes(recipe(**changes)), RoundGptq(config)], ctx)
    return plan_of(ctx)


def quality(graph: Graph, plan: QuantPlan) -> float:
    executor, samples = TorchExecutor(graph), random_samples(graph, 8, seed=11)
    real = np.stack([executor.run(s)[0].numpy() for s in samples])
    return sqnr_db(real, np.stack([executor.run(s, plan=plan)[0].numpy() for s in samples]))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weight_bits": 3, "weight_symmetric": False},
        {"scheme": "dynamic", "granularity": "group"},
        {"scheme": "dynamic", "granularity": "group", "activation_bits": 16},
        {"scheme": "dynamic", "granularity": "token", "group_size": 0, "weight_bits": 4},
    ],
    ids=["w4a16", "w3a16", "w4a8", "dynamic-two-terms", "per-channel"],
)
def test_better_than_nearest(changes: dict[str, object]) -> None:
    graph = deep()
    found = quality(graph, rounded(graph, context(graph), **changes))
    plain = quality(graph, rounded(graph, context(graph), rounding="nearest", **changes))
    assert found > plain + 0.5


def test_refitted_scales_help() -> None:
    graph = deep()
    ratios = []
    for rounds in (0, 2):
        ctx = context(graph)
        (step,) = run_passes(graph, [*basic_passes(recipe()), RoundGptq(GptqConfig(rounds=rounds, float_target=0))], ctx)[1][-1:]
        ratios.append(np.mean([n.data["error_ratio_to_nearest"] for n in step.notes]))
    assert ratios[1] < ratios[0] < 1


def pixels(as_tokens: bool, stride: int = 1) -> Graph:
    """Two layers that mix channels pixel by pixel, as convolutions of an image [1, 16, 8, 8] or linear on its tokens."""
    b = Layers("pixels")
    x = b.input("x", DType.float32, (1, 8, 8, 16) if as_tokens else (1, 16, 8, 8))
    if as_tokens:
        h = b.op("relu", b.linear(x, 24, bias=False, at="layers.0.up"))
        return b.build([b.linear(h, 8, bias=False, at="layers.1.up")])
    h = b.op("relu", b.conv(x, 24, bias=False, at="layers.0.up"))
    return b.build([b.conv(h, 8, stride=stride, bias=False, at="layers.1.up")])


def test_a_convolution_of_one_pixel_is_rounded_as_the_linear_layer_it_is() -> None:
    found = {}
    for as_tokens in (True, False):
        graph = pixels(as_tokens)
        images = [s[0].reshape(1, 8, 8, 16) for s in random_samples(pixels(True), 8)]
        ctx = Context(target=TARGET, samples=load_samples([(i if as_tokens else i.transpose(0, 3, 1, 2),) for i in images], graph))
        plan = rounded(graph, ctx, GptqConfig(float_target=0.0), **STATIC)
        assert all(is_pair_safe(c.codes) for c in plan.weights.values())  # as nearest codes are on this target
        found[as_tokens] = {n.origin.module: c for n, c in plan.weights.items()}
        nearest = plan_of(_nearest(graph, ctx)).weights
        assert all((plan.weights[n].codes != c.codes).any() for n, c in nearest.items())
    for module, linear in found[True].items():
        conv = found[False][module]
        assert conv.codes.shape == (*linear.codes.shape, 1, 1)
        np.testing.assert_array_equal(conv.codes[..., 0, 0], linear.codes)
        np.testing.assert_array_equal(conv.quant.scale, linear.quant.scale)


def test_only_the_pixels_that_a_stride_visits_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, seen = pixels(False, stride=2), []
    read = SideBySide._rows_read

    def spy(self: SideBySide, node: Node, part: Part, tensor: Tensor) -> Tensor:
        rows = read(self, node, part, tensor)
        seen.append((node.origin.module, tuple(rows.shape), torch.equal(rows[1], tensor[0, :, 0, node.attrs["strides"][1]])))
        return rows

    monkeypatch.setattr(SideBySide, "_rows_read", spy)
    rounded(graph, context(graph), **STATIC)
    counts = {m: sum(shape[0] for n, shape, _ in seen if n == m) for m in ("layers.0.up", "layers.1.up")}
    assert counts["layers.0.up"] == 4 * counts["layers.1.up"] > 0
    assert all(channels == (16 if m == "layers.0.up" else 24) and right for m, (_, channels), right in seen)


def _nearest(graph: Graph, ctx: Context) -> Context:
    again = Context(target=TARGET, samples=ctx.samples)
    run_passes(graph, basic_passes(recipe(**STATIC)), again)
    return again


def test_layers_that_read_one_value_share_its_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = SideBySide.rows_before
    monkeypatch.setattr(SideBySide, "rows_before", lambda self, node, over: seen.append(node.origin.module) or original(self, node, over))
    graph = encoder_network()
    rounded(graph, context(graph))
    assert seen == ["attention.q", "attention.output", "mlp.up", "mlp.down"]


class Killed(Exception):
    pass


def killed_after(count: int):
    def progress(what: str, done: int, total: int) -> None:
        if what.startswith("round_gptq:") and done == count:
            raise Killed

    return progress


def test_a_killed_run_resumes_to_the_same_codes(tmp_path: Path) -> None:
    graph = deep()
    whole = rounded(graph, context(graph))
    with pytest.raises(Killed):
        rounded(graph, context(graph, checkpoint=tmp_path, fingerprint={"model": "a"}, progress=killed_after(3)))
    ctx = context(graph, checkpoint=tmp_path, fingerprint={"model": "a"})
    _, steps = run_passes(graph, [*basic_passes(recipe()), RoundGptq()], ctx)
    reasons = [n.reason for n in steps[-1].notes]
    assert reasons == ["read from the checkpoint"] * 2 + ["gptq"] * 4  # the block that was cut off begins anew
    for node, codes in plan_of(ctx).weights.items():
        assert np.array_equal(codes.codes, whole.weights[node].codes) and codes.quant == whole.weights[node].quant


def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    graph = deep(depth=1)
    prints = {"model": "a", "calibration data": "x", "recipe": "r"}
    rounded(graph, context(graph, checkpoint=tmp_path, fingerprint=prints))
    with pytest.raises(UsageError, match="another run: calibration data, model differ"):
        rounded(graph, context(graph, checkpoint=tmp_path, fingerprint=prints | {"model": "b", "calibration data": "y"}))
    with pytest.raises(UsageError, match="configuration of round_gptq differs"):
        rounded(graph, context(graph, checkpoint=tmp_path, fingerprint=prints), GptqConfig(damping=0.02))


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    graph = deep(depth=1)
    rounded(graph, context(graph, checkpoint=tmp_path))
    (file,) = (tmp_path / "round_gptq").glob("*.npz")
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UsageError, match=f"{file.name} is damaged.*delete it"):
        rounded(graph, context(graph, checkpoint=tmp_path))
    (tmp_path / "round_gptq" / "fingerprint.json").write_text("{")
    with pytest.raises(UsageError, match="checkpoint folder"):
        rounded(graph, context(graph, checkpoint=tmp_path))


def test_fingerprints_are_readable(tmp_path: Path) -> None:
    graph = deep(depth=1)
    rounded(graph, context(graph, checkpoint=tmp_path, fingerprint={"model": "a"}))
    assert json.loads((tmp_path / "round_gptq" / "fingerprint.json").read_text())["model"] == "a"


def test_values_that_overflow_are_refused_with_the_module() -> None:
    b = Layers("overflow")
    h = b.linear(b.input("x", DType.float32, (1, 24, 16)), 16, at="first")
    huge = b.op("mul", h, b.const(np.float32(1e38)))
    graph = b.build([b.linear(huge, 8, at="layers.0.last")])
    with pytest.raises(CalibrationError, match=r"layers\.0\.last.*not finite.*rounding: nearest"):
        rounded(graph, context(graph))


def test_tokens_count_relative_to_the_stream_they_are_added_to() -> None:
    """One token in four is a hundred times as large in the stream: what its layer reads must not decide alone."""
    b = Layers("stream")
    x = b.input("tokens", DType.float32, (1, 24, 32))
    size = np.where(np.arange(24) % 4 == 0, 100, 1).astype(np.float32).reshape(1, 24, 1)
    stream = b.op("mul", x, b.const(size))
    h = b.op("silu", b.linear(stream, 64, at="layers.0.up"))
    graph = b.build([b.op("add", stream, b.linear(h, 32, bias=False, at="layers.0.down"))])
    node = next(n for n in graph.nodes if n.origin.module == "layers.0.down")
    errors = {}
    for next_norm in (False, True):
        plan = rounded(graph, context(graph), GptqConfig(next_norm=next_norm, float_target=0))
        executor, got = TorchExecutor(graph), []
        for sample in random_samples(graph, 8, seed=11):
            real, fake = (executor.run(sample, plan=p)[0].numpy()[0] for p in (None, plan))
            got.append(np.square((fake - real) / size[0]).sum(-1) / np.square(real / size[0]).sum(-1))
        errors[next_norm] = float(np.mean(got))
    assert plan.weights[node].codes.shape == (32, 64)
    assert errors[True] < errors[False]


def test_a_nan_names_the_module() -> None:
    """Out of the network itself: data with a NaN in it is refused where it is read."""
    b = Layers("nan")
    h = b.linear(b.input("x", DType.float32, (1, 24, 16)), 16, at="first")
    roots = b.op("sqrt", b.op("sub", b.op("abs", h), b.const(np.float32(1e3))))
    graph = b.build([b.linear(roots, 8, at="layers.0.last")])
    with pytest.raises(CalibrationError, match=r"layers\.0\.last.*not finite"):
        rounded(graph, context(graph))


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    graph = deep(depth=1)
    rounded(graph, context(graph, checkpoint=tmp_path, fingerprint={"model": "a", "recipe": "r"}))
    with pytest.raises(UsageError, match="another run: recipe differs"):
        rounded(graph, context(graph, checkpoint=tmp_path, fingerprint={"model": "a", "recipe": "s"}))


def test_no_data_is_refused() -> None:
    graph = deep(depth=1)
    with pytest.raises(UsageError, match="gptq needs calibration data"):
        rounded(graph, Context(target=TARGET))


def test_blocks_come_from_module_paths() -> None:
    graph = deep(depth=2)
    assert [block_of(n) for n in graph.nodes if n.op == "linear"] == ["layers.0", "layers.0", "layers.1", "layers.1"]
    assert block_of(next(n for n in encoder_network().nodes if n.op == "linear")) == "attention.q"


@pytest.mark.parametrize(("target", "share"), [(0.5, 0.5), (0.0, 0.0)])
def test_the_float_side_is_run_only_where_it_is_looked_at(target: float, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples in four parts: two of them for D, none without a float target."""
    monkeypatch.setattr("qcompiler.passes.rounding.side_by_side.batches", lambda graph, samples: [[s] for s in samples])
    runs = {"_real": 0, "_rounded": 0}
    for name in runs:
        original = getattr(SideBySide, name)

        def counted(self: SideBySide, *args: object, _name: str = name, _original=original) -> object:
            runs[_name] += 1
            return _original(self, *args)

        monkeypatch.setattr(SideBySide, name, counted)
    graph = deep()
    rounded(graph, context(graph), GptqConfig(float_target=target, samples=4))
    assert runs["_rounded"] > 0 and runs["_real"] == share * runs["_rounded"]
