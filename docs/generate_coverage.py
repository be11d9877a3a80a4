"""Writes docs/coverage.md: what capture makes of architectures with random weights.

    python docs/generate_coverage.py [NAME ...]

Each model is captured, verified and brought to normal form; captured and normal graph are run by the torch executor
at two or more sizes and compared with the module. Results are kept in build/coverage.json, so that naming models
refreshes only those.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402

from qcompiler.errors import QCError  # noqa: E402
from qcompiler.executors.torch_executor import TorchExecutor  # noqa: E402
from qcompiler.frontend import capture  # noqa: E402
from qcompiler.ir import Graph, verify_graph  # noqa: E402
from qcompiler.passes.base import Context, run_passes  # noqa: E402
from qcompiler.passes.canonicalize import canonicalize_passes  # noqa: E402
from support.architectures import LISTED, Architecture  # noqa: E402
from support.more_architectures import FURTHER  # noqa: E402

STORE = ROOT / "build" / "coverage.json"
BOUND = 1e-4
COMPOSITES = (
    "attention",
    "rotary",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "batch_norm",
    "gelu",
    "silu",
    "hard_swish",
    "softmax",
)


def examine(architecture: Architecture) -> dict[str, Any]:
    """Nodes, composites, dynamic dimensions and largest deviation of one architecture."""
    model = architecture.make().eval()
    samples = [architecture.sample(*size) for size in architecture.sizes]
    graph = capture(model, samples[0], architecture.dynamic)
    verify_graph(graph)
    normal = run_passes(graph, canonicalize_passes(), Context())[0]
    verify_graph(normal)
    found = Counter(node.op for node in normal.nodes)
    return {
        "nodes": len(graph.nodes),
        "normal": len(normal.nodes),
        "composites": {op: found[op] for op in COMPOSITES if found[op]},
        "dynamic": sorted(graph.symbols()),
        "max_rel": max(deviation(graph, model, s) for s in samples),
        "max_rel_normal": max(deviation(normal, model, s) for s in samples),
    }


def deviation(graph: Graph, model: torch.nn.Module, sample: Any) -> float:
    """Largest max|a - b| / max|b| over the outputs."""
    leaves = [v for v in pytree.tree_leaves(sample) if isinstance(v, torch.Tensor)]
    got = TorchExecutor(graph).run(leaves)
    with torch.no_grad():
        results = call(model, sample)
    wanted = [v for v in pytree.tree_leaves(results) if isinstance(v, torch.Tensor)]
    worst = 0.0
    for a, b in zip(got, wanted, strict=True):
        difference = (a.double() - b.double()).abs()
        if difference.numel():
            worst = max(worst, float(difference.max() / b.double().abs().max().clamp_min(1e-30)))
    return worst if np.isfinite(worst) else float("inf")


def call(model: torch.nn.Module, sample: Any) -> Any:
    """The module's own results, without a key-value cache."""
    if not isinstance(sample, dict):
        return model(*sample)
    if getattr(getattr(model, "config", None), "use_cache", False):
        try:
            return model(**sample, use_cache=False)
        except TypeError:
            return model(**sample)
    return model(**sample)


def row(name: str, architecture: Architecture, result: dict[str, Any]) -> str:
    """One line of the table."""
    if "error" in result:
        return f"| {name} | {architecture.library} | | | | | {result['error']} |"
    composites = ", ".join(f"{count} {op}" for op, count in result["composites"].items())
    worst = max(result["max_rel"], result["max_rel_normal"])
    state = "" if worst <= BOUND else f" **above {BOUND:g}** {architecture.note}".rstrip()
    return (
        f"| {name} | {architecture.library} | {result['nodes']} | {result['normal']} | {composites} |"
        f" {', '.join(result['dynamic']) or 'none'} | {worst:.1e}{state} |"
    )


def page(results: dict[str, dict[str, Any]]) -> str:
    """The document."""
    head = "| model | library | nodes | after canonicalize | composite ops | dynamic dimensions | max_rel, or why not |\n"
    head += "|---|---|---|---|---|---|---|\n"
    parts = [
        "# Coverage of capture\n",
        "Written by `docs/generate_coverage.py`. Random weights, small configurations (depth 2 where the architecture"
        " allows it); zero and constant parameters are made random, so that no branch hides. `max_rel` is the largest"
        " max|a - b| / max|b| over all outputs, at all sizes tried, of the captured and of the canonicalized graph in"
        " the torch executor against the module.\n",
    ]
    for title, models in (("Promised families", LISTED), ("Further architectures", FURTHER)):
        known = {n: results[n] for n in models if n in results}
        fine = sum("error" not in r and max(r["max_rel"], r["max_rel_normal"]) <= BOUND for r in known.values())
        parts.append(f"## {title}: {fine} of {len(known)}\n")
        parts.append(head + "\n".join(row(n, models[n], r) for n, r in known.items()) + "\n")
    return "\n".join(parts)


def main(names: list[str]) -> None:
    """Examine the named models, or all that have no result yet, and write the page."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    models = {**LISTED, **FURTHER}
    results: dict[str, Any] = json.loads(STORE.read_text()) if STORE.exists() else {}
    STORE.parent.mkdir(exist_ok=True)
    for name in names or [n for n in models if n not in results]:
        try:
            results[name] = examine(models[name])
        except QCError as error:
            reason = " ".join(str(error).split()).replace("|", "\\|")
            results[name] = {"error": f"{type(error).__name__}: {reason[:300]}"}
        print(row(name, models[name], results[name]), file=sys.stderr, flush=True)
        STORE.write_text(json.dumps(results, indent=1))
        (ROOT / "docs" / "coverage.md").write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
