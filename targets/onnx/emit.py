"""Graph -> ONNX ModelProto: one rule per op, chosen by the target's style. Never by way of torch.onnx.

Opset 21 and IR version 10 are always written: newer defaults of the onnx package are refused by runtimes. The
same graph gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Graph, Level, Node, Value
from qcompiler.ir.dims import is_symbolic
from qcompiler.passes.quantize.float_form import rounded_form

from ..base import KernelChoice
from . import emit_elementwise, emit_kernels, emit_linear, emit_movement, emit_norm, emit_qdq, emit_qonnx
from .emit_attention import emit_attention, plan_attention
from .emit_cached_attention import CachePlan, emit_cached_attention, emit_rotary, plan_cached_attention
from .emit_elementwise import Rule
from .emit_groups import emit_stack, plan_stacks
from .emitter import Emitter, Style, tensor_type
from .power_of_two import real_rescaling
from .quantized_common import plan_fusions

OPSET, DOMAIN_VERSION, IR_VERSION = 21, 1, 10
# Protobuf messages end at 2 GiB; larger weights go to a file beside the model.
EXTERNAL_DATA_BYTES = 1_500_000_000
EXTERNAL_TENSOR_BYTES = 1024  # smaller tensors stay in the model: shapes have to be known when it is loaded

FLOAT_RULES: dict[str, Rule] = {
    **emit_elementwise.RULES,
    **emit_movement.RULES,
    **emit_linear.RULES,
    **emit_norm.RULES,
}


@dataclass(frozen=True)
class EmittedModel:
    """An ONNX model and how each node of the graph became part of it.

    Attributes:
        proto: the model, weights inside.
        rows: kernel of every node.
        tensors: tensor name of every value that exists in the model.
        sources: node of the graph that each ONNX node came from, by ONNX node name.
    """

    proto: onnx.ModelProto
    rows: tuple[KernelChoice, ...]
    tensors: Mapping[Value, str]
    sources: Mapping[str, Node]


def emit_model(graph: Graph, style: Style, metadata: Mapping[str, str] | None = None) -> EmittedModel:
    """Emit a FLOAT or QUANTIZED graph.

    Args:
        graph: verified.
        style: forms to choose.
        metadata: entries of `metadata_props`; keys get the prefix `qcompiler.`.

    Raises:
        UnsupportedError: an op or dtype without an ONNX form, with its module path.
    """
    if style.simulated:
        graph = rounded_form(graph)
    elif graph.level is Level.INTEGER:
        graph = real_rescaling(graph)
    emitter = Emitter(graph, style)
    fused = emit_kernels.FUSED if style.runtime_kernels else emit_qdq.FUSED
    quantized = emit_kernels.RULES if style.runtime_kernels else emit_qdq.RULES
    if style.simulated:
        fused, quantized = {}, emit_qonnx.RULES
    plan = {} if style.simulated else plan_fusions(graph)
    fast = style.runtime_kernels and not style.plain
    attentions = plan_attention(graph) if fast else {}
    cached = plan_cached_attention(graph) if fast else CachePlan()
    stacks = plan_stacks(graph) if fast else {}
    for node in graph.nodes:
        emitter.current = node
        if node in cached.skipped:
            continue
        if node in stacks:
            if node is stacks[node][0]:
                parts = emit_stack(emitter, stacks[node])
                emitter.names.update(zip((n.output for n in stacks[node]), parts, strict=True))
            continue
        fusion, attention = plan.get(node), attentions.get(node)
        if attention is not None:
            if node is attention.nodes[-1]:
                emitter.names[node.output] = emit_attention(emitter, attention)
            continue
        if fusion is not None and node is fusion.head:
            continue  # emitted with its tail
        if node in cached.attentions:
            results: str | tuple[str, ...] = emit_cached_attention(emitter, cached, cached.attentions[node])
        elif node in cached.rotaries:
            results = emit_rotary(emitter, cached, node)
        elif fusion is not None:
            results = fused[fusion.head.op](emitter, fusion)
        else:
            results = _emit_node(emitter, node, quantized)
        names = (results,) if isinstance(results, str) else tuple(results)
        for value, name in zip(node.outputs, names, strict=True):
            emitter.names[value] = name
    emitter.current = None
    outputs = _name_outputs(emitter)
    return EmittedModel(_model(emitter, outputs, metadata or {}), tuple(emitter.rows), dict(emitter.names), dict(emitter.sources))


def _emit_node(e: Emitter, node: Node, quantized: Mapping[str, Rule]) -> str | tuple[str, ...]:
    on_codes = e.style.simulated or any(v.quant is not None for v in (*node.operands, *node.outputs))
    if node.op in quantized and (on_codes or node.op not in FLOAT_RULES):
        return quantized[node.op](e, node)
    rule = FLOAT_RULES.get(node.op)
    if rule is None:
        raise UnsupportedError(f"{node.where()}: no ONNX form; ops with one: {', '.join(sorted(FLOAT_RULES))}")
    before = len(e.nodes)
    result = rule(e, node)
    kernels = dict.fromkeys(n.op_type for n in e.nodes[before:] if n.op_type not in ("Shape", "Squeeze"))
    e.row(node, "+".join(kernels) or "constant")
    return result


def _name_outputs(e: Emitter) -> list[str]:
    """Give the tensors that are returned the user's names; Identity where a tensor cannot be renamed."""
    produced = {name for node in e.nodes for name in node.output}
    renamed: dict[str, str] = {}
    for value, wanted in zip(e.graph.outputs, e.graph.output_names, strict=True):
        if wanted in {v.name for v in e.graph.inputs}:
            raise UnsupportedError(f"output {wanted!r} has the name of an input; ONNX needs different names")
        name = e.name(value)
        if name in produced and name not in renamed:
            renamed[name] = wanted
        else:
            e.nodes.append(helper.make_node("Identity", [name], [wanted], name=f"{wanted}/Identity"))
    for node in e.nodes:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = renamed.get(name, name)
    for value, name in e.names.items():
        e.names[value] = renamed.get(name, name)
    return list(e.graph.output_names)


