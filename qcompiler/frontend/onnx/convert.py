"""One walk over the nodes of an ONNX graph, one converter per op."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
from onnx import AttributeProto

from ...errors import GraphError, QCError, UnsupportedError, UsageError
from ...ir import GraphBuilder, Origin, Value
from ..context import Refusal
from .context import OnnxContext
from .file import OnnxFile
from .functions import function_of
from .ops import CONVERTERS
from .order import in_order, place_of

DEFAULT_DOMAINS = ("", "ai.onnx")
log = logging.getLogger("qcompiler.frontend")

LAYOUTS = {
    "com.microsoft.nchwc": "; ONNX Runtime wrote this file for the memory layout of one CPU: write it with graph optimization"
    " level EXTENDED, or take the file that it was made of"
}
"""What to say of domains that no model is exported in."""

MAX_DEPTH = 32
"""Functions and branches inside each other; deeper nesting is a recursion."""

Scope = dict[str, "Value | None"]


class _Failed:
    """Stands for the result of a node that could not be converted; its cause is on the list already."""


FAILED: Any = _Failed()


class Converter:
    """Walks the nodes of one model.

    Attributes:
        refused: (op, place, reason) of every node that could not be converted; the walk goes on to list all.
    """

    def __init__(self, builder: GraphBuilder, file: OnnxFile) -> None:
        self.builder = builder
        self.file = file
        self.context = OnnxContext(builder)
        self.refused: list[tuple[str, str, str]] = []
        self.versions = {e.domain if e.domain != "ai.onnx" else "": e.version for e in file.proto.opset_import}
        self.functions = {(f.domain, f.name): f for f in file.proto.functions}
        self.prefix: list[str] = []

    def walk(
        self, nodes: Sequence[onnx.NodeProto], scope: Scope, versions: Mapping[str, int], attrs: Mapping[str, Any], where: str
    ) -> None:
        """Convert nodes in order; their results are added to `scope`.

        Args:
            scope: tensor name -> value; None for a tensor that is absent.
            versions: operator set per domain.
            attrs: of the function whose body this is.
            where: for messages.
        """
        for node in in_order(nodes, scope, where):
            results = self._node(node, scope, versions, attrs)
            for i, name in enumerate(node.output):
                if not name:
                    continue
                if name in scope:
                    raise UsageError(f"{where}: tensor {name!r} has two producers, one is {place_of(node)}")
                scope[name] = results[i] if i < len(results) else FAILED

    def _node(
        self, node: onnx.NodeProto, scope: Scope, versions: Mapping[str, int], attrs: Mapping[str, Any]
    ) -> Sequence[Any]:
        arguments = [scope[name] if name else None for name in node.input]
        failed = [FAILED] * len(node.output)
        if any(a is FAILED for a in arguments):
            return failed
        domain = "" if node.domain in DEFAULT_DOMAINS else node.domain
        key = node.op_type if not domain else f"{domain}.{node.op_type}"
        origin = self._origin(node)
        try:
            own = self._attributes(node, attrs)
            if (node.domain, node.op_type) in self.functions:
                function = self.functions[node.domain, node.op_type]
                return self._function(function, node, arguments, own, origin)
            version = versions.get(domain, 0)
            if key == "If":
                return self._branch(node, arguments, own, scope, versions, attrs)
            convert = CONVERTERS.get(key)
            if convert is None:
                unknown = Refusal("no converter" if not domain else f"no converter for domain {domain}{LAYOUTS.get(domain, '')}")
                return self._by_definition(node, domain, arguments, own, origin, versions, unknown)
            self.context.begin(node, own, version, arguments, origin)
            try:
                result = convert(self.context, *arguments)
            except Refusal as refusal:
                return self._by_definition(node, domain, arguments, own, origin, versions, refusal)
            results = [result] if isinstance(result, Value) else list(result)
            for place, name in enumerate(node.output):
                if name and (place >= len(results) or results[place] is None):
                    raise Refusal(f"its result {place + 1} ({name}) is not in the graph")
            return results
        except (Refusal, UnsupportedError, GraphError) as error:
            self.refused.append((key, place_of(node), str(error)))
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError, ZeroDivisionError, OverflowError) as error:
            self.refused.append((key, place_of(node), f"this form of it is not known ({type(error).__name__}: {error})"))
        return failed

    def _attributes(self, node: onnx.NodeProto, outer: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                if attribute.ref_attr_name in outer:
                    found[attribute.name] = outer[attribute.ref_attr_name]
            else:
                found[attribute.name] = self._attribute(attribute)
        return found

    def _attribute(self, attribute: onnx.AttributeProto) -> Any:
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_location == onnx.TensorProto.EXTERNAL:
            array, _ = self.file.tensor(attribute.t)
            inline = onnx.TensorProto()
            inline.CopyFrom(attribute.t)
            inline.ClearField("external_data")
            inline.data_location = onnx.TensorProto.DEFAULT
            inline.raw_data = array.tobytes()
            return inline
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return list(value) if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS) else value

    # -- functions and branches ---------------------------------------------------------------------------------

    def _by_definition(
        self, node: onnx.NodeProto, domain: str, arguments: Sequence[Any], attrs: dict[str, Any], origin: Origin,
        versions: Mapping[str, int], refusal: Refusal,
    ) -> Sequence[Any]:  # fmt: skip
        """An op that ONNX defines by others; where that does not help either, `refusal` says why."""
        if any(attribute.ref_attr_name for attribute in node.attribute):
            resolved = onnx.NodeProto()
            resolved.CopyFrom(node)
            del resolved.attribute[:]
            resolved.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attrs.items() if v is not None)
            node = resolved
        body = function_of(node, domain, versions.get(domain, 0), arguments)
        if body is None:
            raise refusal
        try:
            return self._function(body, node, arguments, attrs, origin, versions)
        except Refusal as inner:
            log.info("%s: %s", place_of(node), inner)
            raise refusal from inner

    def _function(
        self, body: onnx.FunctionProto, node: onnx.NodeProto, arguments: Sequence[Any], attrs: dict[str, Any],
        origin: Origin, versions: Mapping[str, int] | None = None,
    ) -> Sequence[Any]:  # fmt: skip
        """A node whose meaning is a graph of other ops."""
        if len(self.prefix) >= MAX_DEPTH:
            raise Refusal("functions are nested too deeply; does one call itself?")
        if len(arguments) > len(body.input):
            raise Refusal(f"takes {len(body.input)} operands, got {len(arguments)}")
        scope: Scope = dict.fromkeys(body.input)
        scope |= dict(zip(body.input, arguments, strict=False))
        defaults = {a.name: self._attribute(a) for a in body.attribute_proto}
        own = {e.domain if e.domain != "ai.onnx" else "": e.version for e in body.opset_import}
        refused = len(self.refused)
        self.prefix.append(origin.module)
        try:
            self.walk(body.node, scope, {**(versions or self.versions), **own}, {**defaults, **attrs}, f"function {body.name}")
        finally:
            self.prefix.pop()
        if len(self.refused) > refused and (body.domain, body.name) not in self.functions:
            inner = self.refused[refused:]
            del self.refused[refused:]  # the user's model has the op, not what it is made of
            raise Refusal(f"its definition needs {'; '.join(f'{op}: {why}' for op, _, why in inner[:2])}")
        return [scope.get(name) for name in body.output]

    def _branch(
        self, node: onnx.NodeProto, arguments: Sequence[Any], own: dict[str, Any], scope: Scope,
        versions: Mapping[str, int], attrs: Mapping[str, Any],
    ) -> Sequence[Any]:  # fmt: skip
        """The branch of an If whose condition is known when compiling."""
        condition = arguments[0]
        self.context.begin(node, own, 0, arguments, self._origin(node))
        if condition is None:
            raise Refusal("needs a condition")
        chosen = own["then_branch" if bool(self.context.array_of(condition, "the condition of If").all()) else "else_branch"]
        if len(self.prefix) >= MAX_DEPTH:
            raise Refusal("branches are nested too deeply")
        inner = dict(scope)
        for tensor in chosen.initializer:
            inner[tensor.name] = self.constant(tensor)
        self.prefix.append(self.prefix[-1] if self.prefix else "")
        try:
            self.walk(chosen.node, inner, versions, attrs, f"a branch of {place_of(node)}")
        finally:
            self.prefix.pop()
        return [inner[output.name] for output in chosen.output]

    def constant(self, tensor: onnx.TensorProto, position: int | None = None) -> Value:
        """An initializer of the model, or of a branch."""
        span = None if position is None else self.file.spans.get(position)
        array, dtype = self.file.tensor(tensor, span)
        return self.builder.const(array, dtype, name=tensor.name)

    def _origin(self, node: onnx.NodeProto) -> Origin:
        """A node of a function's body belongs to the module that calls the function."""
        outer = next((p for p in reversed(self.prefix) if p), "")
        return Origin(outer or module_of(node))


