"""An ExportedProgram becomes a graph: inputs, weights, converted nodes, named outputs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from ..errors import UnsupportedError
from ..executors.tensors import to_array
from ..ir import Graph, GraphBuilder, Level, Value, get_op, verify_graph
from ..ir.dims import is_symbolic
from .aliasing import mutates, writes_through_alias
from .context import Refusal, to_dtype
from .convert import Converter, is_size, target_name, unknown_ops, unsupported
from .decompose import decompose_unknown, run_decompositions
from .export import Exported
from .origin import OriginReader
from .simulated import read_simulated
from .symbols import DimTranslator

log = logging.getLogger("qcompiler.frontend")

UNLIMITED = 1 << 62
"""Sizes from here on are what torch.export says where nobody gave a largest one."""


def to_graph(exported: Exported) -> Graph:
    """Convert a program.

    Raises:
        UnsupportedError: naming every op without a counterpart, a state that the model changes, a size that depends
            on data.
    """
    program = exported.program
    program = functionalize_if_needed(program)
    program = decompose_unknown(program)
    names = name_symbols(program, exported.dim_names)
    dims = DimTranslator(names, program.range_constraints)
    builder = GraphBuilder(exported.name)
    converter = Converter(builder, dims)
    arguments = list(_inputs(program, builder, dims))
    results = converter.walk(program.graph_module, arguments)
    if converter.refused:
        raise unsupported(converter.refused, converter.origins)
    outputs: dict[str, Value] = {}
    for name, value in _outputs(program, results):
        outputs[name] = value if isinstance(value, Value) else builder.op("dim", value=value, name=name)
    if not outputs:
        raise UnsupportedError(f"{exported.name} returns no tensor")
    graph = builder.build(list(outputs.values()), list(outputs))
    graph = read_simulated(graph)
    if any(get_op(node.op).category == "quantized" for node in graph.nodes):
        graph = graph.with_level(Level.QUANTIZED)
    verify_graph(graph)
    return graph


# -- inputs --------------------------------------------------------------------------------------------------


def _inputs(program: torch.export.ExportedProgram, builder: GraphBuilder, dims: DimTranslator) -> Iterator[Any]:
    """What stands for each placeholder: a graph input, a weight (tied ones once), or a Python constant."""
    weights: dict[Any, Value] = {}
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            fake = node.meta.get("val")
            if isinstance(fake, torch.Tensor):
                yield _user_input(builder, node, fake, dims)
            else:
                yield fake  # None, a flag, a number that the program was specialised to
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            target = str(spec.target)
            found = program.state_dict.get(target)
            tensor = found if found is not None else program.constants[target]
            if not isinstance(tensor, torch.Tensor):
                raise UnsupportedError(f"{target} is a {type(tensor).__name__}; only tensors can be weights")
            key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            if key not in weights or not tensor.numel():
                weights[key] = builder.const(to_array(tensor), _dtype(tensor, target), name=target)
            yield weights[key]
        else:
            raise UnsupportedError(f"input {node.name} of the program is a {spec.kind.name.lower()}; only tensors are taken")


def _dtype(tensor: torch.Tensor, name: str) -> Any:
    try:
        return to_dtype(tensor.dtype)
    except Refusal as error:
        raise UnsupportedError(f"{name}: {error}") from None


def _user_input(builder: GraphBuilder, node: Any, fake: torch.Tensor, dims: DimTranslator) -> Value:
    return builder.input(str(node.target), _dtype(fake, f"input {node.target}"), dims.shape(fake.shape))


def name_symbols(program: torch.export.ExportedProgram, wishes: Mapping[tuple[int, int], str]) -> dict[str, str]:
    """A name for each of torch's symbols that is the size of an input's axis.

    The user's name, or `batch` for the first axis, `seq` for the second of an integer input, else `<input>_<axis>`.
    Two symbols with one name are one dimension from here on: that is what the user said.
    """
    names: dict[str, str] = {}
    guesses: dict[str, str] = {}
    specs = program.graph_signature.input_specs
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
    users = [n for n, s in zip(placeholders, specs, strict=True) if s.kind is InputKind.USER_INPUT]
    tensors = [n for n in users if isinstance(n.meta.get("val"), torch.Tensor)]
    for position, node in enumerate(tensors):
        fake = node.meta["val"]
        for axis, size in enumerate(fake.shape):
            if not isinstance(size, torch.SymInt) or not size.node.expr.is_Symbol:
                continue
            symbol = size.node.expr.name
            wish = wishes.get((position, axis), "")
            if wish and symbol not in names:
                names[symbol] = wish
            integer = not fake.dtype.is_floating_point and fake.dim() == 2
            guess = "batch" if axis == 0 else "seq" if axis == 1 and integer else f"{node.target}_{axis}"
            guesses.setdefault(symbol, guess)
    for symbol, guess in guesses.items():
        if symbol not in names:
            taken = set(names.values())
            names[symbol] = guess if guess not in taken else next(
                f"{guess}_{i}" for i in range(1, len(guesses) + 1) if f"{guess}_{i}" not in taken
            )
    return names


def declared_ranges(exported: Exported) -> dict[str, tuple[int, int | None]]:
    """Least and largest size of every symbolic dimension that the user limited, by the graph's name of it.

    torch.export says 2 where nobody named a least size, because it treats 0 and 1 as constants while it traces: no
    limit, unless 2 was declared. A largest size that nobody named is None.
    """
    ranges: dict[str, tuple[int, int | None]] = {}
    names = name_symbols(exported.program, exported.dim_names)
    for symbol, limits in exported.program.range_constraints.items():
        name = names.get(str(symbol))
        if name is None:
            continue
        low = int(limits.lower) if limits.lower > 2 else exported.least_sizes.get(name, 0)
        high = int(limits.upper) if limits.upper < UNLIMITED else None
        before = ranges.get(name, (0, None))
        highs = [h for h in (high, before[1]) if h is not None]
        ranges[name] = (max(low, before[0]), min(highs) if highs else None)
    return {name: limits for name, limits in ranges.items() if limits != (0, None)}


# -- outputs -------------------------------------------------------------------------------------------------


def _outputs(program: torch.export.ExportedProgram, results: list[Any]) -> Iterator[tuple[str, Any]]:
    """(name, value) of each tensor that the model returns; Nones and Python constants are dropped."""
    specs = program.graph_signature.output_specs
    names = iter(output_names(program.call_spec.out_spec))
    for spec, value in zip(specs, results, strict=True):
        if spec.kind is not OutputKind.USER_OUTPUT:
            if spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION):
                raise UnsupportedError(state_message(str(spec.target)))
            continue  # the caller's own tensor is changed: no result of the model
        name = next(names)
        if isinstance(value, Value) or (not isinstance(value, (bool, float, str)) and value is not None and is_symbolic(value)):
            yield name, value
        elif value is not None:
            log.info("output %s is the constant %r and is left out", name, value)


def output_names(spec: Any) -> list[str]:
    """One name per leaf: keys of dictionaries and ModelOutputs, `output_i` for positions at top level."""
    placeholders: list[Any] = list(range(spec.num_leaves))
    structure = pytree.tree_unflatten(placeholders, spec)
    paths, _ = pytree.tree_flatten_with_path(structure)
    names: list[str] = []
    for path, _ in paths:
        parts = [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path]
        name = "_".join(parts)
        if not parts:
            name = "output_0"
        elif parts[0].isdigit():
            name = f"output_{name}"
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def state_message(name: str) -> str:
    """Why a buffer that the model writes is refused."""
    return (
        f"the model changes its buffer {name!r} while it runs. A compiled program has no state: call eval() on the model,"
        " or pass the state in as an input and return its new value."
    )


# -- in-place ops --------------------------------------------------------------------------------------------


def functionalize_if_needed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program without in-place ops that plain renaming cannot express; usually the program itself.

    Raises:
        UnsupportedError: a buffer or parameter of the model is written.
    """
    blocks = [m for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    inner = any(n.op == "call_function" and mutates(n) for m in blocks[1:] for n in m.graph.nodes)
    if not inner and not writes_through_alias(program.graph):
        _refuse_state_changes(program)
        return program
    program = run_decompositions(program, {})
    signature = program.graph_signature
    for target in signature.buffers_to_mutate.values():
        raise UnsupportedError(state_message(target))
    return program


def _refuse_state_changes(program: torch.export.ExportedProgram) -> None:
    specs = program.graph_signature.input_specs
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
    state = {
        n: str(s.target)
        for n, s in zip(placeholders, specs, strict=True)
        if s.kind in (InputKind.BUFFER, InputKind.PARAMETER)
    }
    for node in program.graph.nodes:
        if node.op == "call_function" and mutates(node) and not is_size(node):
            root = node.args[0]
            while isinstance(root, torch.fx.Node) and root.op == "call_function" and mutates(root):
                root = root.args[0]
            if root in state:
                raise UnsupportedError(f"{state_message(state[root])} ({OriginReader().read(node).source})")


__all__ = ["name_symbols", "output_names", "target_name", "to_graph", "unknown_ops"]
