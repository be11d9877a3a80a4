"""Nested arguments of a model, as its forward takes them, brought into the order of the graph's inputs.

torch.export names the tensors of an argument by their path: `forward(batch)` called with `{"ids": a, "image": [b, c]}`
gives the inputs `batch_ids`, `batch_image_0` and `batch_image_1`, in lower case and with other characters as `_`. Keys
of a mapping decide which tensor is which; their order does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Leaf = tuple[tuple[str, ...], Any]


def by_path(item: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any] | None:
    """Keyword arguments as {input name: tensor}; None where their paths are not exactly the names."""
    found = {_joined(path): leaf for path, leaf in _leaves(item)}
    return found if found.keys() == set(names) else None


def in_order(arguments: Sequence[Any], names: Sequence[str]) -> list[Any] | None:
    """The tensors of positional arguments in the order of the names; None where their number or keys do not fit.

    An argument that is None was left out, and has no input. A sample in a tuple of its own is that sample.
    """
    if len(arguments) == 1 and isinstance(arguments[0], tuple | list):
        inner = in_order(arguments[0], names)
        if inner is not None:
            return inner
    entries: list[Any] = []
    for argument in arguments:
        leaves = list(_leaves(argument))
        mine = names[len(entries) : len(entries) + len(leaves)]
        ordered = _ordered(leaves, mine) if _has_keys(argument) else [leaf for _, leaf in leaves]
        if ordered is None:
            return None
        entries += ordered
    return entries if len(entries) == len(names) else None


def _ordered(leaves: Sequence[Leaf], names: Sequence[str]) -> list[Any] | None:
    """Leaves of one argument by the names of its inputs, which begin with the argument's own."""
    by_name = {_joined(path): leaf for path, leaf in leaves}
    if len(names) != len(leaves) or len(by_name) != len(leaves):
        return None
    for ending in by_name:
        argument = names[0].removesuffix(ending)
        if argument.endswith("_") and {argument + name for name in by_name} == set(names):
            return [by_name[name.removeprefix(argument)] for name in names]
    return None


def _leaves(item: Any, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    if isinstance(item, Mapping):
        for key, part in item.items():
            yield from _leaves(part, (*path, str(key)))
    elif isinstance(item, tuple | list):
        for i, part in enumerate(item):
            yield from _leaves(part, (*path, str(i)))
    elif item is not None:
        yield path, item


def _has_keys(item: Any) -> bool:
    if isinstance(item, tuple | list):
        return any(map(_has_keys, item))
    return isinstance(item, Mapping)


def _joined(path: Sequence[str]) -> str:
    """The name that torch.export gives a tensor at this path."""
    return "_".join(re.sub(r"[^a-zA-Z0-9]", "_", key).lower() for key in path)
