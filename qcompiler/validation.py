"""Turns pydantic's validation errors into messages that name the nearest known field or value."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from qcompiler.errors import did_you_mean


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """One line per problem: `where: rules.0.bitz: unknown field. Did you mean 'bits'?`."""
    lines = dict.fromkeys(_line(item, model, where) for item in error.errors())
    return "\n".join(lines)


def _line(item: Any, model: type[BaseModel], where: str) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = sorted(_model_at(model, item["loc"][:-1]).model_fields)
        name = str(item["loc"][-1])
        return f"{where}: {path}: unknown field.{did_you_mean(name, known)} Known: {', '.join(known)}"
    if item["type"] == "literal_error":
        expected = item["ctx"]["expected"]
        known = expected.replace("'", "").replace(" or ", ", ").split(", ")
        hint = did_you_mean(str(item["input"]), known)
        return f"{where}: {path}: {item['input']!r} is not one of {expected}.{hint}"
    if item["type"] == "missing":
        return f"{where}: {path} is missing"
    return f"{where}: {path}: {item['msg']} (found {_shortened(item['input'])})"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _model_at(model: type[BaseModel], loc: tuple[Any, ...]) -> type[BaseModel]:
    """The model class that holds the field at `loc`; list indices and union tags are passed over."""
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            inner = _inner_model(model.model_fields[part].annotation)
            model = inner or model
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _inner_model(arg))), None)
