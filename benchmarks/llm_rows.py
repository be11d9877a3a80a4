"""The rows of bench_llm: float, our recipes, and peers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.llm_peers import ITERATIONS, PIECE
from benchmarks.smollm2 import WINDOW, calibration_windows, evaluation_windows, load_model, model_directory

PROMPT, DECODED = 64, 128
"""Tokens read, and tokens generated, by the row of decoding speed."""

CHECKED = 48
"""Tokens of the one short window that a compile verifies the artefact on; perplexity is taken on whole windows."""


def perplexity(logits_of: Callable[[np.ndarray], np.ndarray], windows: Sequence[np.ndarray] | None = None) -> float:
    """exp of the mean over windows of the mean negative log likelihood of each next token, natural logarithm."""
    losses = []
    for window in evaluation_windows() if windows is None else windows:
        logits = np.asarray(logits_of(window), np.float32)[0, :-1]
        top = logits.max(-1, keepdims=True)
        norm = np.log(np.exp(logits - top).sum(-1)) + top[:, 0]
        losses.append(float((norm - logits[np.arange(len(logits)), window[0, 1:]]).mean()))
    return float(np.exp(np.mean(losses)))


def logits_module(model: Any = None) -> Any:
    """A model, SmolLM2 by default, as a function of token ids alone, without a cache."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model, self.lm_head = model.model, model.lm_head

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.lm_head(self.model(input_ids=input_ids, use_cache=False).last_hidden_state)

    return Logits(load_model() if model is None else model).eval()


def compiled(recipe: Any, folder: Path) -> Any:
    """SmolLM2 compiled for ONNX Runtime, dynamic sequence length."""
    import torch

    import qcompiler

    window = evaluation_windows(1)[0]
    return qcompiler.compile(
        logits_module(), (torch.zeros(1, 16, dtype=torch.long),), recipe=recipe,
        calibration=[(w,) for w in calibration_windows()], evaluation=[(window[:, :CHECKED],)],
        dynamic_shapes={"input_ids": {1: torch.export.Dim("seq", min=2, max=WINDOW)}},
        checkpoint=folder / "checkpoint",
    )  # fmt: skip


def our_row(title: str, recipe: Any) -> Callable[[Path], dict[str, Any]]:
    """A recipe of ours, perplexity through the artefact, which stays in the folder of the row."""

    def row(folder: Path) -> dict[str, Any]:
        import qcompiler

        artefact, times = folder / "artefact", folder / "times.json"
        if not times.is_file():
            cpu = time.process_time()
            model = compiled(recipe, folder)
            found: dict[str, Any] = {"compile_cpu_seconds": time.process_time() - cpu}
            rounding = [s for s in model.steps if s.name == "round_gptq" and s.notes]
            found |= {"seconds": rounding[0].seconds} if rounding else {}
            model.save(artefact, force=True)
            times.write_text(json.dumps(found))
        model = qcompiler.load(artefact)
        return {
            "title": title,
            "executor": "ONNX Runtime, the artefact",
            "megabytes": sum(f.stat().st_size for f in artefact.iterdir() if f.name.startswith("model.onnx")) / 1e6,
            "perplexity": perplexity(lambda ids: model.run(ids)[0]),
            **json.loads(times.read_text()),
        }

    return row


def decode_row(title: str, base: str, **changes: Any) -> Callable[[Path], dict[str, Any]]:
    """Greedy decoding through ONNX Runtime, one thread, three models in turns, token by token.

    4-bit weights, the float model as any exporter writes it, and that with the attention kernels of the artefact.
    """
    return lambda folder: _decode(folder, title, base, changes)


def _decode(folder: Path, title: str, base: str, changes: dict[str, Any]) -> dict[str, Any]:
    from qcompiler.generation import generate
    from qcompiler.targets.onnx.runtime import OnnxSession

    files = [folder / name for name in ("model.onnx", "float.onnx", "fused.onnx")]
    if not files[-1].is_file():
        _write_decoders(files, base, changes)
    shape = json.loads((folder / "state_shape.json").read_text())
    sessions = [OnnxSession(file) for file in files]
    prompt = evaluation_windows(1)[0][0, :PROMPT].tolist()
    rounds = list(zip(*(generate(_step(s), prompt, shape, DECODED) for s in sessions), strict=True))[1:]
    mine, exported, kernels = (np.array([r[i].seconds for r in rounds]) for i in range(3))
    return {
        "title": title,
        "executor": "ONNX Runtime, 1 thread",
        "megabytes": files[0].stat().st_size / 1e6,
        "tokens_per_second": 1 / float(np.median(mine)),
        "float_tokens_per_second": 1 / float(np.median(exported)),
        "ratio_to_float": float(np.median(exported / mine)),
        "ratio_to_fused_float": float(np.median(kernels / mine)),
    }


