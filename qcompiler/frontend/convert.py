"""An exported program becomes a graph: one walk, one converter per ATen op."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import GraphError, InternalError, UnsupportedError
from ..executors.tensors import to_array
from ..ir import Graph, GraphBuilder, Origin, Value
from .aliasing import functional_name, mutates
from .aten import CONVERTERS
from .aten.elementwise import ignore
from .context import Context, Refusal, to_dtype
from .origin import OriginReader
from .symbols import DimTranslator

# Blocks that change how autograd or autocast run a part of the program.
_REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


def target_name(target: Any) -> str:
    """Key of an op in the table of converters: `aten.add.Tensor`, `operator.getitem`."""
    if target is operator.getitem:
        return "operator.getitem"
    return str(target)


def find_converter(target: Any) -> Callable[..., Any] | None:
    """The converter of an op, or of the functional form of an in-place op."""
    name = target_name(target)
    return CONVERTERS.get(name) or CONVERTERS.get(functional_name(name))


def unknown_ops(module: torch.fx.GraphModule) -> dict[Any, list[torch.fx.Node]]:
    """Ops without a converter, in all blocks of a program, each with the nodes that use it.

    Arithmetic on sizes needs none: its result is in the node's metadata.
    """
    found: dict[Any, list[torch.fx.Node]] = {}
    for sub in module.modules():
        if not isinstance(sub, torch.fx.GraphModule):
            continue
        for node in sub.graph.nodes:
            if node.op != "call_function" or is_size(node) or find_converter(node.target) is not None:
                continue
            if getattr(node.target, "__name__", "") in _REGIONS:
                continue
            found.setdefault(node.target, []).append(node)
    return found


def is_size(node: torch.fx.Node) -> bool:
    """True for a node that computes a number, not a tensor: size, size arithmetic, assertions on sizes."""
    value = node.meta.get("val")
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)):
        return True
    return value is None and not isinstance(node.target, (torch._ops.OpOverload, torch._ops.HigherOrderOperator))


class Converter:
    """Walks the nodes of one exported program.

    Attributes:
        refused: (node, reason) of every op that could not be converted; the walk goes on past them to list all.
    """

    def __init__(self, builder: GraphBuilder, dims: DimTranslator) -> None:
        self.builder = builder
        self.context = Context(builder, dims)
        self.dims = dims
        self.origins = OriginReader()
        self.env: dict[torch.fx.Node, Any] = {}
        self.tensor: dict[torch.fx.Node, torch.fx.Node] = {}
        self.refused: list[tuple[torch.fx.Node, str]] = []

    def walk(self, module: torch.fx.GraphModule, inputs: Sequence[Any]) -> list[Any]:
        """Convert a block whose placeholders are `inputs`; returns what stands for its results."""
        arguments = iter(inputs)
        needed = _needed(module.graph)
        for node in module.graph.nodes:
            if node.op == "placeholder":
                self.env[node] = next(arguments)
            elif node not in needed:
                continue
            elif node.op == "get_attr":
                self.env[node] = self._attribute(module, node)
            elif node.op == "call_function":
                self.env[node] = self._call(node)
            elif node.op == "output":
                results = node.args[0]
                return [self._resolve(r) for r in (results if isinstance(results, (list, tuple)) else [results])]
            else:
                raise InternalError(f"a {node.op} node in an exported program: {node.format_node()}")
        raise InternalError("an exported program without an output node")

    def _attribute(self, module: torch.fx.GraphModule, node: torch.fx.Node) -> Any:
        target: Any = module
        for part in str(node.target).split("."):
            target = getattr(target, part)
        if isinstance(target, torch.Tensor):
            return self.builder.const(to_array(target), to_dtype(target.dtype), name=str(node.target))
        return target  # a block of a region

    def _call(self, node: torch.fx.Node) -> Any:
        if is_size(node):
            return None  # its users read the metadata
        name = getattr(node.target, "__name__", "")
        if name in _REGIONS:
            return self._region(node, name)
        self.context.enter(node, self.origins.read(node))
        try:
            convert = find_converter(node.target)
            if convert is None:
                raise Refusal("no converter and no decomposition")
            if convert is ignore:
                return None  # conditions on sizes, which need not be expressible
            args = [self._resolve(a) for a in node.args]
            kwargs = {k: self._resolve(a) for k, a in node.kwargs.items() if k not in _LAYOUT}
            if any(_is_failure(a) for a in (*args, *kwargs.values())):
                return _FAILED  # its cause is on the list already
            result = convert(self.context, *args, **kwargs)
        except (Refusal, UnsupportedError, GraphError) as error:
            self.refused.append((node, str(error)))
            return _FAILED
        except (TypeError, NotImplementedError) as error:
            self.refused.append((node, f"this form of its arguments is not known ({error})"))
            return _FAILED
        result = self._conform(node, result)
        if mutates(node) and isinstance(node.args[0], torch.fx.Node):
            written = self._same_tensor(node.args[0])
            self.tensor[node] = written
            self.env[written] = result
        return result

    def _same_tensor(self, node: torch.fx.Node) -> torch.fx.Node:
        return self.tensor.get(node, node)

    def _region(self, node: torch.fx.Node, name: str) -> Any:
        """Autograd modes change nothing here; autocast is refused where it is on."""
        skip = _REGIONS[name]
        if name == "wrap_with_autocast" and node.args[2]:
            self.refused.append((node, "autocast changes dtypes; export the model outside of torch.autocast"))
            return _FAILED
        block, *operands = node.args[skip:]
        return self.walk(self._resolve(block), [self._resolve(a) for a in operands])

    def _conform(self, node: torch.fx.Node, result: Any) -> Any:
        """Hold the result to the dtype and shape that torch infers.

        Equal sizes can be written differently (`Min(8, seq)` where a guard says seq >= 8): then torch's form is
        stated by a reshape, which the op table does not need to prove.
        """
        fake = node.meta.get("val")
        if isinstance(result, Value) and isinstance(fake, torch.Tensor):
            shape = self.dims.shape(fake.shape)
            if result.dtype is not to_dtype(fake.dtype):
                raise InternalError(f"{node.format_node()}: converter gives {result!r}, torch says {fake.dtype}")
            if result.shape == shape:
                return result
            known = all(isinstance(d, int) for d in (*result.shape, *shape))
            if known or len(result.shape) != len(shape):
                raise InternalError(f"{node.format_node()}: converter gives {result!r}, torch says {tuple(shape)}")
            return self.context.op("reshape", result, shape=shape)
        return result

    def _resolve(self, arg: Any) -> Any:
        """An argument of a torch node as a converter takes it."""
        if isinstance(arg, torch.fx.Node):
            value = arg.meta.get("val")
            if isinstance(value, torch.SymInt):
                return self.dims.dim(value)
            if isinstance(value, (torch.SymFloat, torch.SymBool)):
                return self._number(value)
            if isinstance(value, (int, float, bool)):
                return value
            return self.env[self._same_tensor(arg)]
        if isinstance(arg, (list, tuple)):
            return [self._resolve(a) for a in arg]
        return arg

    def _number(self, value: Any) -> Any:
        expr = value.node.expr
        if isinstance(value, torch.SymBool):
            if expr not in (True, False):
                raise Refusal(f"the condition {expr} depends on a dynamic dimension")
            return bool(expr)
        if expr.is_number:
            return float(expr)
        if type(expr).__name__ == "ToFloat":
            return self.dims.dim(expr.args[0])
        raise Refusal(f"the number {expr} is computed from a dynamic dimension; compute it with tensors instead")


def _needed(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Nodes whose results reach an output or that write to something: what else there is need not be convertible.

    Models draw random numbers for layer dropout and then do not use them in evaluation mode.
    """
    needed: set[torch.fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in needed or (node.op == "call_function" and mutates(node)):
            needed.add(node)
            needed.update(node.all_input_nodes)
    return needed


_LAYOUT = {"device", "layout", "pin_memory", "memory_format", "non_blocking", "requires_grad"}
_FAILED = object()


def _is_failure(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_failure(v) for v in value)
    return value is _FAILED


def unsupported(refused: Sequence[tuple[torch.fx.Node, str]], origins: OriginReader) -> UnsupportedError:
    """One error that lists every op that could not be converted, with its places."""
    places: dict[tuple[str, str], list[str]] = {}
    for node, reason in refused:
        places.setdefault((target_name(node.target), reason), []).append(describe(origins.read(node)))
    lines = []
    for (name, reason), where in places.items():
        more = f" and {len(where) - 3} more" if len(where) > 3 else ""
        lines.append(f"  {name}: {reason}\n    at {'; '.join(where[:3])}{more}")
    return UnsupportedError(
        f"{len(places)} {'op' if len(places) == 1 else 'ops'} of the model cannot be captured:\n" + "\n".join(lines) + "\nRewrite these places of the"
        " model, or leave the part out of what is compiled."
    )


def describe(origin: Origin) -> str:
    """`encoder.layer.3 (model.py:12)`."""
    return (origin.module or "(top level)") + (f" ({origin.source})" if origin.source else "")


__all__ = ["Converter", "Graph", "describe", "find_converter", "target_name", "unknown_ops", "unsupported"]
