"""A search problem over the bits of weights alone: any widths, whatever kernels exist. Stands in for a FastEvaluator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.search.resumed import EarlierRun
from qcompiler.calibration import Samples, load_samples
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, Graph, Node
from qcompiler.passes.quantize.plan import QuantPlan
from qcompiler.passes.rounding.gptq import factorize, round_columns
from qcompiler.passes.rounding.group_grid import group_grid, nearest_codes
from qcompiler.recipe import Recipe, load_recipe
from qcompiler.search.choices import Choice
from qcompiler.search.fast import FastEvaluator
from qcompiler.search.groups import Group
from qcompiler.search.losses import Accuracy
from qcompiler.search.recipes import to_recipe
from qcompiler.search.space import Config, Space
from qcompiler.search.workload import Workload
from qcompiler.targets import get_target

BITS = (8, 4, 3, 2)
"""Widest first, as spaces have it."""
GROUP = 64
CHOICES = tuple(Choice("weight_only", b, 32, True, GROUP if b < 8 else None) for b in BITS)
RECIPE = load_recipe("w8a8")


class Rounded:
    """A rounded weight, in place of `WeightCodes`: codes int8 [O, K], scales [O, G], real when it is asked for."""

    def __init__(self, codes: Tensor, scale: Tensor, shape: tuple[int, ...], size: int) -> None:
        self.codes, self.scale, self.shape, self.size = codes.to(torch.int8), scale.float(), shape, size

    def real(self) -> np.ndarray:
        """float32 in the weight's own shape."""
        spread = self.scale.repeat_interleave(self.size, 1)[:, : self.codes.shape[1]]
        kept = int(np.prod(self.shape[1:]))
        return (self.codes * spread)[:, :kept].reshape(self.shape).numpy()


def rounded(weight: np.ndarray, bits: int, moment: Tensor | None = None) -> Rounded:
    """A weight [O, ...] in `bits`: to nearest, or by GPTQ where the second moment [K, K] of its input is given."""
    flat = torch.from_numpy(np.array(weight.reshape(len(weight), -1)))
    size = min(GROUP, flat.shape[1]) if bits < 8 else flat.shape[1]
    flat = torch.nn.functional.pad(flat, (0, -flat.shape[1] % size))
    grid = group_grid(flat, DType[f"int{bits}"], size)
    if moment is None or bits == 8:
        codes = nearest_codes(flat, grid)
    else:
        codes = round_columns(flat, factorize(moment), grid)[0]
    return Rounded(codes, grid.scale, weight.shape, size)


