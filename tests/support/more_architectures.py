"""Architectures beyond the promised ones: detection, segmentation, hybrids, more language and speech models."""

from __future__ import annotations

from typing import Any

import torch

from .architectures import (
    BODY,
    DECODER,
    VISION,
    WHISPER,
    Architecture,
    _features,
    hf_model,
    image,
    pixels,
    text,
    timm_model,
    tokens,
)

TIMM: dict[str, tuple[int, dict[str, Any]]] = {
    "efficientnetv2_rw_t": (64, {}),
    "convnextv2_atto": (64, {"depths": (1, 1, 1, 1)}),
    "mobilevit_xxs": (64, {}),
    "mobilevitv2_050": (64, {}),
    "levit_128s": (224, {}),
    "pvt_v2_b0": (64, {}),
    "coatnet_nano_rw_224": (64, {"img_size": 64}),
    "edgenext_xx_small": (64, {}),
    "ghostnet_100": (64, {}),
    "inception_v3": (96, {}),
    "densenet121": (64, {}),
    "mobilenetv4_conv_small": (64, {}),
    "mnasnet_small": (64, {}),
    "resnext26ts": (64, {}),
    "seresnet18": (64, {}),
    "botnet26t_256": (256, {}),
    "halonet26t": (256, {}),
    "maxvit_nano_rw_256": (64, {"img_size": 64}),
    "xcit_nano_12_p16_224": (64, {"img_size": 64, "depth": 2}),
    "cait_xxs24_224": (64, {"img_size": 64, "depth": 2}),
    "beit_base_patch16_224": (64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 4}),
    "eva02_tiny_patch14_224": (56, {"img_size": 56, "depth": 2}),
    "vit_small_patch14_dinov2": (56, {"img_size": 56, "depth": 2}),
    "swinv2_tiny_window8_256": (64, {"img_size": 64, "depths": (2, 2)}),
    "poolformer_s12": (64, {}),
    "caformer_s18": (64, {}),
    "efficientformer_l1": (224, {}),
    "efficientformerv2_s0": (224, {}),
    "repvit_m0_9": (64, {}),
    "tiny_vit_5m_224": (224, {}),
    "focalnet_tiny_srf": (64, {}),
    "twins_svt_small": (64, {"depths": (1, 1, 1, 2)}),
    "gcvit_xxtiny": (224, {}),
    "nextvit_small": (64, {}),
    "hgnet_tiny": (64, {}),
    "hrnet_w18_small": (64, {}),
    "dla34": (64, {}),
    "vgg11_bn": (64, {}),
    "xception41": (64, {}),
    "nfnet_l0": (64, {}),
    "res2net50_26w_4s": (64, {}),
    "skresnet18": (64, {}),
    "volo_d1_224": (64, {"img_size": 64}),
    "crossvit_9_240": (240, {}),
    "resmlp_12_224": (64, {"img_size": 64}),
    "gmlp_s16_224": (64, {"img_size": 64}),
    "convit_tiny": (64, {"img_size": 64}),
    "visformer_tiny": (64, {"img_size": 64}),
    "mobileone_s0": (64, {}),
    "starnet_s1": (64, {}),
    "shvit_s1": (64, {}),
    "lcnet_050": (64, {}),
    "tinynet_e": (64, {}),
    "hardcorenas_a": (64, {}),
    "cspresnet50": (64, {}),
    "darknet53": (64, {}),
    "hiera_tiny_224": (224, {}),
    "davit_tiny": (64, {"depths": (1, 1, 1, 1)}),
    "mvitv2_tiny": (224, {}),
    "naflexvit_base_patch16_gap": (64, {}),
}


def _seq2seq(batch: int, length: int) -> dict[str, torch.Tensor]:
    return {**tokens(batch, length), "decoder_input_ids": tokens(batch, 5)["input_ids"]}


def _whisper(batch: int, length: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 90, (batch, length), generator=torch.Generator().manual_seed(batch))
    return {**_features(batch, 0), "decoder_input_ids": ids}


def _clip(batch: int, length: int) -> dict[str, torch.Tensor]:
    return {**tokens(batch, length), **pixels(32)(batch, 0)}


def _wave(batch: int, _: int) -> dict[str, torch.Tensor]:
    return {"input_values": torch.randn(batch, 1600, generator=torch.Generator().manual_seed(batch))}


_AXES = {0: "batch", 1: "seq"}
_SEQ2SEQ = {"input_ids": _AXES, "attention_mask": _AXES, "decoder_input_ids": {0: "batch"}}
_CLIP = {"input_ids": _AXES, "attention_mask": _AXES, "pixel_values": {0: "batch"}}
_TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_BART: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 100}
_MOE = {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "experts_implementation": "batched_mm"}

