"""A module and example inputs become an ExportedProgram, with the names the user gave to dynamic dimensions."""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ..errors import UnsupportedError, UsageError, did_you_mean
from .fake_quant_modules import settled

log = logging.getLogger("qcompiler.frontend")

DimNames = dict[tuple[int, int], str]  # (which example tensor, which axis) -> name of the dimension


@dataclass(frozen=True)
class Exported:
    """An exported program.

    Attributes:
        program: torch's.
        name: of the model.
        dim_names: names of dynamic dimensions, by (position among the tensor inputs, axis).
        least_sizes: of the dynamic dimensions that were declared with one, by name.
    """

    program: torch.export.ExportedProgram
    name: str
    dim_names: DimNames = field(default_factory=dict)
    least_sizes: Mapping[str, int] = field(default_factory=dict)


def split_inputs(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the forward call that example inputs mean.

    A tensor is the only argument, a tuple or list the positional ones, a mapping with string keys the keyword ones,
    and a pair (tuple, mapping) both.

    Raises:
        UsageError: no example inputs, or none of these forms.
    """
    if example_inputs is None:
        raise UsageError("a module needs example inputs: a tensor, a tuple of tensors, or a dictionary of them")
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, Sequence) and not isinstance(example_inputs, (str, bytes)):
        parts = tuple(example_inputs)
        if len(parts) == 2 and isinstance(parts[0], (tuple, list)) and isinstance(parts[1], Mapping):
            return tuple(parts[0]), dict(parts[1])
        return parts, {}
    if hasattr(example_inputs, "__array__"):
        return (example_inputs,), {}
    raise UsageError(f"example inputs are tensors in a tuple or a dictionary, got {type(example_inputs).__name__}")


def export_module(
    model: torch.nn.Module, example_inputs: Any, dynamic_shapes: Any = None, name: str | None = None
) -> Exported:
    """Export a module in evaluation mode; its training mode and parameters are left as they were.

    Args:
        model: the module.
        example_inputs: see `split_inputs`; NumPy arrays are taken as tensors.
        dynamic_shapes: as torch.export takes it (by argument name or in order): torch Dims, or plain strings, which
            name a dimension and let torch find its range.
        name: of the graph; the class name by default.

    Raises:
        UsageError: inputs that the model does not take, or a dynamic dimension that the model fixes.
        UnsupportedError: a model that torch.export cannot trace.
    """
    args, kwargs = split_inputs(example_inputs)
    args, kwargs = pytree.tree_map(_as_tensor, args), pytree.tree_map(_as_tensor, kwargs)
    kwargs = _without_cache(model, args, kwargs)
    _check_arguments(model, args, kwargs)
    shapes, wishes, least = _dynamic(model, args, kwargs, dynamic_shapes)
    args, kwargs = _avoid_ones(args, kwargs, wishes)
    with settled(model), _evaluation(model), _quiet(), torch.no_grad():
        try:
            program = torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            raise _explain(error, model, args, kwargs) from error
    names = {place: wish for place, wish in wishes.items() if wish}
    exported = Exported(program, name or type(model).__name__, names, least)
    _check_dynamic(exported)
    return exported


def _as_tensor(x: Any) -> Any:
    if hasattr(x, "__array__") and not isinstance(x, torch.Tensor):
        return torch.as_tensor(x)
    return x


def _without_cache(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Language models of transformers return a key-value cache unless told not to; a single pass has no use for it."""
    config = getattr(model, "config", None)
    parameters = inspect.signature(model.forward).parameters
    taken = list(parameters)[: len(args)]
    if getattr(config, "use_cache", False) and "use_cache" in parameters and "use_cache" not in (*kwargs, *taken):
        log.info("%s: captured without its key-value cache (use_cache=False)", type(model).__name__)
        return {**kwargs, "use_cache": False}
    return kwargs


def _check_arguments(model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        unknown = [k for k in kwargs if k not in signature.parameters]
        hint = did_you_mean(unknown[0], signature.parameters) if unknown else ""
        raise UsageError(
            f"the example inputs do not fit {type(model).__name__}.forward{signature}: {error}.{hint}"
        ) from None


def _dynamic(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic_shapes: Any
) -> tuple[Any, DimNames, dict[str, int]]:
    """Torch's form of the dynamic shapes, the name of each dynamic dimension ("" for none), declared least sizes."""
    if dynamic_shapes is None:
        return None, {}, {}
    bound = inspect.signature(model.forward).bind(*args, **kwargs)
    arguments = _arguments(bound, kwargs)
    by_name = _by_name(arguments, dynamic_shapes)
    wishes: DimNames = {}
    least: dict[str, int] = {}
    shapes: dict[str, Any] = {}
    position = 0
    for argument, value in arguments.items():
        leaves, spec = pytree.tree_flatten(value)
        wanted = by_name.get(argument)
        forms = _per_leaf(wanted, value, len(leaves), argument)
        for i, leaf in enumerate(leaves):
            forms[i] = _axes(forms[i], leaf, argument)
            for axis, dim in (forms[i] or {}).items():
                if dim is not None and not isinstance(dim, int):
                    wishes[position, axis] = _dim_name(dim)
                    if isinstance(smallest := getattr(dim, "min", None), int) and smallest > 0:
                        least[_dim_name(dim)] = smallest
                    forms[i][axis] = torch.export.Dim.AUTO if isinstance(dim, str) else dim
            position += isinstance(leaf, torch.Tensor)
        shapes[argument] = pytree.tree_unflatten(forms, spec) if leaves else None
    return _regroup(bound, shapes), wishes, least


def _arguments(bound: inspect.BoundArguments, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name in the program's order: positional ones, then keyword ones as given; `*args` by index."""
    flat: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            flat.update({f"{name}[{i}]": v for i, v in enumerate(value)})
        elif kind is not inspect.Parameter.VAR_KEYWORD and name not in kwargs:
            flat[name] = value
    return {**flat, **kwargs}


def _regroup(bound: inspect.BoundArguments, shapes: dict[str, Any]) -> Any:
    """Back into the nesting of the signature, as torch.export wants it."""
    grouped: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            grouped[name] = {k: shapes[k] for k in value}
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            grouped[name] = tuple(shapes[f"{name}[{i}]"] for i in range(len(value)))
        else:
            grouped[name] = shapes[name]
    return grouped


def _by_name(arguments: Mapping[str, Any], dynamic_shapes: Any) -> dict[str, Any]:
    if isinstance(dynamic_shapes, Mapping):
        for key in dynamic_shapes:
            if key not in arguments:
                known = ", ".join(arguments)
                raise UsageError(
                    f"dynamic_shapes names {key!r}, the example inputs are {known}.{did_you_mean(str(key), arguments)}"
                )
        return dict(dynamic_shapes)
    if isinstance(dynamic_shapes, Sequence) and not isinstance(dynamic_shapes, str):
        if len(dynamic_shapes) > len(arguments):
            raise UsageError(f"dynamic_shapes has {len(dynamic_shapes)} entries, the model gets {len(arguments)} inputs")
        return dict(zip(arguments, dynamic_shapes, strict=False))
    raise UsageError(f"dynamic_shapes is a dictionary by input name or a tuple, got {type(dynamic_shapes).__name__}")


def _per_leaf(wanted: Any, value: Any, count: int, argument: str) -> list[Any]:
    """One entry per tensor of an argument."""
    if wanted is None:
        return [None] * count
    if isinstance(value, torch.Tensor):
        return [wanted]
    found: list[Any] = []

    def visit(form: Any, part: Any) -> None:
        if isinstance(part, (list, tuple)):
            for i, item in enumerate(part):
                visit(form[i] if form is not None else None, item)
        elif isinstance(part, Mapping):
            for key, item in part.items():
                visit(form.get(key) if form is not None else None, item)
        else:
            found.append(form)

    try:
        visit(wanted, value)
    except (TypeError, IndexError, AttributeError, KeyError):
        found = []
    if len(found) != count:
        raise UsageError(f"dynamic_shapes of {argument!r} must be nested like its example input")
    return found


def _axes(form: Any, leaf: Any, argument: str) -> dict[int, Any] | None:
    """{axis: dimension} with axes counted from the front; a sequence has one entry per axis."""
    if form is None or not isinstance(leaf, torch.Tensor):
        return None
    if isinstance(form, Sequence) and not isinstance(form, str):
        form = dict(enumerate(form))
    if not isinstance(form, Mapping):
        raise UsageError(f"dynamic_shapes of {argument!r} is {{axis: name}} or one entry per axis, got {form!r}")
    axes: dict[int, Any] = {}
    for axis, dim in form.items():
        if not isinstance(axis, int) or not -leaf.ndim <= axis < leaf.ndim:
            raise UsageError(f"dynamic_shapes of {argument!r} names axis {axis!r}; the input has {leaf.ndim} axes")
        axes[axis % leaf.ndim] = dim
    return axes


def _dim_name(dim: Any) -> str:
    if isinstance(dim, str):
        return dim
    name = getattr(dim, "__name__", "")
    return name if name.isidentifier() else ""


def _avoid_ones(args: Any, kwargs: Any, wishes: DimNames) -> tuple[Any, Any]:
    """Examples doubled along dynamic axes of size 1: torch.export takes a size of 1 for a constant."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    position = -1
    ones: set[str] = set()
    for leaf in leaves:
        position += isinstance(leaf, torch.Tensor)
        for (where, axis), name in wishes.items():
            if isinstance(leaf, torch.Tensor) and where == position and leaf.shape[axis] == 1:
                ones.add(name)
    position = -1
    for i, leaf in enumerate(leaves):
        if not isinstance(leaf, torch.Tensor):
            continue
        position += 1
        for (where, axis), name in wishes.items():
            if where == position and leaves[i].shape[axis] == 1 and name in ones:
                leaves[i] = torch.cat([leaves[i], leaves[i]], axis)
    return pytree.tree_unflatten(leaves, spec)


def _check_dynamic(exported: Exported) -> None:
    """A dimension declared dynamic must be dynamic in the program."""
    program = exported.program
    users = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in program.graph_signature.user_inputs]
    tensors = [n for n in users if isinstance(n.meta.get("val"), torch.Tensor)]
    for (position, axis), name in exported.dim_names.items():
        size = tensors[position].meta["val"].shape[axis]
        if isinstance(size, int) or size.node.expr.is_Integer:
            raise UsageError(
                f"axis {axis} of input {tensors[position].target!r} is declared dynamic ({name!r}), but the model fixes"
                f" it to {size}; leave it out of dynamic_shapes, or change the code that fixes it"
            )


@contextlib.contextmanager
def _evaluation(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside, each module's own mode back after."""
    training = [m for m in model.modules() if m.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _WithoutPrograms:
    """A stream that passes everything on but the half-traced program that torch prints when tracing fails."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if text.lstrip().startswith("def forward(self") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes to its own developers."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(_WithoutPrograms(sys.stderr)):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


QUANT_TENSORS = (
    ". Layers of Brevitas that pass QuantTensors on cannot be traced: make them with return_quant_tensor=False, or compile"
    " the .onnx file that brevitas.export.export_qonnx writes"
)


def _explain(error: Exception, model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exception:
    """torch.export's failures in our classes: broken constraints and inputs are usage, untraceable code is not."""
    text = str(error).strip()
    first = " ".join(text.split("\n\n")[0].split())[:600]
    name = type(model).__name__
    if "Constraints violated" in text or "Suggested fixes" in text and "dynamic" in text:
        advice = " ".join(text[text.find("Suggested fixes") :].split())[:400] if "Suggested fixes" in text else ""
        return UsageError(f"dynamic_shapes do not hold for {name}: {first} {advice}".strip())
    try:
        model(*args, **kwargs)
    except Exception as own:
        reason = " ".join(str(own).split())[:400]
        return UsageError(f"{name} itself fails on the example inputs: {type(own).__name__}: {reason}")
    instead = QUANT_TENSORS if any(type(m).__module__.startswith("brevitas.") for m in model.modules()) else ""
    return UnsupportedError(f"torch.export cannot trace {name} ({type(error).__name__}): {first}{instead}")
