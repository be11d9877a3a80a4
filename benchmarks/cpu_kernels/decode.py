"""Decoding of SmolLM2 with 4-bit weights: tokens per second beside ONNX Runtime's MatMulNBits, one thread, in turns.

Both run the same program (recipe `w4a16` rounded to nearest, vocabulary layer in 8 bits) from the same prompt, in turns
of `TURN` tokens: a decoder's step mostly follows its own last one, not another program's. Bytes per token are the constants that a step reads and its cache; the share is of what one thread reads from
memory in the same run.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.generation import Token

RECIPES: dict[str, dict[str, Any]] = {
    "w4a16": {},
    "w4a16, activation_bits 16": {"scheme": "dynamic", "granularity": "group", "activation_bits": 16},
    "w4a8": {"base": "w4a8"},
    "w8a8-dynamic": {"base": "w8a8-dynamic"},
}
PROMPT = 64
TURN = 8
READ_BYTES = 1 << 28
HEAD = {"match": "lm_head", "scheme": "dynamic", "granularity": "group", "weight_bits": 8, "activation_bits": 8}


def compile_decoder(name: str, target: str, folder: Path, layers: int | None = None) -> Path:
    """The artefact of the decoder, of all its layers or the first ones, kept in `folder`."""
    import qcompiler
    from benchmarks.smollm2 import load_model
    from qcompiler.frontend.decoder import CachedDecoder

    if (folder / "recipe.lock.yaml").is_file():
        return folder
    model = load_model()
    if layers is not None:
        model.model.layers, model.config.num_hidden_layers = model.model.layers[:layers], layers
    decoder = CachedDecoder(model)
    inputs, shapes = decoder.example()
    recipe = {"base": "w4a16", "rounding": "nearest", "keep_head": False, "rules": [HEAD], **RECIPES[name]}
    compiled = qcompiler.compile(decoder, inputs, target=target, recipe=recipe, dynamic_shapes=shapes)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    compiled.save(folder)
    (folder / "state_shape.json").write_text(json.dumps(decoder.state_shape))
    return folder


def decode_row(name: str, work: Path, tokens: int, layers: int | None = None) -> dict[str, Any]:
    """Figures of one recipe."""
    import qcompiler
    from benchmarks.smollm2 import evaluation_windows
    from qcompiler.generation import generate

    key = name.replace(", ", "-").replace(" ", "-") + ("" if layers is None else f"-{layers}-layers")
    mine, peer = (
        qcompiler.load(compile_decoder(name, target, work / f"{key}-{target}", layers)) for target in ("tvm-cpu", "onnxruntime-cpu")
    )
    shape = json.loads((mine.folder / "state_shape.json").read_text())
    sessions = [c.target.open(c.folder, 1) for c in (mine, peer)]
    prompt = evaluation_windows(1)[0][0, :PROMPT].tolist()
    runs = [generate(_step(s), prompt, shape, tokens) for s in sessions]
    rounds = _in_turns(runs)
    prompts, rounds = rounds[0], rounds[1:]
    ours, theirs = (np.array([r[i].seconds for r in rounds]) for i in range(2))
    agreed = float(np.mean([r[0].id == r[1].id for r in rounds]))
    read = bytes_per_token(mine) + 4 * int(np.prod(shape)) * (PROMPT + tokens // 2)
    rate = memory_rate()
    seconds = float(np.median(ours))
    return {
        "name": name if layers is None else f"{name}, first {layers} layers", "tokens_per_second": 1 / seconds, "ort_tokens_per_second": 1 / float(np.median(theirs)),
        "speed_over_ort": float(np.median(theirs / ours)), "megabytes_per_token": read / 1e6, "memory_gb_s": rate / 1e9,
        "share_of_memory": read / seconds / rate, "best_share_of_memory": read / float(ours.min()) / rate, "same_tokens": agreed,
        "prompt_ms": prompts[0].seconds * 1e3, "ort_prompt_ms": prompts[1].seconds * 1e3,
    }  # fmt: skip


def _in_turns(runs: Sequence[Iterator[Token]]) -> list[tuple[Token, ...]]:
    """Tokens of all runs, side by side."""
    found: list[list[Token]] = [[] for _ in runs]
    while len(found[0]) % TURN == 0:
        before = len(found[0])
        for tokens, run in zip(found, runs, strict=True):
            tokens += islice(run, TURN)
        if len(found[0]) == before:
            break
    return list(zip(*found, strict=True))


def _step(session: Any) -> Callable[[np.ndarray, np.ndarray], Any]:
    return lambda ids, past: session.run([ids, past])


def bytes_per_token(compiled: Any) -> int:
    """Constants that one step reads: all but tables of which it takes a row."""
    from safetensors import safe_open

    from qcompiler.targets.tvm.emit import CONSTANTS

    tables = {tuple(n.inputs[0].shape) for n in compiled.graph.nodes if n.op == "gather" and n.inputs[0].data is not None}
    total = 0
    with safe_open(compiled.folder / CONSTANTS, framework="np") as held:
        for key in held.keys():
            array = held.get_tensor(key)
            total += 0 if array.shape in tables else array.nbytes
    return total


def memory_rate(repeats: int = 20) -> float:
    """Bytes per second that one thread reads from a block that no cache holds: BLAS's dot product, best of several runs."""
    x, y = np.ones((2, READ_BYTES // 8), np.float32)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        np.dot(x, y)
        best = min(best, time.perf_counter() - started)
    return READ_BYTES / best
