"""The `qcompiler` command. Results go to stdout, logs and progress to stderr.

Exit codes: 0 ok, 1 internal error, 2 usage or unreadable input, 3 constraint not met, 4 unsupported or nothing
quantized, 5 verification failed, 6 a tool is missing, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import qcompiler
from qcompiler import cli_export, cli_kernels, cli_tune
from qcompiler import cli_support as support
from qcompiler.cli_support import guarded

app = typer.Typer(
    name="qcompiler",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # --allow_slow is --allow-slow: the tools around us are split between the two spellings.
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
)
recipes_app = typer.Typer(
    help="List the recipes, or show one.", invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(recipes_app, name="recipes")
app.command()(cli_kernels.tune_kernels)
app.command()(guarded(cli_export.export))

METRIC_NAMES = "sqnr, agreement, cosine, top1, perplexity, kl, embedding_cosine, spearman"

Model = Annotated[str, typer.Argument(metavar="MODEL", help="file.pt2, file.onnx, Hugging Face directory, or module.py:factory")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="artefact folder")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]
TargetName = Annotated[str, typer.Option("--target", "-t", metavar="TARGET", help="see `qcompiler targets`")]
RecipeName = Annotated[str, typer.Option("--recipe", "-r", metavar="RECIPE", help="name or YAML file; see `qcompiler recipes`")]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration", "-c", metavar="CALIB", help=".npz (one array per input, first axis samples) or module.py:factory"
    ),
]
EvaluationData = Annotated[
    str | None, typer.Option("--evaluation", "-e", metavar="DATA", help="the same forms; default: held-back calibration data")
]
SampleData = Annotated[str | None, typer.Option("--data", "-d", metavar="DATA", help=".npz or module.py:factory; default: random")]
MetricName = Annotated[
    str | None, typer.Option("--metric", metavar="M", help=f"{METRIC_NAMES}, or module.py:fn (runs that file)")
]
Settings = Annotated[list[str], typer.Option("--set", metavar="FIELD=VALUE", help="field of the recipe, repeatable")]
Ignore = Annotated[
    list[str], typer.Option("--ignore", metavar="PATTERN", help="module path pattern that stays in float, repeatable")
]
Allow = Annotated[list[str], typer.Option("--allow", metavar="OP", help="op that may stay in float, repeatable")]
Dynamic = Annotated[
    list[str], typer.Option("--dynamic", metavar="AXES", help="dynamic axes, like input_ids:0=batch,1=seq, repeatable")
]
Shape = Annotated[
    list[str], typer.Option("--shape", metavar="NAME=SHAPE", help="shape of an ONNX input, like x=1x3x224x224 or ids=batchx128, repeatable")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0)]
Threads = Annotated[int, typer.Option("--threads", metavar="N", min=1)]
RandomData = Annotated[
    bool, typer.Option("--allow-random-calibration", help="calibrate on random numbers if no data is given")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qcompiler {qcompiler.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log everything")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="log errors only")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    support.set_up_logging(verbose, quiet)


@app.command()
@guarded
def compile(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="folder to write")],
    target: TargetName = "onnxruntime-cpu",
    recipe: RecipeName = "w8a8",
    calibration: Calibration = None,
    evaluation: EvaluationData = None,
    metric: MetricName = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing artefact folder")] = False,
    lock: Annotated[Path | None, typer.Option(metavar="FILE", help="repeat this recipe.lock.yaml, measure nothing")] = None,
    checkpoint: Annotated[Path | None, typer.Option(metavar="FOLDER", help="folder to keep finished blocks in, to go on from")] = None,
    settings: Settings = [],  # noqa: B006  typer reads the default, nobody changes it
    ignore: Ignore = [],  # noqa: B006
    allow: Allow = [],  # noqa: B006
    dynamic: Dynamic = [],  # noqa: B006
    shape: Shape = [],  # noqa: B006
    seed: Seed = 0,
    threads: Threads = 1,
    allow_slow: Annotated[
        bool, typer.Option("--allow-slow", help="accept slower kernels, and layers slower than float")
    ] = False,
    allow_random_calibration: RandomData = False,
    float_model: Annotated[bool, typer.Option(help="keep the float program for evaluate and bench")] = True,
    why_not: Annotated[
        tuple[str, str] | None,
        typer.Option("--why-not", metavar="PASS MODULE", help="what a pass said of a module"),
    ] = None,
    json: Json = False,
) -> None:
    """Compile MODEL into a quantized artefact folder, verify and measure it."""
    from qcompiler import cli_output
    from qcompiler.artifact import check_output

    check_output(out, force=force)
    chosen = support.recipe_with(recipe, settings, ignore, allow)
    compiled = qcompiler.compile(
        model,
        target=target,
        recipe=chosen,
        calibration=calibration,
        evaluation=evaluation,
        metric=support.parse_metric(metric),
        dynamic_shapes=support.parse_dynamic(dynamic),
        seed=seed,
        threads=threads,
        lock=lock,
        allow_slow=allow_slow,
        allow_random_calibration=allow_random_calibration,
        shapes=support.parse_shapes(shape),
        checkpoint=checkpoint,
    )
    answer = cli_output.why_not(compiled, *why_not) if why_not else None
    compiled.save(out, force=force, float_model=float_model)
    cli_output.show_compiled(compiled, out, answer, as_json=json)


@app.command()
@guarded
def tune(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="folder to write")],
    target: TargetName = "onnxruntime-cpu",
    recipe: RecipeName = "auto",
    calibration: Calibration = None,
    evaluation: EvaluationData = None,
    metric: MetricName = None,
    max_drop: cli_tune.MaxDrop = None,
    max_latency: cli_tune.MaxLatency = None,
    max_size: cli_tune.MaxSize = None,
    max_ram: cli_tune.MaxRam = None,
    max_instructions: cli_tune.MaxInstructions = None,
    objective: cli_tune.Objective = None,
    budget: cli_tune.Budget = None,
    trials: cli_tune.Trials = 64,
    generation: cli_tune.Generation = 8,
    verify_top: cli_tune.Verified = 5,
    sensitivity: cli_tune.Sensitivity = "layer_sqnr",
    solver: cli_tune.Solver = "guided",
    store: cli_tune.StoreFile = None,
    workers: cli_tune.WorkersForm = None,
    timeout: cli_tune.Timeout = 600.0,
    force: Annotated[bool, typer.Option("--force", help="replace an existing artefact folder")] = False,
    settings: Settings = [],  # noqa: B006
    ignore: Ignore = [],  # noqa: B006
    allow: Allow = [],  # noqa: B006
    dynamic: Dynamic = [],  # noqa: B006
    shape: Shape = [],  # noqa: B006
    seed: Seed = 0,
    threads: Threads = 1,
    allow_random_calibration: RandomData = False,
    json: Json = False,
) -> None:
    """Search for the best precisions of MODEL within a limit, and compile them. Interrupted, it goes on."""
    from qcompiler.compilation import Request

    request = Request(
        model,
        target=target,
        recipe=support.recipe_with(recipe, settings, ignore, allow),
        calibration=calibration,
        evaluation=evaluation,
        metric=support.parse_metric(metric),
        dynamic_shapes=support.parse_dynamic(dynamic),
        seed=seed,
        threads=threads,
        allow_random_calibration=allow_random_calibration,
        shapes=support.parse_shapes(shape),
    )
    limits = cli_tune.limits(max_drop, max_latency, max_size, max_ram, max_instructions, objective)
    wanted = cli_tune.settings(trials, budget, generation, verify_top, sensitivity, seed, solver)
    cli_tune.run(request, limits, wanted, out, store, force, json, workers=workers, timeout=timeout)


@app.command()
@guarded
def evaluate(
    out: Out,
    evaluation: Annotated[
        str,
        typer.Option(
            "--evaluation", "-e", help=".npz or module.py:factory; an array `labels` holds the classes for top1"
        ),
    ],
    metric: Annotated[
        list[str], typer.Option("--metric", metavar="M", help=f"{METRIC_NAMES}, or module.py:fn (runs that file); repeatable")
    ] = [],  # noqa: B006
    layers: Annotated[int, typer.Option("--layers", metavar="N", min=0, help="how many of the worst layers to name")] = 5,
    json: Json = False,
) -> None:
    """Compare an artefact with its float model on data, and name the layers that lose most."""
    from qcompiler import cli_output

    compiled = qcompiler.load(support.existing_folder(out))
    metrics = [support.parse_metric(one) for one in metric]
    cli_output.evaluate(compiled, evaluation, metrics, layers, as_json=json)


@app.command()
@guarded
def verify(
    out: Out,
    data: SampleData = None,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", min=1, help="use at most this many; default: all of DATA, or 2 random")
    ] = None,
    min_sqnr: Annotated[
        float | None,
        typer.Option("--min-sqnr", metavar="DB", help="least SQNR of the artefact against the reference, in dB"),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Check that an artefact computes what the reference interpreter computes."""
    from qcompiler import cli_output

    compiled = qcompiler.load(support.existing_folder(out))
    cli_output.verify(compiled, data, samples, min_sqnr, seed, as_json=json)


