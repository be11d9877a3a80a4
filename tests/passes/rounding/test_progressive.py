"""Progressive groups: codes in 4 bits that expand to int8 under one scale per row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qcompiler.calibration import load_samples
from qcompiler.errors import ConstraintError
from qcompiler.executors.reference import run_reference
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, QuantParams
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.quantize.lower_to_quantized import LowerToQuantized
from qcompiler.passes.quantize.plan import WeightCodes
from qcompiler.passes.rounding.gptq import Grid
from qcompiler.passes.rounding.group_grid import round_groups
from qcompiler.passes.rounding.progressive import LIMIT, ROOM, expand, reach, row_steps, snapped
from qcompiler.passes.rounding.round_gptq import RoundGptq
from qcompiler.recipe import load_recipe
from qcompiler.targets import get_target
from support.toy_networks import Layers, basic_passes, plan_of, random_samples

TARGET = get_target("onnxruntime-cpu:avx2")


def test_every_range_of_a_group_stays_in_int8() -> None:
    """All pairs of a group's minimum and maximum in steps of the row, the largest of which is ROOM."""
    low, high = (g.reshape(-1, 1).float() for g in torch.meshgrid(torch.arange(-ROOM, 1), torch.arange(ROOM + 1), indexing="ij"))
    scale = ((high - low) / 15).clamp(min=1 / 15)
    grid = snapped(Grid(scale, (-low / scale).round(), 0, 15, 4), torch.ones_like(scale))
    assert (grid.scale == grid.scale.round()).all() and (grid.scale >= 1).all()
    assert (reach(grid) * grid.scale).max() <= LIMIT


@pytest.mark.parametrize("dtype", [DType.int4, DType.uint4, DType.uint3, DType.int2])
def test_codes_expand_to_the_weight_they_stand_for(dtype: DType) -> None:
    random = np.random.default_rng(0)
    weight = (random.normal(size=(24, 64)) * random.uniform(0.02, 1, size=(24, 1))).astype(np.float32)
    weight[3] = 0
    found = round_groups(weight, dtype, 16, True, progressive=True)
    wide = expand(found)
    assert wide.codes.dtype == np.int8 and wide.quant.scale.shape == (24,)
    np.testing.assert_allclose(wide.real(), found.real(), rtol=1e-5, atol=1e-7)  # products of float32 scales
    free = round_groups(weight, dtype, 16, True).real()
    assert np.square(found.real() - weight).sum() < 2 * np.square(free - weight).sum()


def test_scales_that_have_no_common_step_do_not_expand() -> None:
    codes = np.ones((1, 8), np.int8)
    with pytest.raises(ValueError, match="no multiples of one scale"):
        expand(WeightCodes(codes, QuantParams(DType.int4, np.array([[1.0, np.sqrt(2.0)]]), axis=1, group_size=4)))
    with pytest.raises(ValueError, match="expand to 140"):
        expand(WeightCodes(7 * codes, QuantParams(DType.int4, np.array([[1.0, 20.0]]), axis=1, group_size=4)))


def test_rows_of_the_largest_group_reach_the_room() -> None:
    grid = Grid(torch.tensor([[0.5, -1.0], [0.0, 0.0]]), torch.zeros(2, 2), -8, 7, 4)
    step = row_steps(grid)
    assert step[0, 0] == pytest.approx(8 / ROOM) and step[1, 0] == 1
    assert (snapped(grid, step).scale[0] / step[0]).tolist() == pytest.approx([7, -15])


def network() -> object:
    b = Layers("net")
    h = b.op("silu", b.linear(b.input("x", DType.float32, (1, 24, 32)), 64, at="up"))
    return b.build([b.linear(h, 32, at="down")])


def recipe(**changes: object):
    settings = {"group_size": 16, "keep_head": False, "progressive": True, "granularity": "token"}
    return load_recipe("w4a8").with_changes(settings | changes)


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_products_are_computed_on_int8(rounding: str) -> None:
    graph = network()
    context = Context(target=TARGET, samples=random_samples(graph, 16))
    program, _ = run_passes(graph, [*basic_passes(recipe(rounding=rounding)), RoundGptq(), LowerToQuantized()], context)
    weights = [n.operands[1] for n in program.nodes if n.op == "dynamic_linear"]
    assert len(weights) == 2 and all(w.dtype is DType.int8 and w.quant.group_size is None for w in weights)
    for node, codes in plan_of(context).weights.items():
        assert codes.quant.dtype is DType.int4 and codes.quant.group_size == 16, node
    sample = random_samples(graph, 1, seed=5)[0]
    got, fake = run_reference(program, sample)[0], TorchExecutor(graph).run(sample, plan=plan_of(context))[0].numpy()
    assert np.abs(got - fake).max() < 0.02 * np.abs(fake).max()  # an activation may round to the next code


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 0}, "progressive needs a group_size"),
        ({"weight_bits": 8}, "at most 4 weight_bits"),
        ({"rounding": "autoround"}, "a rounding that keeps scales"),
        ({"scheme": "static", "group_size": 0}, "progressive is for schemes"),
    ],
)
def test_what_cannot_be_progressive_is_refused(changes: dict[str, object], message: str) -> None:
    graph = network()
    with pytest.raises(ConstraintError, match=message):
        run_passes(graph, basic_passes(recipe(**changes)), Context(target=TARGET, samples=load_samples(random_samples(graph, 4), graph)))
