"""The two spaces of the benchmark, as the protocol fixes them."""

from __future__ import annotations

import numpy as np

from benchmarks.search.networks import RECIPE, Network, study_target
from qcompiler.search.choices import Choice, layers
from qcompiler.search.groups import Group, find_groups
from qcompiler.search.space import Config, GlobalKnob, Option, Space

RUNS = 10
LIMIT = 5 / 8
"""Of int8's bytes: what the weights of a competing configuration of the second space may take."""


def options_space(network: Network) -> Space:
    """96 configurations of options for the whole model."""
    found = layers(network.graph, RECIPE, study_target(8))
    edges = sorted({found[0].origin.module, found[-1].origin.module})
    knobs = (
        GlobalKnob("calibration", tuple(Option(str(n), {"calibration": {"max_samples": n}}) for n in (512, 64, 1))),
        GlobalKnob("activations", tuple(Option(a, {"activations": a}) for a in ("u8", "s8_symmetric"))),
        GlobalKnob(
            "clipping",
            tuple(Option(m, {"activation_range": {"method": m}}) for m in ("minmax", "mse", "percentile", "entropy")),
        ),
        GlobalKnob("scales", tuple(Option(n, {"per_channel": on}) for n, on in (("channel", True), ("tensor", False)))),
        GlobalKnob("edges", (Option("int8", {}), Option("float", {"ignore": edges}))),
    )
    return Space(knobs, ())


def bits_space(network: Network) -> Space:
    """Int8 or int4 weights for ten runs of layers."""
    single = find_groups(network.graph, RECIPE, study_target(8, 4), {"batch": 1})
    return Space((), tuple(_merged(run) for run in _runs(single)))


def _runs(groups: tuple[Group, ...]) -> list[list[Group]]:
    """Consecutive groups in `RUNS` runs (fewer where there are fewer groups) of about equal weight counts."""
    count = min(RUNS, len(groups))
    total = sum(g.weights for g in groups)
    runs: list[list[Group]] = [[]]
    done = 0
    for at, group in enumerate(groups):
        left = len(groups) - at
        full = done >= total * len(runs) / count
        if runs[-1] and len(runs) < count and (full or left <= count - len(runs)):
            runs.append([])
        runs[-1].append(group)
        done += group.weights
    return runs


def _merged(run: list[Group]) -> Group:
    choices = tuple(c for c in run[0].choices if c.scheme == "static" and all(_has(g, c) for g in run))
    return Group(
        name=run[0].name,
        members=tuple(m for g in run for m in g.members),
        choices=choices,
        weights=sum(g.weights for g in run),
        channels=sum(g.channels for g in run),
        macs=sum(g.macs for g in run),
    )


def _has(group: Group, choice: Choice) -> bool:
    return any(c.name == choice.name for c in group.choices)


def weight_bytes(space: Space, config: Config) -> float:
    """Bytes of the weights of a configuration of the second space."""
    return sum(g.weights * c.weight_bits / 8 for g, c in zip(space.groups, space.choices(config), strict=True))


def competing(space: Space) -> list[Config]:
    """Configurations that take part, in the order of their indices."""
    every = [tuple(int(i) for i in digits) for digits in np.ndindex(*space.radix)]
    if not space.groups:
        return every
    limit = LIMIT * sum(g.weights for g in space.groups)
    return [c for c in every if weight_bytes(space, c) <= limit]
