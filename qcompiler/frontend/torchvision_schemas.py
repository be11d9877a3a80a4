"""Let models be imported beside a torchvision whose C++ extension does not fit the installed torch.

torchvision's default wheel is built for the CUDA build of torch. Beside a CPU torch its extension does not
load, and its Python side then fails on attaching shape functions to two detection operators that the extension
would have declared: "operator torchvision::nms does not exist". With that, every model of transformers and timm
fails to import, although none of them calls these operators. Declaring their schemas is all the import needs; a
model that did call one would be told by torch that it has no kernel.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@cache
def declare_torchvision_schemas() -> torch.library.Library | None:
    """Call before the first import of transformers, timm or torchvision; later calls do nothing.

    Returns None where torchvision is absent or whole, else the object that keeps the declarations alive.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    extension = Path(spec.origin).with_name("_C.so")
    try:
        torch.ops.load_library(extension)
        return None
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        library.define(name + schema)
    return library
