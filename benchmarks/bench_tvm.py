"""CPU kernels by TVM beside ONNX Runtime, one thread, ratios of neighbouring runs.

    python -m benchmarks.bench_tvm [--only gemm decode models ...] [--models minilm-l6 ...] [--inputs N] [--seconds S] [--json FILE]
                                   [--write docs/tvm.md]

Rows are kept in `--json`; the tables show those of earlier runs too. `--write` replaces the part of the page that is of this
machine's instruction set, or adds it behind the others.

`gemm`: int8 matrix products with fused requantize beside ONNX Runtime's QLinearMatMul (u8 x s8) and float32 MatMul;
weights of the whole range and, where the instruction set has forms for them, of ranges where sums of 2, 4 or 8 products
fit 16 bits.
`decode`: SmolLM2 with 4-bit weights token by token beside MatMulNBits (kept in out/bench-tvm).
`models`: integer programs (`w8a8-int`) beside the float model and beside `w8a8` in ONNX Runtime; integers that differ
from the reference over `--inputs` samples; seconds of processor time that compiling the kernels takes. Artefacts and
counts are kept in out/bench-tvm, so that the same command goes on; `--seconds 0` counts without timing.
`tuning`: XGBoost beside random proposals, 64 trials, 10 seeds, replayed over tables of measured tiles.
`defaults`: the tile of the rule beside the best of the same tables (`benchmarks/cpu_kernels/tiles.py` makes them, for
each instruction set on a machine that has it).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cpu_kernels.decode import RECIPES, decode_row
from benchmarks.cpu_kernels.models import NETWORKS, model_row
from benchmarks.cpu_kernels.products import PEAKS, SUMS, distinct, linear
from benchmarks.cpu_kernels.tiles import NONE, SEEDS, TRIALS, default_row, read_table, tables, tuning_row
from qcompiler.kernels.cpu.isa import Isa

GEMMS = {
    "MiniLM query": (128, 384, 384),
    "MiniLM up": (128, 384, 1536),
    "MiniLM down": (128, 1536, 384),
    "SmolLM2 query": (128, 576, 576),
    "SmolLM2 up": (128, 576, 1536),
    "SmolLM2 down": (128, 1536, 576),
    "512 cubed": (512, 512, 512),
}
X_SCALE, W_SCALE, Y_SCALE = 0.02, 0.01, 0.7
"""Of the peer's product: results fill their type and seldom leave it."""
PARTS = ("gemm", "decode", "models", "tuning", "defaults")
BEGIN, END = "<!-- bench-tvm {isa} -->", "<!-- end -->"


def gemm_row(name: str, seconds: float) -> dict[str, Any]:
    """One product."""
    from qcompiler.targets import get_target
    from qcompiler.targets.timing import measure_pair

    product, _, summed = name.partition(SUMS)
    m, k, n = GEMMS[product]
    graph = linear(m, k, n, PEAKS[summed])
    w, rng = graph.nodes[0].inputs[1].data, np.random.default_rng(1)
    target = get_target("tvm-cpu")
    with tempfile.TemporaryDirectory() as folder:
        chosen = target.emit(graph, Path(folder))
        session = target.open(Path(folder))
        codes = rng.integers(0, 256, (m, k)).astype(np.uint8)
        tensors = [session.tensor(codes)]
        row: dict[str, Any] = {"name": name, "m": m, "k": k, "n": n, "kernel": chosen.kernels[0].kernel, "tile": chosen.kernels[0].why}
        for peer, (run, feed) in _peers(m, k, n, w, codes).items():
            found = measure_pair(lambda: session.call(tensors), lambda run=run, feed=feed: run.run(None, feed), seconds)
            row |= {"ms": found.latency_ms, f"{peer}_ms": found.baseline_ms, f"speed_over_{peer}": 1 / found.ratio, "noisy": found.noisy}
            if peer == "qlinear_matmul":
                row["peer_wrong"] = _far_from_exact(run.run(None, feed)[0], codes, w)
    row["gops"] = 2 * m * k * n / row["ms"] / 1e6
    return row


def _far_from_exact(found: np.ndarray, codes: np.ndarray, w: np.ndarray) -> float:
    """Share of QLinearMatMul's results that are further than a rounding (1) from the exact ones."""
    sums = (codes.astype(np.float64) - 128) @ w.T.astype(np.float64)  # whole numbers below 2^53
    exact = np.clip(np.rint(sums * (X_SCALE * W_SCALE / Y_SCALE)) + 128, 0, 255)
    return float((np.abs(found - exact) > 1).mean())