class WeightBits(FastEvaluator):
    """Losses with rounded weights, and what sensitivity providers ask for.

    Args:
        workload: the graph and its data.
        codes: rounded weight of a node and a width.
        figure: name of what is reported.
        shown: from the loss to that figure.
    """

    judged_by = "judged"

    def __init__(
        self, workload: Workload, codes: Callable[[Node, int], Rounded], figure: str, shown: Callable[[Any], float]
    ) -> None:
        self.nodes = [n for n in workload.graph.nodes if n.op in ("conv", "linear") and n.operands[1].is_const]
        space = Space((), tuple(_group(n) for n in self.nodes))
        super().__init__(workload, space)
        self.codes, self.figure, self.shown = codes, figure, shown
        self._branch = WeightBranch(self)
        self._measured: dict[tuple[Config, str], Accuracy] = {}
        self._earlier: list[EarlierRun] = []

    def branch(self, recipe: Recipe) -> Any:
        """There are no transforms, so there is one."""
        return self._branch

    def loss(self, choices: Config, split: str) -> float:
        """Of a solution."""
        return float(self.samples(choices, split).mean())

    def samples(self, choices: Config, split: str) -> np.ndarray:
        """The same by sample."""
        return self.accuracy(choices, split).noise

    def accuracy(self, config: Config, split: str = "judged") -> Accuracy:
        """As it was measured before, where it was: several providers measure the same configurations."""
        if (config, split) not in self._measured:
            self._measured[config, split] = super().accuracy(config, split)
        return self._measured[config, split]

    def go_on_from(self, choices: Config) -> None:
        """Keep values of a solution's run on the judged samples; what differs from it in few layers is measured from there."""
        float_run = self._earlier[:1] or [self._run_of(QuantPlan(self.workload.graph))]
        self._earlier = [*float_run, self._run_of(self.plan(choices))]

    def of_plan(self, plan: QuantPlan, split: str = "judged") -> Accuracy:
        """As the base class; from the earlier run that it has most in common with."""
        got = iter(self._outputs(plan, split))
        return self.judge(split).accuracy(lambda arrays: next(got), self.workload.metric)

    def products(self, choices: Config, changes: Sequence[tuple[int, int]]) -> np.ndarray:
        """Inner products of a solution's error of the first output and of what each (layer, choice) adds to it.

        Means over the judged samples in units of their energy: the first is the loss.
        """
        self.go_on_from(choices)
        before = self._error(choices)
        added = [self._error((*choices[:g], c, *choices[g + 1 :])) - before for g, c in changes]
        every = np.stack([before, *added])
        return every @ every.T

    def plan(self, choices: Config) -> QuantPlan:
        """Of a solution."""
        return self._branch.plan(to_recipe(self.space, choices, self.workload.recipe))

    def _error(self, choices: Config) -> np.ndarray:
        expected = np.concatenate([p.expected[0].ravel() for p in self.judge("judged").pairs]).astype(np.float64)
        got = np.concatenate([np.asarray(o[0]).ravel() for o in self._outputs(self.plan(choices), "judged")])
        return (got - expected) / np.sqrt(np.square(expected).sum())

    def _outputs(self, plan: QuantPlan, split: str) -> Iterator[Sequence[Any]]:
        """By batch."""
        executor, batches = self.executor(plan.graph), self.judge(split).chunks
        runs = [(run, run.unchanged(plan)) for run in self._earlier] if split == "judged" else []
        run, same = max(runs, key=lambda r: len(r[1]), default=(None, set()))
        for at, arrays in enumerate(batches):
            known = {v: t for v, t in run.values[at].items() if v in same} if run else None
            yield executor.run(arrays, plan=plan, known=known)

    def _run_of(self, plan: QuantPlan) -> EarlierRun:
        return EarlierRun(self.executor(plan.graph), plan, self.judge("judged").chunks, self.nodes)

    def float_loss(self, split: str) -> float:
        """Of the float model: 0, as losses are relative to it."""
        return 0.0

    def nearest_loss(self, bits: int, split: str) -> float:
        """Of uniform bits rounded to nearest."""
        plan = QuantPlan(self.workload.graph)
        plan.weights = {n: rounded(np.asarray(n.operands[1].data), bits) for n in self.nodes}  # type: ignore[misc]
        return self.of_plan(plan, split).loss

    def clusters(self, parts: int) -> list[list[int]]:
        """Layers of one kind (the last part of the module's path) in one part of the depth."""
        found: dict[tuple[str, int], list[int]] = {}
        for i, group in enumerate(self.space.groups):
            found.setdefault((group.name.rpartition(".")[2], i * parts // len(self.nodes)), []).append(i)
        return list(found.values())


class WeightBranch:
    """In place of `Branch`: plans that only round weights."""

    def __init__(self, of: WeightBits) -> None:
        self.of, self.graph = of, of.workload.graph

    def plan(self, recipe: Recipe) -> QuantPlan:
        """The weights at the widths that the recipe names."""
        plan = QuantPlan(self.graph)
        for node in self.of.nodes:
            bits = recipe.settings_for(node.origin.module, node.op).weight_bits
            plan.weights[node] = self.of.codes(node, bits)  # type: ignore[assignment]
        return plan


def _group(node: Node) -> Group:
    shape = tuple(int(d) for d in node.operands[1].shape)
    return Group(node.origin.module, ((node.origin.module, node.op),), CHOICES, int(np.prod(shape)), shape[0], 0)


def _cached(make: Callable[[Node, int], Rounded]) -> Callable[[Node, int], Rounded]:
    """Codes in int8 are kept; the real weights they stand for are made when a plan is run."""
    known: dict[tuple[Node, int], Rounded] = {}

    def codes(node: Node, bits: int) -> Rounded:
        if (node, bits) not in known:
            known[node, bits] = make(node, bits)
        return known[node, bits]

    return codes


FITTED = 8
"""Calibration crops that providers take their statistics from."""

JUDGED, REPORTED, UNSEEN = 12, 12, 40
"""Crops of each of ten photographs that decide, others of the same that are reported, and crops of three other photographs
that are reported too: in a few bits a solution fits the photographs that it is chosen by."""


@dataclass(frozen=True)
class Photographs(Workload):
    """A workload with two splits that are reported.

    Attributes:
        same: other crops of the photographs that decide; `report` are crops of other photographs.
    """

    same: Samples | None = None


def efficientnet() -> WeightBits:
    """EfficientNet-Lite0, loss relative to the float logits' energy."""
    from benchmarks import data
    from benchmarks.search.networks import load

    network = load("efficientnet-lite0")
    unseen = [x for i, x in enumerate(data.crops("evaluation", 7 * UNSEEN, seed=2)) if i % 7 >= 4]
    parts = (
        network.calibration[:FITTED],
        *([(x[None],) for x in part] for part in (_photographs(JUDGED, seed=4), unseen, _photographs(REPORTED, seed=5))),
    )
    fitted, judged, report, same = (load_samples(p, network.graph) for p in parts)
    workload = Photographs(network.graph, get_target("onnx"), RECIPE, fitted, judged, report, same=same)
    return WeightBits(
        workload, _cached(lambda node, bits: rounded(np.asarray(node.operands[1].data), bits)), "SQNR dB", _decibel
    )


def _photographs(count: int, seed: int) -> list[np.ndarray]:
    """Crops of each of the six photographs of calibration and of four of evaluation, which take turns: 7 of them."""
    from benchmarks import data

    judged = data.crops("evaluation", 7 * count, seed)
    return [*data.crops("calibration", 6 * count, seed), *(x for i, x in enumerate(judged) if i % 7 < 4)]


def _decibel(loss: Any) -> float:
    return float("inf") if not loss else float(-10 * np.log10(loss))


class Perplexity(WeightBits):
    """Reported losses are mean negative log likelihoods of the next tokens; solutions are judged by divergence.

    KL(float || quantized) of the next token's distribution is above 0 wherever anything is lost, and tells a layer's
    part from few tokens. The likelihood itself moves both ways, and by more than most layers cost.
    """

    judged_by = "divergence"
    _expected: list[Tensor] | None = None

    def samples(self, choices: Config, split: str) -> np.ndarray:
        plan = self.plan(choices)
        return self._divergence(plan) if split == "judged" else self._likelihood(plan, split)

    def float_loss(self, split: str) -> float:
        return float(self._likelihood(None, split).mean())

    def nearest_loss(self, bits: int, split: str) -> float:
        plan = QuantPlan(self.workload.graph)
        plan.weights = {n: rounded(np.asarray(n.operands[1].data), bits) for n in self.nodes}  # type: ignore[misc]
        return float(self._likelihood(plan, split).mean())

    def _divergence(self, plan: QuantPlan) -> np.ndarray:
        """Means over the positions of each judged window, nats."""
        executor, found = TorchExecutor(self.workload.graph), []
        if self._expected is None:
            self._expected = [_log_probabilities(executor.run([ids])) for (ids,) in self.workload.judged]
        for (ids,), expected in zip(self.workload.judged, self._expected, strict=True):
            got = _log_probabilities(executor.run([ids], plan=plan))
            found.append(float((expected.exp() * (expected - got)).sum(-1).mean()))
        return np.array(found)

    def _likelihood(self, plan: QuantPlan | None, split: str) -> np.ndarray:
        executor, losses = TorchExecutor(self.workload.graph), []
        for (ids,) in getattr(self.workload, split):
            logits = executor.run([ids], plan=plan)[0][0, :-1].float()
            losses.append(float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(np.asarray(ids[0, 1:])))))
        return np.array(losses)