def _value_info(name: str, value: Value) -> onnx.ValueInfoProto:
    shape = [str(d) if is_symbolic(d) else int(d) for d in value.shape]
    return helper.make_tensor_value_info(name, tensor_type(value.dtype), shape)


def _tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    if array.dtype.name == "bfloat16":
        raw = np.ascontiguousarray(array).view(np.uint16).tobytes()
        return helper.make_tensor(name, TensorProto.BFLOAT16, array.shape, raw, raw=True)
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def _model(e: Emitter, outputs: list[str], metadata: Mapping[str, str]) -> onnx.ModelProto:
    used = {name for node in e.nodes for name in node.input}
    proto = helper.make_graph(
        e.nodes,
        e.graph.name or "graph",
        [_value_info(v.name, v) for v in e.graph.inputs],
        [_value_info(n, v) for n, v in zip(outputs, e.graph.outputs, strict=True)],
        # each array goes as its tensor is made: a transposed weight is a copy, and two of all would be in memory
        [_tensor(name, e.initializers.pop(name)) for name in list(e.initializers) if name in used],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    opsets += [helper.make_opsetid(domain, DOMAIN_VERSION) for domain in sorted({n.domain for n in e.nodes} - {""})]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="qcompiler")
    helper.set_model_props(model, {f"qcompiler.{k}": str(v) for k, v in sorted(metadata.items())})
    return model


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all weights, counted by tensor: ByteSize() overflows beyond 2 GiB."""
    return sum(len(t.raw_data) for t in model.graph.initializer)


def spill_model(model: onnx.ModelProto, path: Path) -> None:
    """Write the model with its weights in `NAME.data`, tensor by tensor; `model` has none of them afterwards."""
    location = path.name + ".data"
    onnx.save_model(
        model, os.fspath(path), save_as_external_data=True, location=location, size_threshold=EXTERNAL_TENSOR_BYTES
    )


def save_model(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Write the model, weights beside it in `NAME.data` beyond 1.5 GB; returns the files written.

    Raises:
        OSError: disk full, read-only.
    """
    if weight_bytes(model) <= EXTERNAL_DATA_BYTES:
        path.write_bytes(model.SerializeToString(deterministic=True))
        return [path]
    data = path.with_name(path.name + ".data")
    data.unlink(missing_ok=True)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    spill_model(copy, path)
    return [path, data]

