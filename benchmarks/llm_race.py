"""How long our GPTQ takes on the first blocks of a causal language model: `QC_BLOCKS` of them, all without it.

    python -m benchmarks.llm_race TOKENS.npy OUT_FOLDER

Counted like the peers in `llm_peers`: from the model in memory to rounded weights, capture included, which is the same
for one block and for all; `rounding_cpu_seconds` are without it. OUT/result.json gets the figures.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def main(tokens_file: str, out_folder: str) -> None:
    """Round and say how long it took."""
    import torch

    from benchmarks.llm_peers import first_blocks
    from benchmarks.llm_rows import logits_module
    from benchmarks.smollm2 import load_model
    from qcompiler.calibration import load_samples
    from qcompiler.compilation import Request, build_passes, capture_model
    from qcompiler.passes.base import Context, run_passes
    from qcompiler.recipe import load_recipe
    from qcompiler.targets import get_target

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    tokens = np.load(tokens_file)
    module = logits_module(first_blocks(load_model()))
    target, recipe = get_target("onnxruntime-cpu"), load_recipe("w4a16")
    wall, cpu = time.perf_counter(), time.process_time()
    shapes = {"input_ids": {1: torch.export.Dim("seq", min=2, max=tokens.shape[1])}}
    graph = capture_model(Request(module, (torch.zeros(1, 16, dtype=torch.long),), dynamic_shapes=shapes))[0]
    passes = build_passes(recipe, target)
    names = [p.name for p in passes]
    context = Context(target=target, samples=load_samples([(row[None],) for row in tokens], graph))
    rounding = time.process_time()
    run_passes(graph, passes[: names.index("round_gptq") + 1], context)
    figures = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    figures["rounding_cpu_seconds"] = time.process_time() - rounding
    out = Path(out_folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / "result.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:3])
