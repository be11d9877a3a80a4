"""What peers make of a causal language model: W4, groups of 64, symmetric, on the same calibration tokens.

    python -m benchmarks.llm_peers gptq|autoround MODEL_FOLDER TOKENS.npy OUT_FOLDER

Runs in an environment that has the peer; imports nothing else of this repository. TOKENS are int64 [windows, length].
The weights that the peer's codes stand for are written to OUT/model.safetensors, in float32 under the model's own
names, and OUT/result.json says how long it took. QC_BLOCKS limits the model to its first blocks.

AutoRound takes long on a CPU, so it goes PIECE blocks at a time: each piece begins with the weights of those before it,
is kept in OUT as it is finished, and a second run continues behind it. Within a piece AutoRound aims at what the float
blocks make of the float input; at the border of two pieces, of the input it has.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BITS, GROUP = 4, 64
ITERATIONS, BATCH, PIECE = 50, 1, 5
"""Of AutoRound, and blocks rounded by one call. Its own defaults are 200 iterations of a batch of 8, which take hours on
one core of a CPU."""


def gptq(model: Any, tokens: np.ndarray, out: Path) -> Any:
    """GPTQ of llm-compressor, its own defaults but for the grid: symmetric, groups of 64, MSE observer as it is set."""
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier

    weights = {"num_bits": BITS, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP}
    modifier = GPTQModifier(config_groups={"group_0": {"targets": ["Linear"], "weights": weights}}, ignore=["lm_head"])
    rows = [{"input_ids": row.tolist(), "attention_mask": [1] * len(row)} for row in tokens]
    oneshot(
        model=model, dataset=Dataset.from_list(rows), recipe=modifier,
        max_seq_length=tokens.shape[1], num_calibration_samples=len(tokens),
    )  # fmt: skip
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize

    with torch.no_grad():
        for module in model.modules():
            scheme = getattr(module, "quantization_scheme", None)
            if scheme is not None and scheme.weights is not None:
                zero = getattr(module, "weight_zero_point", None)
                module.weight.copy_(fake_quantize(module.weight, module.weight_scale, zero, scheme.weights))
    return model


def autoround(model: Any, tokens: np.ndarray, out: Path) -> Any:
    """AutoRound, its own defaults but for the grid, iterations and batch, a few blocks at a time."""
    import torch
    from auto_round import AutoRound
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)
    count = model.config.num_hidden_layers
    for start in range(0, count, PIECE):
        names = [f"model.layers.{i}" for i in range(start, min(start + PIECE, count))]
        file = out / f"blocks-{start}-of-{ITERATIONS}-iterations.safetensors"
        if not file.is_file():
            batches = [{"input_ids": torch.from_numpy(row)[None]} for row in tokens]
            rounder = AutoRound(
                copy.deepcopy(model), tokenizer, bits=BITS, group_size=GROUP, sym=True, iters=ITERATIONS,
                seqlen=tokens.shape[1], nsamples=len(tokens), dataset=batches, batch_size=BATCH, device_map="cpu",
                amp=False, to_quant_block_names=[names],
            )  # fmt: skip
            quantized, _ = rounder.quantize()
            save_file(linear_weights(quantized, names), file.with_suffix(".tmp"))
            file.with_suffix(".tmp").rename(file)
        state = model.state_dict()
        with torch.no_grad():
            for name, weight in load_file(file).items():
                state[name].copy_(weight)
    return model


def linear_weights(model: Any, under: Sequence[str] = ("model.layers",)) -> dict[str, Any]:
    """Weights of the linear layers below some modules, float32, by name."""
    import torch

    return {
        f"{name}.weight": module.weight.detach().to(torch.float32).contiguous().clone()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and any(name.startswith(f"{u}.") for u in under)
    }


PEERS: dict[str, Callable[[Any, np.ndarray, Path], Any]] = {"gptq": gptq, "autoround": autoround}


def first_blocks(model: Any) -> Any:
    """The model; with QC_BLOCKS, without the blocks behind so many."""
    count = int(os.environ.get("QC_BLOCKS", "0"))
    if count:
        del model.model.layers[count:]
        model.config.num_hidden_layers = count
    return model


def main(peer: str, model_folder: str, tokens_file: str, out_folder: str) -> None:
    """Quantize and write the weights."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    tokens, out = np.load(tokens_file), Path(out_folder)
    out.mkdir(parents=True, exist_ok=True)
    model = first_blocks(AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval())
    wall, cpu = time.perf_counter(), time.process_time()
    quantized = PEERS[peer](model, tokens, out)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    save_file(linear_weights(quantized), out / "model.safetensors")
    (out / "result.json").write_text(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:5])
