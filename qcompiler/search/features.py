"""What cost models know of a configuration without running the quantized network: one row for it, one per group.

Rows are mappings from feature names to numbers. Spaces of other models and targets have other options; a name that a
row lacks is missing (NaN), which the trees handle, so that rows of different searches train one model.

Noise is local: each layer runs alone on the float model's activations (see `sensitivity/local.py`), once per choice of
precision. Global knobs enter by name; only in a space without groups is noise taken for each of their settings.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.search.choices import layers
from qcompiler.search.recipes import to_recipe
from qcompiler.search.sensitivity.local import LocalRuns

if TYPE_CHECKING:
    from qcompiler.ir import Node
    from qcompiler.search.branch import Branch
    from qcompiler.search.choices import Choice
    from qcompiler.search.fast import FastEvaluator
    from qcompiler.search.groups import Group
    from qcompiler.search.space import Config, Space

Row = dict[str, float]
SAMPLES = 2
"""Calibration samples that layers are run on."""
_TINY = 1e-12


class Features:
    """Rows of configurations, with everything that they share cached.

    Attributes:
        seconds: spent on runs of layers so far.
    """

    def __init__(self, evaluator: FastEvaluator) -> None:
        self.evaluator, self.space = evaluator, evaluator.space
        self.seconds = 0.0
        self._noise: dict[Any, dict[Any, tuple[float, float]]] = {}
        self._runs: dict[int, LocalRuns] = {}
        self._group_noise: dict[tuple[int, str], dict[Any, tuple[float, float]]] = {}
        self._group_rows: dict[tuple[int, str], Row] = {}
        work = evaluator.workload
        self._keys = [(n.origin.module, n.op) for n in layers(work.graph, work.recipe, work.target)]
        self._model = self._describe_model()

    def rows(self, config: Config) -> list[Row]:
        """The configuration's row, then one for each group."""
        return [self.config_row(config), *self.group_rows(config)]

    def config_row(self, config: Config) -> Row:
        """Options of the global knobs, totals of the layers' noise, and the model's size."""
        noise = self._layer_noise(config)
        output = np.array([noise.get(k, (0.0, 0.0))[0] for k in self._keys])
        weight = np.array([noise.get(k, (0.0, 0.0))[1] for k in self._keys])
        kept = output[output > 0]
        row = {
            "noise_sum": _log(output.sum()),
            "noise_max": _log(output.max(initial=0.0)),
            "noise_mean_log": float(np.log10(kept + _TINY).mean()) if kept.size else -12.0,
            "noise_first": _log(output[0]),
            "noise_last": _log(output[-1]),
            "weight_noise_sum": _log(weight.sum()),
            "float_layers": float((output == 0).mean()),
        }
        for name, value in self.space.describe(config)["global"].items():
            row[f"{name}={value}"] = 1.0
            if value.isdigit():
                row[f"log2 {name}"] = float(np.log2(int(value)))
        chosen = self.space.choices(config)
        for choice in chosen:
            row[f"layers {choice.name}"] = row.get(f"layers {choice.name}", 0.0) + 1 / len(chosen)
        return {**row, **_changes_of_scheme(chosen), **self._model}

    def group_rows(self, config: Config) -> list[Row]:
        """Precisions, noise and shape of every group."""
        return [self._group_row(at, choice) for at, choice in enumerate(self.space.choices(config))]

    def _group_row(self, at: int, choice: Choice) -> Row:
        """A group's row depends on its own choice only."""
        if (at, choice.name) not in self._group_rows:
            group, noise = self.space.groups[at], self._noise_of(at, choice)
            values = [noise.get(m, (0.0, 0.0)) for m in group.members]
            self._group_rows[at, choice.name] = {
                "group_bits": float(choice.weight_bits),
                "group_activation_bits": float(choice.activation_bits),
                "group_noise": _log(sum(v[0] for v in values)),
                "group_weight_noise": _log(sum(v[1] for v in values)),
                f"group {choice.scheme}": 1.0,
                **self._describe_group(group, at),
            }
        return self._group_rows[at, choice.name]

    def _layer_noise(self, config: Config) -> dict[Any, tuple[float, float]]:
        """(output noise, weight noise) of each quantized layer by (module, op)."""
        if not self.space.groups:
            return self._of(config, config)
        found: dict[Any, tuple[float, float]] = {}
        for at, choice in enumerate(self.space.choices(config)):
            found.update(self._noise_of(at, choice))
        return found

    def _noise_of(self, at: int, choice: Choice) -> dict[Any, tuple[float, float]]:
        """Noise of a group's layers at the first option of every global knob: one plan per choice serves all groups."""
        if choice.scheme == "float":
            return {}
        if (at, choice.name) not in self._group_noise:
            uniform = self.space.uniform(choice.name)
            head = len(self.space.knobs)
            assert self.space.groups[at].choices[uniform[head + at]] == choice
            table = self._of(((0,) * head + uniform[head:]), choice.name)
            members = self.space.groups[at].members
            self._group_noise[at, choice.name] = {m: table[m] for m in members if m in table}
        return self._group_noise[at, choice.name]

    def _of(self, config: Config, key: Any) -> dict[Any, tuple[float, float]]:
        if key not in self._noise:
            start = time.perf_counter()
            recipe = to_recipe(self.space, config, self.evaluator.workload.recipe)
            branch = self.evaluator.branch(recipe)
            plan, runs = branch.plan(recipe), self._local(branch)
            self._noise[key] = {
                (n.origin.module, n.op): (runs.noise(plan, n), _weight_noise(plan, n)) for n in branch.weighted(plan)
            }
            self.seconds += time.perf_counter() - start
        return self._noise[key]

    def _local(self, branch: Branch) -> LocalRuns:
        if id(branch) not in self._runs:
            wanted = set(self._keys)
            nodes = [n for n in branch.graph.nodes if (n.origin.module, n.op) in wanted]
            work = self.evaluator.workload
            samples = [[np.asarray(a) for a in work.calibration[i]] for i in range(min(SAMPLES, len(work.calibration)))]
            self._runs[id(branch)] = LocalRuns(self.evaluator.executor(branch.graph), nodes, samples)
        return self._runs[id(branch)]

    def _describe_model(self) -> Row:
        graph = self.evaluator.workload.graph
        keys = set(self._keys)
        nodes = [n for n in graph.nodes if (n.origin.module, n.op) in keys]
        weights = sum(int(np.prod(n.operands[1].shape)) for n in nodes)
        return {
            "model_layers": float(np.log2(1 + len(nodes))),
            "model_weights": float(np.log2(1 + weights)),
            "model_depthwise": float(np.mean([_depthwise(n) for n in nodes])),
            "model_linear": float(np.mean([n.op == "linear" for n in nodes])),
        }

    def _describe_group(self, group: Group, at: int) -> Row:
        members = set(group.members)
        nodes = [n for n in self.evaluator.workload.graph.nodes if (n.origin.module, n.op) in members]
        first = nodes[0].operands[1].shape
        return {
            "group_weights": float(np.log2(1 + group.weights)),
            "group_macs": float(np.log2(1 + group.macs)),
            "group_depth": at / max(1, len(self.space.groups) - 1),
            "group_depthwise": float(np.mean([_depthwise(n) for n in nodes])),
            "group_kernel": float(np.prod(first[2:])) if len(first) > 2 else 1.0,
            "group_channels": float(np.log2(1 + int(first[0]))),
        }


