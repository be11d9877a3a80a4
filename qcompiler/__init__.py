"""Graph-level compiler for quantized model export.

`compile` turns a trained model into a quantized artefact for one target; `load` opens a saved one.
Everything heavy is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from qcompiler.api import Compiled, compile, load
    from qcompiler.recipe import Recipe, load_recipe

_WHERE = {
    "Compiled": "qcompiler.api",
    "Recipe": "qcompiler.recipe",
    "compile": "qcompiler.api",
    "load": "qcompiler.api",
    "load_recipe": "qcompiler.recipe",
}

__all__ = ["Compiled", "Recipe", "__version__", "compile", "load", "load_recipe"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'qcompiler' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
