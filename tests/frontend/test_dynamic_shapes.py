"""Dynamic dimensions: names, ranges, arithmetic on sizes, other sizes than the example's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.frontend import capture

from .compare import check
from .test_ops import Fn, x


def shapes_of(graph: Any) -> list[list[str]]:
    return [[str(d) for d in v.shape] for v in graph.inputs]


def test_names_come_from_the_user() -> None:
    rows = torch.export.Dim("rows", min=1, max=32)
    model = torch.nn.Linear(4, 2)
    assert shapes_of(capture(model, (x(3, 4),), ({0: rows},))) == [["rows", "4"]]
    assert shapes_of(capture(model, (x(3, 4),), {"input": {0: "n"}})) == [["n", "4"]]
    assert shapes_of(capture(model, (x(3, 4),), ({-2: "n"},))) == [["n", "4"]]
    assert shapes_of(capture(model, (x(3, 4),), (["n", None],))) == [["n", "4"]]
    assert shapes_of(capture(model, (x(3, 5, 4),), ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},))) == [
        ["batch", "input_1", "4"]
    ]


def test_one_name_is_one_dimension() -> None:
    graph = check(Fn(lambda a, b: a + b), (x(3, 4), x(3, 4)), {"args[0]": {0: "n"}, "args[1]": {0: "n"}}, ((x(5, 4), x(5, 4)),))
    assert graph.symbols() == {"n"}


def test_a_batch_of_one_is_no_constant() -> None:
    graph = check(torch.nn.Linear(4, 2), (x(1, 4),), ({0: "batch"},), ((x(5, 4),),))
    assert shapes_of(graph) == [["batch", "4"]]


@pytest.mark.parametrize(
    "fn",
    [
        lambda t: t.reshape(t.shape[0], -1).sum(1),
        lambda t: t.flatten(0, 1).view(t.shape[0], t.shape[1], 4),
        lambda t: t[:, : t.shape[1] // 2] + t[:, t.shape[1] - t.shape[1] // 2 :],
        lambda t: t[:, -1] + t[:, :-1].mean(1),
        lambda t: torch.arange(t.shape[1]).float() + t.sum(-1),
        lambda t: t + torch.zeros(t.shape[1], 1),
        lambda t: t * t.shape[1] + t.shape[0],
        lambda t: t.mean((0, 1)) * (t.shape[1] - 1),
        lambda t: torch.cat([t, t[:, :1].expand(-1, t.shape[1], -1)], 1),
        lambda t: torch.full((t.shape[1], t.shape[1]), float("-inf")).triu(1) + t @ t.mT,
        lambda t: torch.where(torch.arange(t.shape[1])[:, None] >= torch.arange(t.shape[1]), t @ t.mT, -1e9),
        lambda t: F.scaled_dot_product_attention(t[:, None], t[:, None], t[:, None], is_causal=True),
        lambda t: F.pad(t, (0, 0, 1, 2)),
        lambda t: t.roll(1, 1),
        lambda t: t.std(1) + t.var((0, 1)),
        lambda t: t.unsqueeze(1).repeat(1, 2, 1, 1).flatten(1, 2),
        lambda t: torch.einsum("bsd,btd->bst", t, t),
        lambda t: F.interpolate(t.mT, scale_factor=2).mT,
        lambda t: F.conv1d(t.mT, torch.ones(3, 4, 3), stride=2, padding=1),
        lambda t: F.max_pool2d(t[:, None], (3, 1), 2),
        lambda t: F.adaptive_avg_pool1d(t.mT, 1),
        lambda t: t.unbind(-1)[0].cumsum(1),
        lambda t: t[:, 2:] * t[:, :-2],
        lambda t: t.repeat_interleave(2, 1),
        lambda t: F.one_hot(t.argmax(-1), 4) + t.shape[1] ** 2,
        lambda t: torch.stack(torch.meshgrid(torch.arange(t.shape[1]), torch.arange(3), indexing="ij")) + t.sum(),
        lambda t: t.new_ones(t.shape[0], t.shape[1]).cumsum(-1) / t.shape[1],
    ],
)
def test_size_arithmetic(fn: Any) -> None:
    graph = check(Fn(fn), (x(2, 6, 4),), {"args[0]": {0: "batch", 1: "seq"}}, ((x(3, 9, 4),), (x(5, 4, 4),)))
    assert graph.symbols() == {"batch", "seq"}


def test_a_dimension_that_the_model_fixes() -> None:
    with pytest.raises(UsageError, match=r"declared dynamic \('n'\).*fixes it to 3"):
        capture(Fn(lambda t: t + torch.ones(3, 4)), (x(3, 4),), {"args[0]": {0: "n"}})


def test_a_range_that_does_not_hold() -> None:
    with pytest.raises(UsageError, match="dynamic_shapes do not hold"):
        capture(Fn(lambda t: t + torch.ones(3, 4)), (x(3, 4),), {"args[0]": {0: torch.export.Dim("n")}})


def test_a_size_that_depends_on_data() -> None:
    with pytest.raises(UnsupportedError, match="depends on the data"):
        capture(Fn(lambda t: t[t > 0]), (x(3, 4),))
    with pytest.raises(UnsupportedError, match=r"nonzero|depends on the data"):
        capture(Fn(lambda t: t.nonzero()), (x(3, 4),))


@pytest.mark.parametrize(
    "shapes, message",
    [
        ({"inptu": {0: "n"}}, "Did you mean 'input'"),
        (({0: "n"}, {0: "n"}), "2 entries"),
        ({"input": {5: "n"}}, "axis 5"),
        ({"input": 3}, "one entry per axis"),
        (7, "dictionary by input name"),
    ],
)
def test_wrong_dynamic_shapes(shapes: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        capture(torch.nn.Linear(4, 2), (x(3, 4),), shapes)


def test_limits_that_the_user_declared() -> None:
    from qcompiler.frontend.capture import export
    from qcompiler.frontend.program import declared_ranges

    batch, seq = torch.export.Dim("batch"), torch.export.Dim("seq", min=4, max=64)
    exported = export(torch.nn.ReLU(), (torch.zeros(3, 5, 2),), {"input": {0: batch, 1: seq}})
    assert declared_ranges(exported) == {"seq": (4, 64)}


@pytest.mark.parametrize(("least", "expected"), [(None, {}), (1, {"batch": (1, None)}), (2, {"batch": (2, None)}), (3, {"batch": (3, None)})])
def test_a_declared_least_size_is_one_even_where_torch_says_it_by_itself(least: int | None, expected: dict[str, Any]) -> None:
    from qcompiler.frontend.capture import export
    from qcompiler.frontend.program import declared_ranges

    exported = export(torch.nn.ReLU(), (torch.zeros(3, 5),), {"input": {0: torch.export.Dim("batch", min=least)}})
    assert declared_ranges(exported) == expected
