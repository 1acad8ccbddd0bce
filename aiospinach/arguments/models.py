"""Models of pydantic and unions of them: how they are written and read, without importing pydantic."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime, time
from typing import Any

import msgspec

from .type_rewriting import members_of, stand_in, without_metadata


def is_model(kind: object) -> bool:
    """It is a model of pydantic. pydantic's dataclasses are none: msgspec reads them as dataclasses."""
    return _is_pydantic(kind) and hasattr(kind, "model_validate_json")


def write_model(value: Any) -> Any:
    """A model as plain data, without pydantic's warnings.

    A warning would print the value. The comparison after reading finds what it would warn of.
    """
    kind: Any = type(value)
    by_alias = not uses_field_names(kind)
    return value.model_dump(mode="json", round_trip=True, by_alias=by_alias, warnings=False)


def read_model(kind: Any, value: Any) -> Any:
    """A model from plain data."""
    names: dict[str, Any] = {"by_alias": False, "by_name": True} if uses_field_names(kind) else {}
    return kind.model_validate_json(msgspec.json.encode(value), **names)


def union_of_models(hint: Any) -> Any:
    """A class that stands in for a union with models, which pydantic reads; None for any other hint."""
    members = [
        without_metadata(member) for member in members_of(without_metadata(hint)) if member is not type(None)
    ]
    models = [member for member in members if is_model(member)]
    if not models or len(members) < 2:
        return None
    adapter: Any = sys.modules["pydantic"].TypeAdapter(hint)  # the module of the model has imported pydantic
    names = {"by_alias": True, "by_name": True} if any(map(uses_field_names, models)) else {}
    return stand_in("Union", lambda value: adapter.validate_json(msgspec.json.encode(value), **names))


@functools.lru_cache(1024)
def uses_field_names(kind: Any) -> bool:
    """The model is written and read by field names, since an alias differs between writing and reading.

    pydantic supports that from version 2.11 on.
    """
    if "by_name" not in inspect.signature(kind.model_validate_json).parameters:
        return False
    return any(
        (field.serialization_alias or name) not in _read_names(model, name, field)
        for model in _classes_in(kind, set())
        for name, field in fields_of(model).items()
    )


@functools.lru_cache(1024)
def may_hold_datetimes(kind: Any) -> bool:
    """A field of the model, or of a model within it, may hold a datetime or a time."""
    hints = [field.annotation for model in _classes_in(kind, set()) for field in fields_of(model).values()]
    parts = [part for hint in hints for part in _parts_of(hint)]
    return any(map(_may_hold_datetimes, parts))


def fields_of(kind: Any) -> Mapping[str, Any]:
    """The fields of a pydantic class, by name."""
    found: Mapping[str, Any] = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", {})
    return found


def is_default(field: Any, value: Any) -> bool:
    """The field has this value by default."""
    return not field.is_required() and bool(field.get_default(call_default_factory=True) == value)


def _is_pydantic(kind: object) -> bool:
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__")


def _may_hold_datetimes(part: Any) -> bool:
    if not isinstance(part, type):
        return part is Any
    has_fields_of_others = "__annotations__" in vars(part) and not _is_pydantic(part)
    return issubclass(part, (datetime, time)) or has_fields_of_others


def _read_names(model: Any, name: str, field: Any) -> set[str]:
    config = getattr(model, "model_config", {})
    alias = field.validation_alias
    if alias is None or config.get("validate_by_alias") is False:
        return {name}
    choices = [alias] if isinstance(alias, str) else getattr(alias, "choices", [])
    is_known = config.get("populate_by_name") or config.get("validate_by_name")
    return {choice for choice in choices if isinstance(choice, str)} | ({name} if is_known else set())


def _classes_in(kind: Any, seen: set[Any]) -> Iterator[Any]:
    """The class, and every pydantic class within it."""
    if _is_pydantic(kind) and kind not in seen:
        seen.add(kind)
        yield kind
        for field in fields_of(kind).values():
            for part in _parts_of(field.annotation):
                yield from _classes_in(part, seen)


def _parts_of(hint: Any) -> Iterator[Any]:
    hint = without_metadata(hint)
    yield hint
    for part in typing.get_args(hint):
        yield from _parts_of(part)