def _peers(m: int, k: int, n: int, w: np.ndarray, codes: np.ndarray) -> dict[str, tuple[Any, dict[str, np.ndarray]]]:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    def session(op: str, inputs: list[str], kinds: tuple[int, int], constants: dict[str, np.ndarray]) -> Any:
        held = [numpy_helper.from_array(a, name) for name, a in constants.items()]
        graph = helper.make_graph(
            [helper.make_node(op, inputs, ["y"])], "g", [helper.make_tensor_value_info("x", kinds[0], (m, k))],
            [helper.make_tensor_value_info("y", kinds[1], (m, n))], held,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    scales = {"xs": np.float32(X_SCALE), "xz": np.uint8(128), "w": np.ascontiguousarray(w.T)}
    scales |= {"ws": np.full(n, W_SCALE, np.float32), "wz": np.zeros(n, np.int8), "ys": np.float32(Y_SCALE), "yz": np.uint8(128)}
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    rng = np.random.default_rng(1)
    real = {"w": rng.normal(size=(k, n)).astype(np.float32)}
    u8, f32 = TensorProto.UINT8, TensorProto.FLOAT
    return {
        "qlinear_matmul": (session("QLinearMatMul", names, (u8, u8), scales), {"x": codes}),
        "float32": (session("MatMul", ["x", "w"], (f32, f32), real), {"x": rng.normal(size=(m, k)).astype(np.float32)}),
    }


def markdown(result: dict[str, Any]) -> str:
    """The tables of one machine."""
    lines = [f"{result['cpu']}, {result['isa']}, one thread.", ""]
    if result["gemm"]:
        lines += ["| product | M x K x N | us | GOPS | speed / ORT QLinearMatMul | speed / ORT float32 | ORT's results off by more than 1 |", "|---|---|---|---|---|---|---|"]
        for r in result["gemm"]:
            lines.append(
                f"| {r['name']} | {r['m']} x {r['k']} x {r['n']} | {r['ms'] * 1e3:.0f} | {r['gops']:.0f} |"
                f" {r['speed_over_qlinear_matmul']:.2f} | {r['speed_over_float32']:.2f} | {r['peer_wrong']:.1%} |"
            )
        lines += ["", f"Geometric mean of the speed over QLinearMatMul: {'; '.join(_means(result['gemm']))}.", ""]
    if result["decode"]:
        lines += [
            "| SmolLM2-135M decoding | tokens/s | ORT MatMulNBits, tokens/s | speed / ORT | MB per token | memory, GB/s | share (best token) | same tokens |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for r in result["decode"]:
            lines.append(
                f"| {r['name']} | {r['tokens_per_second']:.1f} | {r['ort_tokens_per_second']:.1f} | {r['speed_over_ort']:.2f} |"
                f" {r['megabytes_per_token']:.0f} | {r['memory_gb_s']:.1f} | {r['share_of_memory']:.0%} ({r['best_share_of_memory']:.0%}) |"
                f" {r['same_tokens']:.0%} |"
            )
        lines.append("")
    if result["models"]:
        lines += [
            "| model, `w8a8-int` | ms | time / ORT float32 | time / ORT `w8a8` | SQNR dB | differing integers (inputs) | kernels compiled in, CPU s |",
            "|---|---|---|---|---|---|---|",
        ]
        for r in result["models"]:
            timed = f"{r['ms']:.3f} | {r['ratio_float32']:.2f} | {r['ratio_ort_int8']:.2f}" if "ms" in r else "| |"
            lines.append(
                f"| {r['name']} | {timed} | {r['sqnr_db']:.1f} | {r['differing']} ({r['inputs']}) | {r['compile_cpu_s']:.0f} |"
            )
        lines.append("")
    lines += _tuning_lines(result["tuning"]) if result["tuning"] else []
    lines += _default_lines(result["defaults"]) if result["defaults"] else []
    return "\n".join(lines)


def _means(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    for mark in PEAKS:
        found = [r["speed_over_qlinear_matmul"] for r in rows if r["name"].partition(SUMS)[2] == mark]
        if found:
            weights = f"weights for sums of {mark}" if mark else "any weights"
            yield f"{float(np.exp(np.mean(np.log(found)))):.2f} ({weights}, least {min(found):.2f})"


def _tuning_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        f"| product | tiles | best, us | XGBoost, {TRIALS} trials / best | random / best | XGBoost / random, mean of {SEEDS} seeds (95 %) |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['name']} | {r['tiles']} | {r['best_us']:.1f} | {r['xgboost']:.3f} | {r['random']:.3f} |"
            f" {r['ratio']:.3f} ({r['low']:.3f} to {r['high']:.3f}) |"
        )
    return [*lines, ""]


def _default_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| product | | rule's tile | us | best tile | us | rule / best |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        held = "held out" if r["held_out"] else "fitted"
        lines.append(f"| {r['name']} | {held} | {r['tile']} | {r['us']:.1f} | {r['best']} | {r['best_us']:.1f} | {r['ratio']:.2f} |")
    ratios = [r["ratio"] for r in rows if r["held_out"]] or [float("nan")]
    mean = float(np.exp(np.mean(np.log(ratios))))
    return [*lines, "", f"Held out: geometric mean {mean:.2f}, worst {max(ratios):.2f}.", ""]


def with_part(page: str, isa: str, text: str) -> str:
    """A page whose part of an instruction set is replaced by a text; where it has none, one is added behind the last part.

    Raises:
        ValueError: no part is marked, or the one to replace has no end.
    """
    begin = BEGIN.format(isa=isa)
    part = f"{begin}\n{text}\n{END}"
    before, found, rest = page.partition(begin)
    if not found:
        before, found, rest = page.rpartition(END)
        before, part, rest = before + found, f"\n\n{part}", END + rest
    _, end, behind = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the page has no part between the lines {begin} and {END}: put both where the figures belong")
    return before + part + behind


def _jobs(options: argparse.Namespace, isa: Isa) -> Iterator[tuple[str, str, Callable[[], dict[str, Any]]]]:
    """(part, row, what measures it) of everything that was asked for."""
    folder = Path("out/bench-tvm")
    gemms = distinct((f"{name}{SUMS}{n}" if n else name for n in PEAKS for name in GEMMS), isa)
    networks = distinct(NETWORKS, isa) if options.models is None else options.models
    made = tables(isa) if {"tuning", "defaults"} & {*options.only} else []
    searched = [name for name in made if len(read_table(name, isa)) > TRIALS]  # all tiles of the others are tried
    names = {"gemm": gemms, "decode": options.decoders, "models": networks, "defaults": made, "tuning": searched}
    rows: dict[str, Callable[[str], dict[str, Any]]] = {
        "gemm": lambda name: gemm_row(name, options.seconds),
        "decode": lambda name: decode_row(name, folder, options.tokens, options.layers),
        "models": lambda name: model_row(name, options.inputs, options.calibration, options.seconds, folder / "models"),
        "tuning": lambda name: tuning_row(name, isa),
        "defaults": lambda name: default_row(name, isa),
    }
    if {"tuning", "defaults"} & {*options.only} and not made:
        print(NONE.format(isa=isa.name), file=sys.stderr)
    for part in options.only:
        for name in names[part]:
            yield part, name, partial(rows[part], name)


def _kept(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Rows of earlier runs on this machine, none yet."""
    held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {**head, **{part: held.get(part, []) if held.get("cpu") == head["cpu"] else [] for part in PARTS}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    from qcompiler.targets.tvm.database import fingerprint
    from qcompiler.targets.tvm.machine import host_machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tokens", type=int, default=64, help="generated by `decode`")
    parser.add_argument("--models", nargs="*", help="default: those that differ on this machine")
    parser.add_argument("--decoders", nargs="*", choices=list(RECIPES), default=list(RECIPES), help="recipes of `decode`")
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--layers", type=int, help="of the model that `decode` runs, the first ones; default: all")
    parser.add_argument("--calibration", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=Path, default=Path("out/bench-tvm/rows.json"), help="rows of this and earlier runs")
    parser.add_argument("--write", type=Path, help="page whose part of this instruction set is replaced by the tables")
    options = parser.parse_args(arguments)
    machine = host_machine()
    device = fingerprint(machine)
    head = {"cpu": f"{device['processor']} ({device['cpu']})", "isa": device["isa"]}
    result = _kept(options.json, head)
    for part, name, measure in _jobs(options, machine.isa):
        row = measure()
        result[part] = [r for r in result[part] if r["name"] != row["name"]] + [row]
        print(part, name, {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, file=sys.stderr, flush=True)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    text = markdown(result)
    print(text)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(with_part(page, device["isa"], text), encoding="utf-8")
    return int(any(r["differing"] for r in result["models"]))


if __name__ == "__main__":
    sys.exit(main())
