"""What the commands print, as tables or as JSON whose keys are a contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from qcompiler.boundary import quantize_inputs
from qcompiler.checksums import changed_files
from qcompiler.cli_support import print_json, print_table
from qcompiler.errors import UsageError, VerificationError, did_you_mean

if TYPE_CHECKING:
    from qcompiler.api import Compiled
    from qcompiler.bisect import PassError
    from qcompiler.calibration import Samples
    from qcompiler.evaluation import Metric
    from qcompiler.report import LayerErrorRow


def show_compiled(compiled: Compiled, out: Path, answer: list[str] | None, *, as_json: bool) -> None:
    """Result of `compile`."""
    if as_json:
        extra = {} if answer is None else {"why_not": answer}
        print_json({"out": str(out), **_summary(compiled), **extra})
        return
    _show(compiled)
    for line in answer or ():
        typer.echo(line)
    typer.echo(f"written to {out}; open {out / 'report.html'}")


def _summary(compiled: Compiled) -> dict[str, Any]:
    data = compiled.report
    accuracy, latency, sizes = data.accuracy, data.latency, data.sizes
    return {
        "target": data.target,
        "recipe": data.recipe,
        "seed": data.seed,
        "random_calibration": data.random_calibration,
        "accuracy": None if accuracy is None else accuracy.model_dump(mode="python"),
        "latency_ms": None if latency is None else latency.quantized_ms,
        "latency_ratio": None if latency is None else latency.ratio,
        "size_bytes": None if sizes is None else sizes.artefact_bytes,
        "size_ratio": None if sizes is None else sizes.ratio,
        "coverage": data.coverage_summary.model_dump(),
        "verified": data.verified,
        "warnings": list(data.warnings),
    }


def _show(compiled: Compiled) -> None:
    from qcompiler.report import print_report

    print_report(compiled.report)


def why_not(compiled: Compiled, name: str, module: str) -> list[str]:
    """What one pass noted about a module, refusals first. Raises UsageError for an unknown pass or module."""
    steps = [step for step in compiled.steps if step.name == name.replace("-", "_")]
    if not steps:
        known = [step.name for step in compiled.steps]
        raise UsageError(
            f"--why-not: no pass {name!r} ran.{did_you_mean(name, known)} These did: {', '.join(known)}"
        )
    modules = sorted({node.origin.module for graph in _graphs(compiled) for node in graph.nodes})
    if not any(found == module or found.startswith(f"{module}.") for found in modules):
        raise UsageError(f"--why-not: no module {module!r} in the model.{did_you_mean(module, modules)}")
    notes = [note for step in steps for note in step.notes if module in note.site]
    if not notes:
        return [f"{name} never looked at {module}: no op there is of a form it works on"]
    notes.sort(key=lambda note: note.taken)
    return [
        f"{note.site}: {'taken' if note.taken else 'refused'}: {note.reason or 'no reason given'}"
        for note in notes
    ]


def _graphs(compiled: Compiled) -> list[Any]:
    return [graph for graph in (compiled.float_graph, compiled.graph) if graph is not None]


ALWAYS = ("sqnr", "cosine", "agreement")
"""Metrics that `evaluate` prints whether they are asked for or not."""


def evaluate(
    compiled: Compiled, data: str, metric: Sequence[str | Metric], layers: int, *, as_json: bool
) -> None:
    """Result of `evaluate`."""
    from qcompiler.report.summary import worst_layers

    found = compiled.evaluate(data, metric)
    worst = [compiled.report.layers[i] for i in worst_layers(compiled.report.layers, layers)]
    if as_json:
        first = {"metric": found.metric, "value": found.value, "float_value": found.float_value}
        named = {"target": compiled.report.target, "recipe": compiled.report.recipe}
        print_json({**named, **asdict(found), **first, "worst_layers": [row.model_dump() for row in worst]})
        return
    rows = [("SQNR", f"{found.sqnr_db:.2f} dB", ""), ("cosine", f"{found.cosine:.6f}", "1")]
    if found.agreement is not None:
        rows.append(("agreement", f"{found.agreement:.4f}", "1"))
    rows += [(m.name, f"{m.value:.6g}", f"{m.float_value:.6g}") for m in found.asked if m.name not in ALWAYS]
    title = f"artefact beside float, {found.samples} sample{'' if found.samples == 1 else 's'}"
    columns = ["metric", "artefact", "float", "artefact computed by"]
    print_table(title, columns, [(*row, found.executor) for row in rows])
    if worst:
        columns = ["layer", "op", "alone, dB", "so far, dB"]
        print_table("worst layers, from the compile", columns, [_layer_cells(row) for row in worst])


def _layer_cells(row: LayerErrorRow) -> tuple[str, str, str, str]:
    alone = "" if row.sqnr_local_db is None else f"{row.sqnr_local_db:.1f}"
    return row.module or row.op, row.op, alone, f"{row.sqnr_cumulative_db:.1f}"


RANDOM_SAMPLES = 2


def verify(
    compiled: Compiled, data: str | None, count: int | None, min_sqnr: float | None, seed: int, *, as_json: bool
) -> None:
    """Result of `verify`. Raises VerificationError after printing."""
    if changed := changed_files(compiled.folder):
        raise VerificationError(f"{compiled.folder} is not the artefact that was compiled: " + "; ".join(changed))
    samples = some_samples(compiled, data, count, seed, None)
    codes = [quantize_inputs(compiled.graph, arrays) for arrays in samples]
    found = compiled.target.verify(compiled.graph, compiled.folder, codes, compiled.lock.threads)
    figures = {
        "level": found.level,
        "samples": found.samples,
        "differing": found.differing,
        "max_lsb": found.max_lsb,
        "sqnr": found.sqnr_db,
        "failures": list(found.failures),
        "data": samples.source,
    }
    if as_json:
        print_json(figures)
    else:
        print_table("artefact against reference", ["", ""], [(k, _text(v)) for k, v in figures.items()])
    found.check()
    if min_sqnr is not None and found.sqnr_db < min_sqnr:
        raise VerificationError(f"SQNR against the reference is {found.sqnr_db:.2f} dB, below {min_sqnr} dB")


def bench(
    compiled: Compiled,
    data: str | None,
    threads: int | None,
    batch: int | None,
    seconds: float,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Result of `bench`. Raises UsageError where the float model was not saved."""
    if compiled.float_graph is None:
        raise UsageError(
            "the artefact was saved without its float model: compile again without --no-float-model"
        )
    arrays = some_samples(compiled, data, 1, seed, batch)[0]
    used = threads or compiled.lock.threads
    codes = quantize_inputs(compiled.graph, arrays)
    found = compiled.target.measure(compiled.folder, compiled.float_graph, arrays, used, seconds, codes)
    verified = compiled.target.verify(compiled.graph, compiled.folder, [codes], used)
    sizes = compiled.report.sizes
    figures = {
        "target": compiled.report.target,
        "recipe": compiled.report.recipe,
        "kind": found.kind,
        "samples": 1,
        "differing": verified.differing,
        "latency_ms": found.latency_ms,
        "float_latency_ms": found.baseline_ms,
        "latency_ratio": found.ratio,
        "spread": found.spread,
        "noisy": found.noisy,
        "rounds": found.rounds,
        "threads": found.threads,
        "batch": int(arrays[0].shape[0]) if arrays[0].ndim else 1,
        "size_bytes": None if sizes is None else sizes.artefact_bytes,
    }
    profile = compiled.target.profile(compiled.folder, codes, used)
    if profile is not None:
        figures |= {"peak_gops": profile.peak_gops, "layers": [asdict(kernel) for kernel in profile.kernels]}
    if as_json:
        return print_json(figures)
    layers = figures.pop("layers", None)
    print_table("artefact beside float, one run", ["", ""], [(k, _text(v)) for k, v in figures.items()])
    if layers is not None:
        rows = [
            (k["name"], k["kernel"], ", ".join(k["modules"][:1]), f"{k['ms']:.4f}", _text(k["gops"]), _text(k["share"]))
            for k in layers
        ]
        print_table("kernels; share of the measured roof", ["", "kernel", "op", "ms", "GOPS", "share"], rows)


