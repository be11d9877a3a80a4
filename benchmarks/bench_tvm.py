"""CPU kernels by TVM beside ONNX Runtime, one thread, ratios of neighbouring runs.

    python -m benchmarks.bench_tvm [--only gemm decode models ...] [--models minilm-l6 ...] [--inputs N] [--seconds S] [--json FILE]
                                   [--write docs/tvm.md]

`gemm`: int8 matrix products with fused requantize beside ONNX Runtime's QLinearMatMul (u8 x s8) and float32 MatMul.
`decode`: SmolLM2 with 4-bit weights token by token beside MatMulNBits (kept in out/bench-tvm).
`models`: integer programs (`w8a8-int`) beside the float model and beside `w8a8` in ONNX Runtime; integers that differ
from the reference over `--inputs` samples; seconds of processor time that compiling the kernels takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_integer import Case, case_of
from benchmarks.cpu_kernels.decode import RECIPES, decode_row
from benchmarks.workloads import WORKLOADS, _tokens

GEMMS = {
    "MiniLM query": (128, 384, 384),
    "MiniLM up": (128, 384, 1536),
    "MiniLM down": (128, 1536, 384),
    "SmolLM2 query": (128, 576, 576),
    "SmolLM2 up": (128, 576, 1536),
    "SmolLM2 down": (128, 1536, 576),
    "512 cubed": (512, 512, 512),
}
NETWORKS = ("resnet8", "ds_cnn", "vit_tiny_fmnist", "efficientnet-lite0", "minilm-l6")
PARTS = ("gemm", "decode", "models")
BEGIN, END = "<!-- bench-tvm -->", "<!-- end -->"


def gemm_row(name: str, seconds: float) -> dict[str, Any]:
    """One product."""
    from qcompiler.ir import DType, GraphBuilder, Level, QuantParams
    from qcompiler.targets import get_target
    from qcompiler.targets.timing import measure_pair

    m, k, n = GEMMS[name]
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 128, (n, k)).astype(np.int8)
    b = GraphBuilder("gemm", Level.INTEGER)
    x = b.input("x", DType.uint8, (m, k), QuantParams(DType.uint8, 0.02, 128))
    weight = b.const(w, quant=QuantParams(DType.int8, np.full(n, 0.01, np.float32), np.zeros(n, np.int32), 0))
    acc = b.op("linear", x, weight, b.const(np.zeros(n, np.int32)))
    multiplier, shift = b.const(rng.integers(1 << 30, (1 << 31) - 1, n)), b.const(np.full(n, 40, np.int64))
    out = b.op("requantize", acc, multiplier, shift, quant=QuantParams(DType.uint8, 0.05, 128), rounding="dyadic")
    graph = b.build([out])
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
    row["gops"] = 2 * m * k * n / row["ms"] / 1e6
    return row


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

    scales = {"xs": np.float32(0.02), "xz": np.uint8(128), "w": np.ascontiguousarray(w.T), "ws": np.full(n, 0.01, np.float32)}
    scales |= {"wz": np.zeros(n, np.int8), "ys": np.float32(0.05), "yz": np.uint8(128)}
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    rng = np.random.default_rng(1)
    real = {"w": rng.normal(size=(k, n)).astype(np.float32)}
    u8, f32 = TensorProto.UINT8, TensorProto.FLOAT
    return {
        "qlinear_matmul": (session("QLinearMatMul", names, (u8, u8), scales), {"x": codes}),
        "float32": (session("MatMul", ["x", "w"], (f32, f32), real), {"x": rng.normal(size=(m, k)).astype(np.float32)}),
    }


def model_case(name: str, inputs: int) -> Case:
    """A model with fixed shapes: MiniLM with sentences padded to the full length."""
    case = case_of(name, inputs)
    if name != "minilm-l6":
        return case
    samples = _tokens("calibration", 64, seed=0, pad=True)
    return replace(case, shapes=None, calibration=[tuple(s[k] for k in WORKLOADS[name].inputs) for s in samples])


def model_row(name: str, inputs: int, calibration: int, seconds: float) -> dict[str, Any]:
    """One network."""
    import qcompiler as qc
    from qcompiler import metrics
    from qcompiler.boundary import dequantize_outputs, quantize_inputs
    from qcompiler.executors.reference import run_reference
    from qcompiler.targets import get_target
    from qcompiler.targets.timing import measure_pair

    case = model_case(name, inputs)
    module, example = case.load()
    data = case.calibration[:calibration]
    given = {"calibration": data, "evaluation": case.evaluation[:1], "dynamic_shapes": None}
    recipe = {"base": "w8a8-int", "name": "w8a8-int", "never_slower": False}
    compiled = qc.compile(module, example, target="tvm-cpu", recipe=recipe, **given)
    other = qc.compile(module, example, target="onnxruntime-cpu", recipe="w8a8", allow_slow=True, **given)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        kernels = compiled.target.emit(compiled.graph, Path(folder)).kernels
        spent = time.process_time() - started
        session = compiled.target.open(Path(folder))
        floats = get_target("onnxruntime-cpu").open_float(compiled.float_graph)
        codes = quantize_inputs(compiled.graph, case.evaluation[0])
        tensors = [session.tensor(a) for a in codes]
        other.save(Path(folder) / "peer")
        peer, taken = other.target.open(Path(folder) / "peer", 1), quantize_inputs(other.graph, case.evaluation[0])
        found = measure_pair(lambda: session.call(tensors), lambda: floats.run(case.evaluation[0]), seconds)
        rival = measure_pair(lambda: session.call(tensors), lambda: peer.run(taken), seconds)
        differing, real, mine = 0, [], []
        for sample in case.evaluation[:inputs]:
            codes = quantize_inputs(compiled.graph, sample)
            got, wanted = session.run(codes), run_reference(compiled.graph, codes)
            differing += sum(int((a != b).sum()) for a, b in zip(got, wanted, strict=True))
            real.append(np.asarray(floats.run(sample)[0]))
            mine.append(dequantize_outputs(compiled.graph, got)[0])
    return {
        "name": name, "ms": found.latency_ms, "float32_ms": found.baseline_ms, "ratio_float32": found.ratio,
        "ort_int8_ms": rival.baseline_ms, "ratio_ort_int8": rival.ratio, "spread": found.spread,
        "sqnr_db": metrics.sqnr(np.concatenate(real), np.concatenate(mine)), "differing": differing,
        "inputs": len(real), "compile_cpu_s": spent, "kernels": len({k.kernel for k in kernels}),
    }  # fmt: skip


def markdown(result: dict[str, Any]) -> str:
    """Both tables."""
    lines = [f"{result['cpu']}, {result['isa']}, one thread.", ""]
    if result["gemm"]:
        lines += ["| product | M x K x N | us | GOPS | speed / ORT QLinearMatMul | speed / ORT float32 |", "|---|---|---|---|---|---|"]
        for r in result["gemm"]:
            lines.append(
                f"| {r['name']} | {r['m']} x {r['k']} x {r['n']} | {r['ms'] * 1e3:.0f} | {r['gops']:.0f} |"
                f" {r['speed_over_qlinear_matmul']:.2f} | {r['speed_over_float32']:.2f} |"
            )
        speeds = [r["speed_over_qlinear_matmul"] for r in result["gemm"]]
        lines += ["", f"Geometric mean of the speed over QLinearMatMul: {float(np.exp(np.mean(np.log(speeds)))):.2f}.", ""]
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
            lines.append(
                f"| {r['name']} | {r['ms']:.3f} | {r['ratio_float32']:.2f} | {r['ratio_ort_int8']:.2f} | {r['sqnr_db']:.1f} |"
                f" {r['differing']} ({r['inputs']}) | {r['compile_cpu_s']:.0f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    from qcompiler.targets.tvm.database import fingerprint
    from qcompiler.targets.tvm.machine import host_machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tokens", type=int, default=64, help="generated by `decode`")
    parser.add_argument("--models", nargs="*", default=NETWORKS)
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--layers", type=int, help="of the model that `decode` runs, the first ones; default: all")
    parser.add_argument("--calibration", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help="page whose marked part is replaced by the tables")
    options = parser.parse_args(arguments)
    device = fingerprint(host_machine())
    result: dict[str, Any] = {"cpu": f"{device['processor']} ({device['cpu']})", "isa": device["isa"], "gemm": [], "decode": [], "models": []}
    if "gemm" in options.only:
        for name in GEMMS:
            result["gemm"].append(gemm_row(name, options.seconds))
            print(name, {k: round(v, 3) for k, v in result["gemm"][-1].items() if isinstance(v, float)}, file=sys.stderr)
    if "decode" in options.only:
        for name in RECIPES:
            result["decode"].append(decode_row(name, Path("out/bench-tvm"), options.tokens, options.layers))
            print(result["decode"][-1], file=sys.stderr)
    if "models" in options.only:
        for name in options.models:
            result["models"].append(model_row(name, options.inputs, options.calibration, options.seconds))
            print(result["models"][-1], file=sys.stderr)
    text = markdown(result)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return int(any(r["differing"] for r in result["models"]))


if __name__ == "__main__":
    sys.exit(main())
