"""Local Hugging Face model directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.frontend import capture
from qcompiler.frontend.hugging_face import example, load_directory
from support.architectures import LISTED

from .compare import call, max_rel

pytest.importorskip("transformers")


def saved(name: str, path: Path) -> Any:
    model = LISTED[name].make()
    model.save_pretrained(path)
    return model


@pytest.mark.parametrize("name", ["bert", "llama", "vit"])
def test_directory(name: str, tmp_path: Path) -> None:
    model = saved(name, tmp_path / name)
    graph = capture(tmp_path / name)
    assert graph.name == name
    assert graph.symbols() == ({"batch"} if name == "vit" else {"batch", "seq"})
    inputs, _ = example(load_directory(tmp_path / name))
    got = TorchExecutor(graph).run([inputs[v.name] for v in graph.inputs])
    for a, b in zip(got, call(model, inputs), strict=True):
        assert max_rel(a.numpy(), b.numpy()) <= 1e-4


def test_own_example_inputs(tmp_path: Path) -> None:
    saved("bert", tmp_path)
    graph = capture(tmp_path, {"input_ids": torch.ones(1, 6, dtype=torch.int64)})
    assert [(v.name, v.shape) for v in graph.inputs] == [("input_ids", (1, 6))]


def test_what_is_no_model_directory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        capture(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        capture(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    with pytest.raises(UsageError, match=r"no \.safetensors"):
        capture(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(UsageError, match=r"pytorch_model\.bin is a pickle"):
        capture(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 4)
    with pytest.raises(UsageError, match="cannot be loaded"):
        capture(tmp_path)


def test_code_in_a_directory_is_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    (tmp_path / "modeling.py").write_text(f"import pathlib; pathlib.Path({str(witness)!r}).touch()")
    config = {"model_type": "own", "architectures": ["OwnModel"], "auto_map": {"AutoModel": "modeling.OwnModel"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 8)
    with pytest.raises(UnsupportedError, match="not run"):
        capture(tmp_path)
    assert not witness.exists()