@app.command()
@guarded
def bench(
    out: Out,
    data: SampleData = None,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="default: as compiled")] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="N", min=1, help="size of a dynamic batch dimension")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", min=0.1, help="time to measure for")] = 3.0,
    seed: Seed = 0,
    on: Annotated[str | None, typer.Option("--on", metavar="SIMULATOR", help="simulate: qemu for microcontrollers; verilator, icarus or csim for FPGAs")] = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=1, help="with --on: use at most this many")] = 4,
    json: Json = False,
) -> None:
    """Measure an artefact beside its float model, in one run; or run it on a simulator."""
    from qcompiler import cli_output

    compiled = qcompiler.load(support.existing_folder(out))
    if on is not None:
        return cli_output.simulate(compiled, data, on, samples, seed, as_json=json)
    cli_output.bench(compiled, data, threads, batch, seconds, seed, as_json=json)


@app.command()
@guarded
def inspect(out: Out, json: Json = False) -> None:
    """Show what an artefact is made of: target, recipe, hashes, coverage, sites refused."""
    from qcompiler import cli_output

    cli_output.inspect(qcompiler.load(support.existing_folder(out)), as_json=json)


@app.command()
@guarded
def report(out: Out, json: Json = False) -> None:
    """Show the report of an artefact: its figures beside float."""
    from qcompiler import cli_output

    cli_output.report(qcompiler.load(support.existing_folder(out)), out, as_json=json)