def _write_decoders(files: Sequence[Path], base: str, changes: dict[str, Any]) -> None:
    """The compiled decoder, the float one as exporters write it, and that with the artefact's kernels."""
    import qcompiler
    from qcompiler.frontend.decoder import CachedDecoder
    from qcompiler.targets.onnx.emit import emit_model, save_model

    decoder = CachedDecoder(load_model())
    (files[0].parent / "state_shape.json").write_text(json.dumps(decoder.state_shape))
    inputs, shapes = decoder.example()
    head = {"match": "lm_head", "scheme": "dynamic", "granularity": "group", "weight_bits": 8, "activation_bits": 8}
    recipe = _recipe(base, rounding="nearest", keep_head=False, rules=[head], **changes)
    model = qcompiler.compile(decoder, inputs, recipe=recipe, dynamic_shapes=shapes)
    shutil.copyfile(model.folder / "model.onnx", files[0])
    for file, style in zip(files[1:], (model.target.baseline_style, model.target.style), strict=True):
        save_model(emit_model(model.float_graph, style).proto, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").rename(file)


def _step(session: Any) -> Callable[[np.ndarray, np.ndarray], Any]:
    return lambda ids, past: session.run([ids, past])


def float_row(folder: Path) -> dict[str, Any]:
    """The float model in torch."""
    import torch

    module = logits_module()
    with torch.no_grad():
        value = perplexity(lambda ids: module(torch.from_numpy(ids)).numpy())
    return {"title": "float", "executor": "torch", "perplexity": value, "megabytes": (model_directory() / "model.safetensors").stat().st_size / 1e6}


def peer_row(title: str, peer: str) -> Callable[[Path], dict[str, Any]]:
    """A peer's weights in the float model. QC_PEER_PYTHON names the interpreter that has the peer, if not this one."""

    def row(folder: Path) -> dict[str, Any]:
        import torch
        from safetensors.torch import load_file

        if not (folder / "result.json").is_file():
            np.save(folder / "tokens.npy", np.concatenate(calibration_windows()))
            command = [os.environ.get("QC_PEER_PYTHON", sys.executable), "-m", "benchmarks.llm_peers", peer]
            subprocess.run([str(c) for c in (*command, model_directory(), folder / "tokens.npy", folder)], check=True)
        module = logits_module()
        weights: dict[str, Any] = load_file(folder / "model.safetensors")
        state = module.state_dict()
        with torch.no_grad():
            for name, weight in weights.items():
                state[name].copy_(weight)
            value = perplexity(lambda ids: module(torch.from_numpy(ids)).numpy())
        times = json.loads((folder / "result.json").read_text())
        return {"title": title, "executor": "torch, dequantized weights", "perplexity": value, **times}

    return row


def race_row(folder: Path) -> dict[str, Any]:
    """Time of GPTQ, ours and llm-compressor's, one after the other: one thread, the same tokens; QC_BLOCKS as in `llm_peers`.

    From the model in memory to its rounded weights, each in a process of its own; a run that was cut off continues with
    the second.
    """
    tokens = folder / "tokens.npy"
    np.save(tokens, np.concatenate(calibration_windows()))
    peer = [os.environ.get("QC_PEER_PYTHON", sys.executable), "-m", "benchmarks.llm_peers", "gptq"]
    theirs = _timed([*peer, model_directory(), tokens, folder / "peer"], folder / "peer")
    ours = _timed([sys.executable, "-m", "benchmarks.llm_race", tokens, folder / "ours"], folder / "ours")
    figures = {f"peer_{name}": value for name, value in theirs.items()} | ours
    title = (
        f"our GPTQ, {os.environ.get('QC_BLOCKS', 'all')} blocks, 1 thread (llm-compressor: {theirs['seconds']:.0f} s,"
        f" {theirs['cpu_seconds']:.0f} s of CPU)"
    )
    return {"title": title, "executor": "torch", **figures}


def _timed(command: Sequence[Any], out: Path) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if not (out / "result.json").is_file():
        subprocess.run([str(c) for c in command], check=True, env=environment)
    found: dict[str, float] = json.loads((out / "result.json").read_text())
    return found


def _recipe(base: str, **changes: Any) -> dict[str, Any]:
    return {"base": base, **changes}


W8 = {"keep_head": True, "round_embeddings": False, "bias_correction": False, "never_slower": False, "activation_range": {"method": "minmax"}}
"""Of the rows with 8-bit weights: embedding and vocabulary layer in float, nothing put back to float for speed."""

ROWS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "float": float_row,
    "w4a16-rtn": our_row("W4A16 group 64, rounded to nearest (signed scale, MSE clip)", _recipe("w4a16", rounding="nearest")),
    "w4a16": our_row("W4A16 group 64 (`w4a16`)", "w4a16"),
    "w4a8": our_row("W4A8 group 64 (`w4a8`)", "w4a8"),
    "w4a8-progressive": our_row(
        "W4A8 group 64 that expands to int8, ranges per token", _recipe("w4a8", progressive=True, granularity="token")
    ),
    "w3a16": our_row("W3A16 group 64, zero points (`w3a16`)", "w3a16"),
    "w8a8-min-max": our_row("W8A8 static, min-max ranges, no transforms", _recipe("w8a8", **W8, smooth=False)),
    "w8a8": our_row("W8A8 static (`w8a8`)", _recipe("w8a8", **W8)),
    "w8a8-token": our_row(
        "W8A8, ranges per token at run time, smoothed", _recipe("w8a8-dynamic", **W8, granularity="token", smooth=True)
    ),
    "w8a8-mixed": our_row("W8A8, static, per token or weight-only by site (`w8a8-mixed`)", _recipe("w8a8-mixed", **W8)),
    "decode-real": decode_row("decoding, W4A16 group 64, vocabulary layer in 8 bits (W8A8)", "w4a16"),
    "decode": decode_row(
        "decoding, the same with `activation_bits: 16`", "w4a16", scheme="dynamic", granularity="group", activation_bits=16
    ),
    "decode-w4a8": decode_row("decoding, W4A8 group 64, vocabulary layer in 8 bits (W8A8)", "w4a8"),
    "gptq-time": race_row,
    "llm-compressor-gptq": peer_row("llm-compressor GPTQ, W4A16 group 64", "gptq"),
    "auto-round": peer_row(f"AutoRound, {ITERATIONS} iterations, {PIECE} blocks at a time, W4A16 group 64", "autoround"),
}