def _log_probabilities(outputs: Any) -> Tensor:
    return torch.log_softmax(outputs[0][0].float(), -1)


SAVED_EVERY = 35
"""Layers between two writes of the codes, so that a run that is cut off goes on."""
CALIBRATION_TOKENS, MOMENT_WINDOWS, JUDGED_WINDOWS = 128, 8, 2


def smollm2(folder: Path) -> WeightBits:
    """SmolLM2-135M, decoder layers only; codes by GPTQ are kept in the folder."""
    from benchmarks.llm_rows import logits_module
    from benchmarks.smollm2 import WINDOW, calibration_windows, evaluation_windows
    from qcompiler.compilation import Request, build_passes, capture_model, split_passes
    from qcompiler.passes.base import Context, run_passes

    sequence = torch.export.Dim("seq", min=2, max=WINDOW)
    example = (torch.zeros(1, 16, dtype=torch.long),)
    captured, _ = capture_model(Request(logits_module(), example, dynamic_shapes={"input_ids": {1: sequence}}))
    target = get_target("onnx")
    graph, _ = run_passes(captured, split_passes(build_passes(RECIPE, target))[0], Context(target=target))
    windows = calibration_windows(MOMENT_WINDOWS + JUDGED_WINDOWS)
    parts = (
        [(w[:, :CALIBRATION_TOKENS],) for w in windows[:2]],
        [(w,) for w in windows[MOMENT_WINDOWS:]],
        [(w,) for w in evaluation_windows()],
    )
    workload = Workload(graph, target, RECIPE, *(load_samples(p, graph) for p in parts))
    codes = _GptqCodes(graph, windows[:MOMENT_WINDOWS], folder)
    found = Perplexity(workload, codes.of, "perplexity", lambda loss: float(np.exp(loss)))
    found.nodes = [n for n in found.nodes if "layers." in n.origin.module]
    found.space = Space((), tuple(_group(n) for n in found.nodes))
    codes.prepare(found.nodes)
    return found


