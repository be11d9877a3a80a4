"""Architectures with random weights, small: what capture is tested on and what docs/coverage.md lists.

`LISTED` are the families that are promised; `FURTHER` shows the field beyond them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from qcompiler.frontend.torchvision_schemas import declare_torchvision_schemas

from .vision import create_timm_model


@dataclass(frozen=True)
class Architecture:
    """How to make a model and inputs for it.

    Attributes:
        library: `timm`, `transformers` or `torch`.
        make: the model.
        sample: inputs as keyword arguments or a tuple, for a batch size and a sequence length.
        dynamic: as capture takes it.
        sizes: (batch, length) of the example, then of further runs.
        note: why its outputs may differ although every op agrees.
    """

    library: str
    make: Callable[[], torch.nn.Module]
    sample: Callable[[int, int], Any]
    dynamic: Any
    sizes: tuple[tuple[int, int], ...] = ((2, 9), (3, 7), (2, 20))
    note: str = ""


def scatter_parameters(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every constant parameter and statistic (zero heads, unit scales, 1e-6 layer scales) random values.

    Freshly made models hide whole branches behind zeros; a wrong converter there would go unnoticed.
    """
    generator = torch.Generator().manual_seed(seed)
    statistics = [b for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var"))]
    with torch.no_grad():
        for tensor in [*model.parameters(), *statistics]:
            if tensor.numel() and torch.equal(tensor, tensor.flatten()[0].expand_as(tensor)):
                tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator) - 0.1)
    return model.eval()


def timm_model(name: str, size: int = 64, **options: Any) -> Architecture:
    """A timm classifier on square images."""

    def sample(batch: int, _: int) -> tuple[torch.Tensor, ...]:
        return (torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(batch)),)

    def make() -> torch.nn.Module:
        return scatter_parameters(create_timm_model(name, **options))

    return Architecture("timm", make, sample, ({0: "batch"},), ((2, 0), (3, 0), (1, 0)))


def _transformers() -> Any:
    declare_torchvision_schemas()
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers


def hf_model(model: str, config: str, sample: Callable[[int, int], Any], dynamic: Any, **options: Any) -> Architecture:
    """A model of transformers by the names of its class and its config; `encoder=True` takes its encoder."""
    part = options.pop("part", None)
    sizes = options.pop("sizes", ((2, 9), (3, 7), (2, 20)))
    note = options.pop("note", "")

    def make() -> torch.nn.Module:
        library = _transformers()
        torch.manual_seed(0)
        whole = getattr(library, model)(getattr(library, config)(**options))
        return scatter_parameters(getattr(whole, part) if part else whole)

    return Architecture("transformers", make, sample, dynamic, sizes, note)


def tokens(batch: int, length: int) -> dict[str, torch.Tensor]:
    """Token ids below 90 and a mask with two padded places on the right of the first row."""
    generator = torch.Generator().manual_seed(batch * 100 + length)
    ids = torch.randint(3, 90, (batch, length), generator=generator)
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, -2:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def pixels(size: int, channels: int = 3) -> Callable[[int, int], dict[str, torch.Tensor]]:
    """Images for models of transformers."""
    return lambda batch, _: {
        "pixel_values": torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(batch))
    }


def text(model: str, config: str, **options: Any) -> Architecture:
    """A language model on ids and mask, batch and sequence dynamic."""
    axes = {0: "batch", 1: "seq"}
    return hf_model(model, config, tokens, {"input_ids": axes, "attention_mask": axes}, **options)


def image(model: str, config: str, size: int = 32, **options: Any) -> Architecture:
    """A vision model of transformers, batch dynamic."""
    sizes = ((2, 0), (3, 0))
    return hf_model(model, config, pixels(size), {"pixel_values": {0: "batch"}}, sizes=sizes, **options)


BODY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
DECODER: dict[str, Any] = {**BODY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GPT: dict[str, Any] = {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
WHISPER: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 100,
    "num_mel_bins": 16,
    "max_source_positions": 20,
    "max_target_positions": 20,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def _features(batch: int, _: int) -> dict[str, torch.Tensor]:
    return {"input_features": torch.randn(batch, 16, 40, generator=torch.Generator().manual_seed(batch))}


LISTED: dict[str, Architecture] = {
    "resnet18": timm_model("resnet18"),
    "mobilenetv2_100": timm_model("mobilenetv2_100"),
    "mobilenetv3_small_100": timm_model("mobilenetv3_small_100"),
    "efficientnet_lite0": timm_model("efficientnet_lite0"),
    "convnext_atto": timm_model("convnext_atto", depths=(1, 1, 1, 1)),
    "vit_tiny_patch16_224": timm_model("vit_tiny_patch16_224", img_size=64, depth=2),
    "deit_tiny_patch16_224": timm_model("deit_tiny_patch16_224", img_size=64, depth=2),
    "swin_tiny_patch4_window7_224": timm_model("swin_tiny_patch4_window7_224", 56, img_size=56, depths=(2, 2)),
    "mixer_s32_224": timm_model("mixer_s32_224", img_size=64),
    "regnetx_002": timm_model("regnetx_002"),
    "repvgg_a0": timm_model("repvgg_a0"),
    "fastvit_t8": timm_model("fastvit_t8"),
    "bert": text("BertModel", "BertConfig", **BODY),
    "distilbert": text(
        "DistilBertModel",
        "DistilBertConfig",
        dim=32,
        n_layers=2,
        n_heads=4,
        hidden_dim=64,
        vocab_size=100,
        max_position_embeddings=64,
    ),
    "roberta": text("RobertaModel", "RobertaConfig", **BODY),
    "gpt2": text("GPT2LMHeadModel", "GPT2Config", n_embd=32, n_layer=2, n_head=4, n_positions=64, **GPT),
    "llama": text("LlamaForCausalLM", "LlamaConfig", **DECODER, num_key_value_heads=2),
    "qwen2": text("Qwen2ForCausalLM", "Qwen2Config", **DECODER, num_key_value_heads=2),
    "mistral": text("MistralForCausalLM", "MistralConfig", **DECODER, num_key_value_heads=2),
    "phi": text("PhiForCausalLM", "PhiConfig", **DECODER),
    "opt": text(
        "OPTForCausalLM",
        "OPTConfig",
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        vocab_size=100,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
    ),
    "t5_encoder": text(
        "T5EncoderModel", "T5Config", d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=100
    ),
    "vit": image("ViTModel", "ViTConfig", **VISION),
    "whisper_encoder": hf_model(
        "WhisperModel",
        "WhisperConfig",
        _features,
        {"input_features": {0: "batch"}},
        sizes=((2, 0), (3, 0)),
        part="encoder",
        **WHISPER,
    ),
}
