"""In-place ops of an exported program: which can be read as `x = f(x)`, and which need functionalization first.

`torch.export` keeps mutation (`relu_`, `add_`, `copy_`). `x.relu_()` is `x = relu(x)` as long as nobody reads the
memory of x later under another name. Views are such names: after `y = x[0]; y.add_(1)` a later read of x must see the
sum. Those rare programs are traced again by torch, which makes mutation explicit; that costs as much as the export.
"""

from __future__ import annotations

from typing import Any

import torch

# Results that may be their first argument itself although the schema does not say so.
_SILENT_ALIASES = {"aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default"}


def mutates(node: torch.fx.Node) -> bool:
    """True for a node that writes to its first argument."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def writes_through_alias(graph: torch.fx.Graph) -> bool:
    """True if some in-place result is read later through another name than the in-place op's own."""
    if not any(node.op == "call_function" and mutates(node) for node in graph.nodes):
        return False
    order = {node: i for i, node in enumerate(graph.nodes)}
    memory: dict[torch.fx.Node, torch.fx.Node] = {}  # node -> the node that allocated its memory
    tensor: dict[torch.fx.Node, torch.fx.Node] = {}  # node -> the first name of the very same tensor
    names: dict[torch.fx.Node, list[torch.fx.Node]] = {}
    for node in graph.nodes:
        source = _aliased(node)
        memory[node] = memory.get(source, source) if source is not None else node
        tensor[node] = tensor.get(source, source) if source is not None and mutates(node) else node
        names.setdefault(memory[node], []).append(node)
    for node in graph.nodes:
        if node.op != "call_function" or not mutates(node):
            continue
        if not isinstance(node.args[0], torch.fx.Node):
            return True  # a list of tensors is written
        for other in names[memory[node]]:
            if tensor[other] is tensor[node]:
                continue
            made_later = order[other] > order[node]
            if not made_later and any(order[user] > order[node] for user in other.users):
                return True
            if made_later and not _derives_from(other, node, tensor):
                return True
    return False


def _derives_from(view: torch.fx.Node, written: torch.fx.Node, tensor: dict[Any, Any]) -> bool:
    """True if a view is taken of the written tensor itself (under any of its names), perhaps through other views."""
    source = _aliased(view)
    while source is not None:
        if tensor[source] is tensor[written]:
            return True
        source = _aliased(source)
    return False


def _aliased(node: torch.fx.Node) -> torch.fx.Node | None:
    """The argument whose memory a result may share."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], torch.fx.Node):
        return None
    if getattr(node.target, "__name__", "") == "getitem" or str(node.target) in _SILENT_ALIASES:
        return node.args[0]
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return None
    shares = any(r.alias_info is not None for r in schema.returns)
    return node.args[0] if shares else None


def functional_name(target: str) -> str:
    """`aten.add_.Tensor` -> `aten.add.Tensor`; other names unchanged."""
    namespace, _, rest = target.partition(".")
    op, _, overload = rest.partition(".")
    if op.endswith("_") and not op.endswith("__"):
        return f"{namespace}.{op[:-1]}.{overload}"
    return target
