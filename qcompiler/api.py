"""`compile`, `load` and what they return."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.artifact import FLOAT_FOLDER, GRAPH_NAME, WEIGHTS_NAME, check_output, output_folder, writing
from qcompiler.boundary import dequantize_outputs, quantize_inputs, real_inputs
from qcompiler.checksums import SUMS_NAME, write_checksums
from qcompiler.errors import UsageError
from qcompiler.graph_files import read_graph, write_graph
from qcompiler.lock import LOCK_NAME, Lock, read_lock

if TYPE_CHECKING:
    from qcompiler.calibration.signature import Signature
    from qcompiler.evaluation import Evaluation, Metric
    from qcompiler.ir import Graph
    from qcompiler.passes.base import Step
    from qcompiler.report import ReportData
    from qcompiler.targets import Session, Target


@dataclass
class Compiled:
    """An artefact with its reference and its report.

    Attributes:
        graph: the quantized program that `reference` runs.
        float_graph: the float model that figures are compared with; None where it was not saved.
        target: description of the target.
        lock: the resolved recipe and every decision.
        report: accuracy, latency, size, per-layer error, coverage, sites refused.
        folder: where the artefact's files are.
        steps: executed passes with every note; empty after `load`.
    """

    graph: Graph
    float_graph: Graph | None
    target: Target
    lock: Lock
    report: ReportData
    folder: Path
    steps: tuple[Step, ...] = ()
    _keep: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def run(self, *inputs: Any, raw: bool = False, emulate: bool = False, **named: Any) -> list[np.ndarray]:
        """Run the artefact itself on what the model takes: tensors or arrays, by position or name.

        With `emulate` a target whose device is not here runs in its emulator on this machine.

        Returns one array per model output: float, or with `raw` exactly what the artefact gives (codes where the
        program ends in integers).

        Raises:
            UsageError: names, number, shapes or dtypes of inputs do not fit.
            UnsupportedError: the target has no emulator, or without `emulate` its device is not here.
        """
        codes = quantize_inputs(self.graph, self._arrays(inputs, named))
        return self._real((self._emulator if emulate else self.session).run(codes), raw)

    def reference(self, *inputs: Any, raw: bool = False, **named: Any) -> list[np.ndarray]:
        """The same by the reference interpreter, which defines what the artefact has to compute."""
        from qcompiler.executors.reference import run_reference

        codes = quantize_inputs(self.graph, self._arrays(inputs, named))
        return self._real(run_reference(self.graph, codes), raw)

    def evaluate(
        self, data: Any, metric: str | Metric | Sequence[str | Metric] | None = None, *, progress: bool | None = None
    ) -> Evaluation:
        """Compare the artefact with its float model on data.

        Args:
            data: in any form of calibration data; an array `labels` in an .npz or a mapping holds the classes.
            metric: "sqnr", "agreement", "cosine", "top1" (with labels), "perplexity", "kl" (of logits),
                "embedding_cosine", "spearman" (of the similarities of all pairs), a function as for `compile`, or
                several of these.
            progress: show progress on stderr; by default where it is a terminal.

        The artefact runs itself where its runtime has the kernels, else the reference interpreter stands in; the
        result's `executor` says which.

        Raises:
            UsageError: no float model was saved; a metric that is unknown or does not fit; unfitting data.
        """
        from qcompiler.comparison import evaluate_artefact

        return evaluate_artefact(self, data, metric, progress)

    @cached_property
    def session(self) -> Session:
        """The artefact, loaded with the number of threads it was compiled for."""
        return self.target.open(self.folder, self.lock.threads)

    @cached_property
    def _emulator(self) -> Session:
        return self.target.open_emulated(self.folder)

    @cached_property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of the inputs, as the user gives them."""
        from qcompiler.calibration.signature import Signature

        return Signature(real_inputs(self.graph), self.lock.ranges)

    def save(self, out: str | Path, *, force: bool = False, float_model: bool = True) -> Path:
        """Write the artefact folder; returns its path.

        The folder is whole or absent: work goes beside it and is renamed at the end. `float_model` adds the
        float program, which `evaluate` and `bench` compare with.

        Raises:
            UsageError: `out` exists (without `force`), or cannot be written.
        """
        from qcompiler.report import write_report

        path = check_output(out, force=force)
        with output_folder(path, force=force) as folder:
            for file in sorted(self.folder.iterdir()):
                if file.is_dir() and file.name != FLOAT_FOLDER:
                    shutil.copytree(file, folder / file.name)
                elif file.is_file() and file.name not in _WRITTEN_ANEW:
                    shutil.copyfile(file, folder / file.name)
            write_graph(self.graph, folder / GRAPH_NAME, folder / WEIGHTS_NAME)
            (folder / LOCK_NAME).write_text(self.lock.to_yaml(), encoding="utf-8")
            write_report(self.report, folder)
            if float_model and self.float_graph is not None:
                (folder / FLOAT_FOLDER).mkdir()
                write_graph(
                    self.float_graph, folder / FLOAT_FOLDER / GRAPH_NAME, folder / FLOAT_FOLDER / WEIGHTS_NAME
                )
            write_checksums(folder)
        return path

    def save_qonnx(self, path: str | Path) -> Path:
        """Write the program as QONNX, real numbers rounded by Quant nodes; returns the path.

        Raises:
            UnsupportedError: what that format cannot say: dynamic ranges, weights in groups, functions on integers, and
                roundings other than those of real or power-of-two scales.
            UsageError: `path` cannot be written.
        """
        from qcompiler.targets.onnx.emit_qonnx import save_qonnx

        with writing(Path(path), "QONNX file"):
            return save_qonnx(self.graph, path)

    def _arrays(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
        names = self.signature.names
        if not named:
            single = len(inputs) == 1 and isinstance(inputs[0], Mapping)
            return self.signature.sample(inputs[0] if single else tuple(inputs), 0)
        by_position = dict(zip(names, inputs, strict=False))
        if twice := sorted(by_position.keys() & named.keys()):
            raise UsageError(f"input {twice[0]!r} is given twice, by position and by name")
        return self.signature.sample({**by_position, **named}, 0)

    def _real(self, arrays: list[np.ndarray], raw: bool) -> list[np.ndarray]:
        return arrays if raw else dequantize_outputs(self.graph, arrays)


_WRITTEN_ANEW = frozenset({GRAPH_NAME, WEIGHTS_NAME, LOCK_NAME, SUMS_NAME, "report.html", "report.json"})


def compile(
    model: Any,
    example_inputs: Any = None,
    *,
    target: str = "onnxruntime-cpu",
    recipe: Any = "w8a8",
    calibration: Any = None,
    evaluation: Any = None,
    metric: str | Metric | None = None,
    dynamic_shapes: Any = None,
    seed: int = 0,
    threads: int = 1,
    lock: str | Path | Lock | None = None,
    allow_slow: bool = False,
    allow_random_calibration: bool = False,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> Compiled:
    """Compile a trained model into a quantized artefact for one target, and verify and measure it.

    Args:
        model: nn.Module, ExportedProgram, onnx.ModelProto, path of a `.pt2` or `.onnx` file or of a Hugging Face
            model directory, or `module.py:factory` (which runs that file).
        example_inputs: tuple (or dict) of tensors the model is traced with; not needed where `model` brings them.
        target: name of a target, `qcompiler targets` lists them.
        recipe: name, path of a YAML file, or dict.
        calibration: iterable of inputs (tuple or dict of tensors or arrays), DataLoader, `.npz` path, ONNX Runtime
            CalibrationDataReader, or `module.py:factory`.
        evaluation: the same forms; by default a part of the calibration data is held back, and the report says so.
        metric: "sqnr", "agreement", "cosine", "perplexity", "kl", "embedding_cosine", "spearman", or a function of the
            outputs of all samples, `metric(outputs)` or `metric(outputs, float_outputs)`; outputs are lists of arrays, one per sample.
        dynamic_shapes: as in `torch.export.export`.
        seed: of every random choice; global generators are neither read nor set.
        threads: the artefact is measured, verified and run with.
        lock: `recipe.lock.yaml` or a folder that holds one: repeat that compile without measuring anything.
            It brings its own target, recipe, seed and threads; model, data and versions have to be the same.
        allow_slow: accept kernels that are slower than the target's first choice for an op, and layers that are
            slower than in float (`never_slower: false` in the recipe).
        allow_random_calibration: calibrate on random numbers where no data is given; stamped into the artefact.
        shapes: of an ONNX model's inputs, by name, in place of what the file says: `{"x": (1, 3, "height", "width")}`.
        checkpoint: folder in which rounding keeps the blocks it has finished; the same call continues behind them.
        progress: show stages on stderr; by default where it is a terminal.

    Raises:
        UsageError: unreadable or unfitting input. ConstraintError: a limit of the target is exceeded.
        UnsupportedError: ops without a form, or nothing to quantize. VerificationError: the artefact is wrong.
    """
    from qcompiler.compilation import Request, run_compilation
    from qcompiler.reporting import build_report

    request = Request(
        model, example_inputs, target, recipe, calibration, evaluation, metric, dynamic_shapes, seed, threads,
        lock, allow_slow, allow_random_calibration, shapes, checkpoint,
    )  # fmt: skip
    done = run_compilation(request, show=progress)
    return Compiled(
        done.graph,
        done.float_graph,
        done.target,
        done.lock,
        build_report(done),
        Path(done.folder.name),
        tuple(done.steps),
        done.folder,
    )


def load(folder: str | Path) -> Compiled:
    """An artefact that was saved: run, reference and report again.

    Raises:
        UsageError: the folder is none, or a file in it is missing or damaged.
    """
    from qcompiler.report import ReportData
    from qcompiler.targets import get_target

    path = Path(folder)
    if not (path / LOCK_NAME).is_file():
        raise UsageError(f"{path} is no artefact folder: there is no {LOCK_NAME} in it")
    lock = read_lock(path)
    graph = read_graph(path / GRAPH_NAME, path / WEIGHTS_NAME)
    kept = path / FLOAT_FOLDER
    float_graph = read_graph(kept / GRAPH_NAME, kept / WEIGHTS_NAME) if kept.is_dir() else None
    try:
        report = ReportData.from_json((path / "report.json").read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path / 'report.json'}: {error}") from error
    target = get_target(lock.target)
    if not (path / target.artefact).is_file():
        raise UsageError(f"{path} is incomplete: there is no {target.artefact} in it")
    return Compiled(graph, float_graph, target, lock, report, path)