def module_of(node: onnx.NodeProto) -> str:
    """Path of a node in the source model.

    torch's exporters write it into the node's metadata, or into its name (`/layer1/0/conv1/Conv`); other names are
    taken as they are, and a node without one is called by its first result.
    """
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                break
            if isinstance(scopes, list) and len(scopes) > 1 and isinstance(scopes[-2], str):
                return scopes[-2]
    name = node.name or next((o for o in node.output if o), "")
    if name.startswith("/"):
        return ".".join(name.strip("/").split("/")[:-1])
    return name


def listed(refused: Sequence[tuple[str, str, str]], name: str) -> QCError:
    """One error for every op that could not be converted, with its places."""
    places: dict[tuple[str, str], list[str]] = {}
    for op, place, reason in refused:
        places.setdefault((op, reason), []).append(place)
    return UnsupportedError(
        f"{len(places)} {'op' if len(places) == 1 else 'ops'} of {name} cannot be imported:\n"
        + "\n".join(_lines(places))
        + "\nReplace these parts of the model, or leave them out of what is compiled."
    )


def _lines(places: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[str]:
    for (op, reason), where in places.items():
        more = f" and {len(where) - 3} more" if len(where) > 3 else ""
        yield f"  {op}: {reason}\n    at {'; '.join(where[:3])}{more}"