class _GptqCodes:
    """Codes of all layers and widths, layer inputs taken from the float model."""

    def __init__(self, graph: Graph, windows: list[np.ndarray], folder: Path) -> None:
        self.graph, self.windows, self.path = graph, windows, folder / "gptq.pt"
        self._codes: dict[tuple[str, int], tuple[Tensor, Tensor, int]] = {}
        if self.path.exists():
            self._codes = torch.load(self.path)

    def of(self, node: Node, bits: int) -> Rounded:
        """The rounded weight."""
        codes, scale, size = self._codes[node.origin.module, bits]
        return Rounded(codes, scale, tuple(int(d) for d in node.operands[1].shape), size)

    def prepare(self, nodes: list[Node]) -> None:
        """Round what is not there yet, and keep it."""
        if all((n.origin.module, b) in self._codes for n in nodes for b in BITS):
            return
        moments = self._moments(nodes)
        for at, node in enumerate(nodes):
            for bits in BITS:
                if (node.origin.module, bits) not in self._codes:
                    one = rounded(np.asarray(node.operands[1].data), bits, moments[node.operands[0]])
                    self._codes[node.origin.module, bits] = (one.codes, one.scale, one.size)
            if at % SAVED_EVERY == 0 or at == len(nodes) - 1:
                self._save()

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".tmp")
        torch.save(self._codes, part)
        part.replace(self.path)

    def _moments(self, nodes: list[Node]) -> dict[Any, Tensor]:
        executor, found = TorchExecutor(self.graph), {}

        def add(value: Any, tensor: Tensor) -> None:
            rows = tensor.reshape(-1, tensor.shape[-1]).float()
            product = rows.T @ rows
            found[value] = found[value] + product if value in found else product

        for ids in self.windows:
            executor.run([ids], {n.operands[0] for n in nodes}, add)
        return found
