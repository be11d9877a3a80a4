"""A local Hugging Face model directory: config, safetensors, and example inputs made from the config.

Nothing is downloaded and no code of the directory is run: remote code is off and only safetensors files are read.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from ..errors import MissingToolError, UnsupportedError, UsageError
from .export import Exported, export_module
from .torchvision_schemas import declare_torchvision_schemas

log = logging.getLogger("qcompiler.frontend")

EXAMPLE_BATCH = 2
EXAMPLE_LENGTH = 16


def export_directory(
    path: Path, example_inputs: Any = None, dynamic_shapes: Any = None, name: str | None = None
) -> Exported:
    """Export the model of a directory; without example inputs they are made, with dynamic batch and sequence.

    Raises:
        UsageError: no model directory, or one without safetensors.
        UnsupportedError: an architecture that transformers does not know without remote code.
        MissingToolError: transformers is not installed.
    """
    model = load_directory(path)
    if example_inputs is None:
        example_inputs, shapes = example(model)
        dynamic_shapes = shapes if dynamic_shapes is None else dynamic_shapes
    return export_module(model, example_inputs, dynamic_shapes, name or path.resolve().name)


def load_directory(path: Path) -> torch.nn.Module:
    """The model of a directory, in float32 and evaluation mode, by the architecture that its config names."""
    config_file = path / "config.json"
    if not config_file.is_file():
        raise UsageError(f"{path} is no Hugging Face model directory: it has no config.json")
    try:
        raw = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{config_file} is damaged: {error}") from error
    _need_safetensors(path)
    transformers = _transformers()
    architecture = (raw.get("architectures") or [None])[0]
    cls = getattr(transformers, str(architecture), None) or transformers.AutoModel
    if "auto_map" in raw and not hasattr(transformers, str(architecture)):
        raise UnsupportedError(f"{path}: {architecture} needs code from the directory, which is not run")
    if "quantization_config" in raw:
        return _load_packed(path, raw)
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        model = cls.from_pretrained(
            os.fspath(path),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="sdpa",
        )
    except ValueError as error:
        if "attn_implementation" in str(error) or "scaled_dot_product_attention" in str(error):
            model = cls.from_pretrained(
                os.fspath(path), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        else:
            raise UnsupportedError(f"{path}: transformers {transformers.__version__}: {error}") from error
    except Exception as error:  # from safetensors, torch or transformers, each with classes of its own
        raise UsageError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
    return model.eval()


def _load_packed(path: Path, raw: dict[str, Any]) -> torch.nn.Module:
    """The model of a checkpoint that was quantized: its other tensors as usual, then linear layers of codes."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    from .packed_checkpoint import read_packed
    from .packed_linear import put_in

    tensors: dict[str, torch.Tensor] = {}
    try:
        for file in sorted(path.glob("*.safetensors")):
            tensors |= load_file(file)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} cannot be loaded: {error}") from error
    arrays = {n: (t.float() if t.dtype is torch.bfloat16 else t).numpy() for n, t in tensors.items()}
    layers = read_packed(raw["quantization_config"], arrays)
    kept = {n: t for n, t in tensors.items() if n.rpartition(".")[0] not in layers or n.endswith(".bias")}
    with tempfile.TemporaryDirectory() as folder:
        save_file(kept, Path(folder) / "model.safetensors", {"format": "pt"})
        plain = {k: v for k, v in raw.items() if k != "quantization_config"}
        (Path(folder) / "config.json").write_text(json.dumps(plain), encoding="utf-8")
        model = load_directory(Path(folder))
    put_in(model, layers)
    return model.eval()


def _need_safetensors(path: Path) -> None:
    if any(path.glob("*.safetensors")):
        return
    pickled = [p.name for p in (*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth"))]
    also = f"; {pickled[0]} is a pickle, which is not loaded: it could execute code" if pickled else ""
    raise UsageError(f"{path} has no .safetensors file{also}")


def _transformers() -> Any:
    declare_torchvision_schemas()
    try:
        import transformers
    except ImportError as error:
        raise MissingToolError("a Hugging Face model directory needs transformers: pip install 'qcompiler[hf]'") from error
    return transformers


def example(model: torch.nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """(example inputs, dynamic shapes) for a model of transformers, from its config and its forward's parameters.

    Raises:
        UsageError: a model whose main input is none of token ids, pixels or audio features.
    """
    config: Any = model.config
    main = getattr(model, "main_input_name", "input_ids")
    parameters = inspect.signature(model.forward).parameters
    if main == "pixel_values":
        return _pixels(_part(config, "vision_config"))
    if main in ("input_features", "input_values"):
        return _audio(config, main)
    if main != "input_ids":
        raise UsageError(f"{type(model).__name__} takes {main!r} first: give example inputs")
    inputs = _tokens(_part(config, "text_config"), parameters)
    shapes: dict[str, Any] = {key: {0: "batch", 1: "seq"} for key in inputs}
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in parameters:
        inputs["decoder_input_ids"] = inputs["input_ids"].clone()
        shapes["decoder_input_ids"] = {0: "batch", 1: "decoder_seq"}
    return inputs, shapes


def _part(config: Any, name: str) -> Any:
    """The config of one modality, where a config has several."""
    return getattr(config, name, None) or config


def _tokens(config: Any, parameters: Any) -> dict[str, torch.Tensor]:
    length = min(EXAMPLE_LENGTH, int(getattr(config, "max_position_embeddings", None) or EXAMPLE_LENGTH))
    size = int(config.vocab_size)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(min(5, size - 1), size, (EXAMPLE_BATCH, length), generator=generator)
    inputs = {"input_ids": ids}
    if "attention_mask" in parameters:
        inputs["attention_mask"] = torch.ones_like(ids)
    if "token_type_ids" in parameters and getattr(config, "type_vocab_size", 0):
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return inputs


def _pixels(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    size = getattr(config, "image_size", 224) or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    shape = (EXAMPLE_BATCH, int(getattr(config, "num_channels", 3) or 3), int(height), int(width))
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return {"pixel_values": pixels}, {"pixel_values": {0: "batch"}}


def _audio(config: Any, main: str) -> tuple[dict[str, Any], dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    if main == "input_values":
        return {main: torch.randn((EXAMPLE_BATCH, 16000), generator=generator)}, {main: {0: "batch"}}
    frames = 2 * int(getattr(config, "max_source_positions", 1500))
    features = torch.randn((EXAMPLE_BATCH, int(config.num_mel_bins), frames), generator=generator)
    inputs: dict[str, Any] = {main: features}
    shapes: dict[str, Any] = {main: {0: "batch"}}
    if getattr(config, "is_encoder_decoder", False):
        start = int(getattr(config, "decoder_start_token_id", 0) or 0)
        inputs["decoder_input_ids"] = torch.full((EXAMPLE_BATCH, 4), start)
        shapes["decoder_input_ids"] = {0: "batch", 1: "decoder_seq"}
    return inputs, shapes