SIMULATED = ("instructions", "flash_bytes", "ram_bytes", "arena_bytes", "first_cycles", "cycles")
"""Figures of a simulation that are printed where it has them."""


def simulate(
    compiled: Compiled, data: str | None, on: str, count: int, seed: int, *, as_json: bool
) -> None:
    """Result of `bench --on`. Raises VerificationError after printing if an integer differs."""
    samples = [quantize_inputs(compiled.graph, arrays) for arrays in some_samples(compiled, data, count, seed, None)]
    found = compiled.target.simulate(compiled.graph, compiled.folder, samples, on)
    figures = {
        "target": compiled.report.target,
        "recipe": compiled.report.recipe,
        "kind": found.kind,
        "on": found.on,
        "samples": found.samples,
        "differing": found.differing,
        **{name: value for name in SIMULATED if (value := getattr(found, name)) is not None},
        "predicted": dict(found.predicted),
        "layers": [asdict(layer) for layer in found.layers],
        **({"resources": dict(found.resources)} if found.resources else {}),
    }
    if as_json:
        print_json(figures)
    else:
        rows = [(k, _text(v)) for k, v in figures.items() if k not in ("layers", "predicted", "resources")]
        rows += [(f"predicted {k}", _text(v)) for k, v in found.predicted.items()]
        rows += [(f"estimated {k}", _text(v)) for k, v in found.resources.items()]
        print_table(f"artefact on {found.on}", ["", ""], rows)
        layers = [(r.module, r.op, r.kernel, f"{r.instructions:,}", _per(r.instructions, r.macs)) for r in found.layers]
        if layers:
            print_table("instructions, which are no cycles", ["layer", "op", "kernel", "instructions", "per MAC"], layers)
    if found.differing:
        raise VerificationError(f"{found.differing} integers differ from the reference on {found.on}")