HUGGING_FACE: dict[str, Architecture] = {
    "gemma": text("GemmaForCausalLM", "GemmaConfig", **DECODER, num_key_value_heads=1, head_dim=8),
    "gemma2": text("Gemma2ForCausalLM", "Gemma2Config", **DECODER, num_key_value_heads=2, head_dim=8),
    "gemma3": text("Gemma3ForCausalLM", "Gemma3TextConfig", **DECODER, num_key_value_heads=2, head_dim=8),
    "qwen3": text("Qwen3ForCausalLM", "Qwen3Config", **DECODER, num_key_value_heads=2, head_dim=8),
    "phi3": text("Phi3ForCausalLM", "Phi3Config", **DECODER, num_key_value_heads=2),
    "gpt_neox": text("GPTNeoXForCausalLM", "GPTNeoXConfig", **DECODER),
    "gpt_neo": text(
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=64,
        vocab_size=100,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "gptj": text("GPTJForCausalLM", "GPTJConfig", n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4, vocab_size=100, bos_token_id=1, eos_token_id=2),
    "falcon": text("FalconForCausalLM", "FalconConfig", **DECODER),
    "bloom": text("BloomForCausalLM", "BloomConfig", hidden_size=32, n_layer=2, n_head=4, vocab_size=100),
    "mpt": text("MptForCausalLM", "MptConfig", d_model=32, n_layers=2, n_heads=4, max_seq_len=64, vocab_size=100),
    "stablelm": text("StableLmForCausalLM", "StableLmConfig", **DECODER, num_key_value_heads=2),
    "starcoder2": text("Starcoder2ForCausalLM", "Starcoder2Config", **DECODER, num_key_value_heads=2),
    "olmo2": text("Olmo2ForCausalLM", "Olmo2Config", **DECODER),
    "cohere": text("CohereForCausalLM", "CohereConfig", **DECODER, num_key_value_heads=2),
    "granite": text("GraniteForCausalLM", "GraniteConfig", **DECODER, num_key_value_heads=2),
    "smollm3": text("SmolLM3ForCausalLM", "SmolLM3Config", **DECODER, num_key_value_heads=2),
    "glm": text("GlmForCausalLM", "GlmConfig", **DECODER, num_key_value_heads=2, head_dim=8),
    "mixtral": text("MixtralForCausalLM", "MixtralConfig", **DECODER, **_MOE),
    "albert": text("AlbertModel", "AlbertConfig", **BODY, embedding_size=16),
    "electra": text("ElectraModel", "ElectraConfig", **BODY, embedding_size=16),
    "deberta_v2": text("DebertaV2Model", "DebertaV2Config", **BODY, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8),
    "mpnet": text("MPNetModel", "MPNetConfig", **BODY),
    "xlm_roberta": text("XLMRobertaModel", "XLMRobertaConfig", **BODY),
    "modernbert": text("ModernBertModel", "ModernBertConfig", **DECODER, cls_token_id=1, sep_token_id=2),
    "nomic_bert_style": text("RoFormerModel", "RoFormerConfig", **BODY),
    "bert_classifier": text("BertForSequenceClassification", "BertConfig", **BODY, num_labels=5),
    "bert_qa": text("BertForQuestionAnswering", "BertConfig", **BODY),
    "squeezebert": text("SqueezeBertModel", "SqueezeBertConfig", **BODY, embedding_size=32),
    "funnel": text("FunnelBaseModel", "FunnelConfig", vocab_size=100, block_sizes=[1, 1], d_model=32, n_head=4, d_head=8, d_inner=64),
    "longformer": text("LongformerModel", "LongformerConfig", **BODY, attention_window=4),
    "t5": hf_model("T5Model", "T5Config", _seq2seq, _SEQ2SEQ, **_T5, decoder_start_token_id=0),
    "bart": hf_model("BartModel", "BartConfig", _seq2seq, _SEQ2SEQ, **_BART),
    "marian": hf_model("MarianModel", "MarianConfig", _seq2seq, _SEQ2SEQ, **_BART, pad_token_id=1, decoder_start_token_id=1),
    "whisper": hf_model(
        "WhisperForConditionalGeneration", "WhisperConfig", _whisper, {"input_features": {0: "batch"}, "decoder_input_ids": _AXES}, **WHISPER
    ),
    "wav2vec2": hf_model(
        "Wav2Vec2Model", "Wav2Vec2Config", _wave, {"input_values": {0: "batch"}}, sizes=((2, 0), (3, 0)),
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, conv_dim=(16, 16), conv_stride=(5, 2),
        conv_kernel=(10, 3), num_feat_extract_layers=2, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    ),
    "clip": hf_model("CLIPModel", "CLIPConfig", _clip, _CLIP,
        text_config={**_TOWER, "vocab_size": 100, "max_position_embeddings": 64, "eos_token_id": 2}, vision_config={**_TOWER, "image_size": 32, "patch_size": 8}, projection_dim=16),
    "siglip_vision": image("SiglipVisionModel", "SiglipVisionConfig", **_TOWER, image_size=32, patch_size=8),
    "dinov2": image("Dinov2Model", "Dinov2Config", **{**VISION, "intermediate_size": 64}),
    "beit": image("BeitModel", "BeitConfig", **VISION),
    "deit": image("DeiTModel", "DeiTConfig", **VISION),
    "swin": image("SwinModel", "SwinConfig", 56, image_size=56, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=7),
    "segformer": image("SegformerForSemanticSegmentation", "SegformerConfig", 64, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=16),
    "dpt": image("DPTForDepthEstimation", "DPTConfig", 32, **{**VISION, "num_hidden_layers": 4}, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 16, 24, 32], fusion_hidden_size=16),
    "mobilevit_hf": image("MobileViTModel", "MobileViTConfig", 64, image_size=64),
    "convnextv2": image("ConvNextV2Model", "ConvNextV2Config", 64, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
    "resnet_hf": image("ResNetModel", "ResNetConfig", 64, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
    "yolos": image("YolosForObjectDetection", "YolosConfig", 32, **{**VISION, "image_size": [32, 32]}, num_detection_tokens=5),
    "detr": image("DetrForObjectDetection", "DetrConfig", 64, use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config={"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "out_features": ["stage2"]}, num_queries=5, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64),
    "rt_detr": hf_model("RTDetrForObjectDetection", "RTDetrConfig", pixels(64), None, sizes=((2, 0),), note="with random weights the best queries tie exactly, and torch.topk orders ties as it likes", num_queries=5, d_model=32, encoder_hidden_dim=32, decoder_in_channels=[32, 32, 32], encoder_in_channels=[256, 512, 1024], num_denoising=0, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=64, decoder_ffn_dim=64, encoder_attention_heads=4, decoder_attention_heads=4),
    "sam_vision": image("SamVisionModel", "SamVisionConfig", 64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=8, window_size=4, global_attn_indexes=[1], output_channels=16, mlp_dim=64),
    "vitmae": image("ViTMAEModel", "ViTMAEConfig", **VISION),
    "mamba": hf_model(
        "MambaForCausalLM", "MambaConfig", lambda b, n: {"input_ids": tokens(b, 6)["input_ids"]}, {"input_ids": {0: "batch"}},
        sizes=((2, 0), (3, 0)), hidden_size=32, num_hidden_layers=2, vocab_size=100, state_size=4,
    ),
}


class _LSTM(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, 16)
        self.lstm = torch.nn.LSTM(16, 12, num_layers=2, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(24, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embed(ids))[0][:, -1])


class _GRU(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(8, 12, batch_first=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.gru(x)


class _UNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = torch.nn.Conv2d
        self.down1 = torch.nn.Sequential(layer(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(True))
        self.down2 = torch.nn.Sequential(layer(8, 16, 3, padding=1), torch.nn.GroupNorm(4, 16), torch.nn.SiLU())
        self.up = torch.nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.out = layer(16, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.down1(x)
        b = self.down2(torch.nn.functional.max_pool2d(a, 2))
        b = torch.nn.functional.interpolate(b, scale_factor=1.0)
        return self.out(torch.cat([a, self.up(b)], 1)).softmax(1)


class _Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.body = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def _random(*shape: int) -> Any:
    return lambda batch, length: (torch.randn(batch, *[length if s < 0 else s for s in shape], generator=torch.Generator().manual_seed(batch)),)


TORCH: dict[str, Architecture] = {
    "lstm": Architecture("torch", _LSTM, lambda b, n: (torch.randint(0, 50, (b, 6), generator=torch.Generator().manual_seed(b)),), ({0: "batch"},), ((2, 0), (3, 0))),
    "gru": Architecture("torch", _GRU, _random(5, 8), ({0: "batch"},), ((2, 0), (3, 0))),
    "unet": Architecture("torch", _UNet, _random(3, 16, 16), ({0: "batch"},), ((2, 0), (3, 0))),
    "transformer_encoder": Architecture("torch", _Encoder, _random(-1, 16), ({0: "batch", 1: "seq"},)),
}

FURTHER: dict[str, Architecture] = {
    **{name: timm_model(name, size, **options) for name, (size, options) in TIMM.items()},
    **HUGGING_FACE,
    **TORCH,
}