def cost_row(space: Space, config: Config) -> Row:
    """What a latency depends on beside the formula: which share of layers and products each choice has, and changes."""
    chosen = space.choices(config)
    row: Row = {}
    work = sum(g.macs for g in space.groups) or 1
    for group, choice in zip(space.groups, chosen, strict=True):
        row[f"layers {choice.name}"] = row.get(f"layers {choice.name}", 0.0) + 1 / len(chosen)
        row[f"macs {choice.name}"] = row.get(f"macs {choice.name}", 0.0) + group.macs / work
    return {**row, **_changes_of_scheme(chosen)}


def _changes_of_scheme(chosen: Sequence[Choice]) -> Row:
    """Share of neighbours in program order whose schemes differ: what float layers hand to each other is not rounded."""
    if not chosen:
        return {}
    changes = sum(a.scheme != b.scheme for a, b in zip(chosen, chosen[1:], strict=False))
    return {"changes of scheme": changes / max(1, len(chosen) - 1)}


def matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> np.ndarray:
    """Rows by feature names, float32; NaN where a row lacks one. Configurations share rows: each is read once."""
    places: dict[int, int] = {}
    index = [places.setdefault(id(row), len(places)) for row in rows]
    distinct = list({id(row): row for row in rows}.values())
    table = np.array([[row.get(n, np.nan) for n in names] for row in distinct], np.float32).reshape(len(distinct), len(names))
    return table[index]


def _depthwise(node: Node) -> bool:
    return bool(node.op == "conv" and node.attrs["groups"] > 1)


def _weight_noise(plan: Any, node: Node) -> float:
    weight = np.asarray(node.operands[1].data, np.float64)
    return float(np.square(plan.weights[node].real() - weight).sum() / max(float(np.square(weight).sum()), 1e-30))


def _log(value: float) -> float:
    return float(np.log10(value + _TINY))