def _per(count: int, macs: int) -> str:
    return f"{count / macs:.2f}" if macs else ""


def some_samples(compiled: Compiled, data: str | None, count: int | None, seed: int, batch: int | None) -> Samples:
    """The data given (all of it unless `count` says less), or seeded random inputs: enough to compare arithmetic."""
    from qcompiler.calibration import RandomData, load_samples

    if data is not None:
        return load_samples(data, compiled.signature, limit=count)
    dims = {}
    if batch is not None:
        symbol = compiled.signature.batch
        if not isinstance(symbol, str):
            raise UsageError(
                "--batch needs a dynamic batch dimension; this model was compiled with a fixed one"
            )
        dims = {symbol: batch}
    return load_samples(RandomData(count or RANDOM_SAMPLES, seed, dims), compiled.signature, allow_random=True)


def inspect(compiled: Compiled, *, as_json: bool) -> None:
    """Result of `inspect`."""
    from qcompiler.report.console import coverage_table, print_view

    data, lock = compiled.report, compiled.lock
    refused = [
        {"pass": note.name, "site": site.site, "reason": site.text}
        for note in data.passes
        for site in note.refused
    ]
    if as_json:
        print_json(
            {
                "target": data.target,
                "recipe": lock.recipe.to_dict(),
                "hashes": lock.hashes,
                "versions": lock.versions,
                "random_calibration": lock.random_calibration,
                "coverage": [row.model_dump() for row in data.coverage],
                "refused": refused,
                "decisions": lock.decisions,
                "inputs": compiled.signature.describe(),
            }
        )
        return
    facts = [("target", data.target), ("recipe", data.recipe), ("inputs", compiled.signature.describe())]
    print_table("artefact", ["", ""], [*facts, *sorted(lock.hashes.items())])
    print_view(coverage_table(data))
    if refused:
        rows = [(row["pass"], row["site"], row["reason"]) for row in refused]
        print_table("sites refused", ["pass", "site", "reason"], rows)


def report(compiled: Compiled, out: Path, *, as_json: bool) -> None:
    """Result of `report`."""
    if as_json:
        print_json(compiled.report.model_dump(mode="python"))
        return
    _show(compiled)
    typer.echo(f"the whole report: {out / 'report.html'}")


def doctor(found: dict[str, Any], *, as_json: bool) -> None:
    """Result of `doctor`."""
    if as_json:
        print_json(found)
        return
    facts = [(name, _text(found[name])) for name in ("qcompiler", "python", "machine", "processors", "isa")]
    print_table("this machine", ["", ""], facts)
    packages = [(name, version or "missing") for name, version in found["packages"].items()]
    print_table("packages", ["package", "version"], packages)
    tools = [
        (tool["name"], tool["found"] or f"missing: {tool['install']}", tool["use"]) for tool in found["tools"]
    ]
    print_table("optional components", ["name", "found", "used for"], tools)


def bisect(errors: Sequence[PassError], *, as_json: bool) -> None:
    """Result of `bisect`."""
    first = next((error.name for error in errors if error.exceeds), None)
    if as_json:
        print_json({"first": first, "passes": [asdict(error) for error in errors]})
        return
    rows = [
        (e.name, e.kind, f"{e.sqnr_db:.2f}", f"{e.max_rel:.2e}", "exceeds its bound" if e.exceeds else "")
        for e in errors
    ]
    print_table("outputs after every pass", ["pass", "kind", "SQNR dB", "max rel", ""], rows)
    typer.echo(f"first pass beyond its bound: {first}" if first else "no pass exceeds its bound")


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