@app.command()
@guarded
def targets(json: Json = False) -> None:
    """List the targets."""
    from qcompiler.targets import known_targets

    known = known_targets()
    if json:
        support.print_json({"targets": [{"name": n, "description": d} for n, d in known.items()]})
    else:
        support.print_table("targets", ["name", "artefact"], known.items())


@recipes_app.callback()
@guarded
def recipes(context: typer.Context, json: Json = False) -> None:
    """List the recipes."""
    from qcompiler.recipe import load_recipe, recipe_names

    if context.invoked_subcommand is not None:
        return
    rows = [(name, load_recipe(name).description) for name in recipe_names()]
    if json:
        support.print_json({"recipes": [{"name": name, "description": text} for name, text in rows]})
    else:
        support.print_table("recipes", ["name", "meaning"], rows)


@recipes_app.command("show")
@guarded
def recipes_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="name or YAML file")],
    settings: Settings = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Print a recipe in its resolved form: bases merged, every default filled in."""
    resolved = support.recipe_with(name, settings, [], [])
    if json:
        support.print_json(resolved.to_dict())
    else:
        typer.echo(resolved.to_yaml(), nl=False)


@app.command()
@guarded
def doctor(
    require: Annotated[
        list[str],
        typer.Option("--require", metavar="NAME", help="exit with 6 unless this component is installed, repeatable"),
    ] = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Show versions, the instruction set, and optional components that are missing."""
    from qcompiler import cli_output
    from qcompiler.doctor import examine
    from qcompiler.doctor import require as check

    found = examine()
    cli_output.doctor(found, as_json=json)
    check(require)


@app.command()
@guarded
def bisect(
    model: Model,
    target: TargetName = "onnxruntime-cpu",
    recipe: RecipeName = "w8a8",
    calibration: Calibration = None,
    settings: Settings = [],  # noqa: B006
    dynamic: Dynamic = [],  # noqa: B006
    shape: Shape = [],  # noqa: B006
    min_sqnr: Annotated[float, typer.Option("--min-sqnr", metavar="DB", help="bound on lossy passes, in dB")] = 20.0,
    max_rel: Annotated[
        float, typer.Option("--max-rel", metavar="R", help="bound on exact passes: max|a-b| / max|b|")
    ] = 1e-4,
    seed: Seed = 0,
    allow_random_calibration: RandomData = False,
    json: Json = False,
) -> None:
    """Find the first pass whose error exceeds a bound."""
    from qcompiler import cli_output
    from qcompiler.bisect import bisect_passes
    from qcompiler.compilation import Request

    request = Request(
        model,
        target=target,
        recipe=support.recipe_with(recipe, settings, [], []),
        calibration=calibration,
        dynamic_shapes=support.parse_dynamic(dynamic),
        seed=seed,
        allow_random_calibration=allow_random_calibration,
        shapes=support.parse_shapes(shape),
    )
    cli_output.bisect(bisect_passes(request, min_sqnr, max_rel), as_json=json)


def main() -> Any:
    """Entry point of the console script."""
    # A polite kill unwinds like an error, so that nothing half-written stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return app()


if __name__ == "__main__":
    main()
