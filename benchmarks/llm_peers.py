"""What peers make of a causal language model: W4, groups of 64, symmetric, on the same calibration tokens.

    python -m benchmarks.llm_peers gptq|autoround MODEL_FOLDER TOKENS.npy OUT_FOLDER

Runs in an environment that has the peer; imports nothing else of this repository. TOKENS are int64 [windows, length].
The weights that the peer's codes stand for are written to OUT/model.safetensors, in float32 under the model's own
names, and OUT/result.json says how long it took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BITS, GROUP = 4, 64
ITERATIONS, BATCH = 200, 1
"""Of AutoRound. Its own default is a batch of 8, which takes hours on one core of a CPU."""


def gptq(model: Any, tokens: np.ndarray) -> Any:
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


def autoround(model: Any, tokens: np.ndarray) -> Any:
    """AutoRound, its own defaults but for the grid, iterations and batch."""
    import torch
    from auto_round import AutoRound
    from transformers import AutoTokenizer

    batches = [{"input_ids": torch.from_numpy(row)[None]} for row in tokens]
    rounder = AutoRound(
        model, AutoTokenizer.from_pretrained(model.name_or_path), bits=BITS, group_size=GROUP, sym=True,
        iters=ITERATIONS, seqlen=tokens.shape[1], nsamples=len(tokens), dataset=batches, batch_size=BATCH,
        device_map="cpu", amp=False,
    )  # fmt: skip
    quantized, _ = rounder.quantize()
    return quantized


PEERS: dict[str, Callable[[Any, np.ndarray], Any]] = {"gptq": gptq, "autoround": autoround}


def main(peer: str, model_folder: str, tokens_file: str, out_folder: str) -> None:
    """Quantize and write the weights."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    tokens, out = np.load(tokens_file), Path(out_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    wall, cpu = time.perf_counter(), time.process_time()
    quantized = PEERS[peer](model, tokens)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    weights = {}
    for name, module in quantized.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            weights[f"{name}.weight"] = module.weight.detach().to(torch.float32).contiguous().clone()
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "model.safetensors")
    (out / "result.json").write_text(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:5])
