"""timm models on a CPU build of torch.

timm imports torchvision, whose default wheel is built for the CUDA build of torch: beside a CPU torch its C++
extension does not load, and its Python side then fails on attaching a shape function to two detection
operators that the extension would have declared ("operator torchvision::nms does not exist"). Declaring
their schemas is all that the import needs; no classifier of timm calls them.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import torch

_MISSING = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@cache
def declare_torchvision_operators() -> torch.library.Library | None:
    """Make `import torchvision` work; None where its extension loads and declares the operators itself."""
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None and spec.origin is not None, "timm needs torchvision: install qcompiler[test]"
    try:
        torch.ops.load_library(Path(spec.origin).with_name("_C.so"))
        return None
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")  # the declarations live as long as it does
    for name, schema in _MISSING.items():
        library.define(name + schema)
    return library


def create_timm_model(name: str, **kwargs: Any) -> torch.nn.Module:
    """The timm architecture `name` with random weights (seed 0), in evaluation mode."""
    declare_torchvision_operators()
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, **kwargs).eval()
