"""Finds the part of an argument that would not arrive equal, and the remedy that an error names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime, time
from typing import Any

import msgspec

from .models import fields_of, is_default, is_model
from .zones import is_same_zone

SECRET = "is a secret, which is written as asterisks; pass an identifier of it, and read it in the task"
EXCLUDED = "is excluded when the model is written; take it out of the model, or pass it as a parameter"
PRIVATE = "is private, and is not written; make it a field, or pass it as a parameter"
ZONE = (
    "has a time zone, of which only the offset would arrive; pass it as a parameter that is annotated with"
    " datetime, or as value.astimezone(UTC)"
)
FOLD = "is naive and has a fold, which would be lost; give it a time zone"
TIME_ZONE = "is a time of a zone, which would be lost; pass the name of the zone as a parameter"
DEEPEST = 64


def find_lost_zone(value: Any, copy: Any) -> str | None:
    """Names the first datetime or time that lost its zone or fold in a copy that is equal, or None."""
    for path, part, other in _pairs("", value, copy):
        if isinstance(part, (datetime, time)) and type(other) is type(part) and not is_same_zone(part, other):
            why = FOLD if part.tzinfo is None else ZONE if isinstance(part, datetime) else TIME_ZONE
            return f"{_named(path)} {why}"
    return None


def find_lost_part(value: Any, copy: Any = None) -> str | None:
    """Names a part of the value that is never written, or else a part that differs in the copy.

    Returns None if no such part is found, or if classes of users raise.
    """
    try:
        return _find_unwritten_part(value) or (None if copy is None else _find_changed_part(value, copy))
    except Exception:
        return None


def _find_unwritten_part(value: Any) -> str | None:
    for path, part, _ in _pairs("", value, value):
        if hasattr(type(part), "get_secret_value"):
            return f"{_named(path)} {SECRET}"
        if is_model(type(part)):
            for name, field in fields_of(type(part)).items():
                if field.exclude and not is_default(field, getattr(part, name)):
                    return f"{_named(f'{path}.{name}')} {EXCLUDED}"
    return None


def _find_changed_part(value: Any, copy: Any) -> str | None:
    if found := find_lost_zone(value, copy):
        return found
    for path, part, other in _pairs("", value, copy):
        if is_model(type(part)) and getattr(part, "__pydantic_private__", None) != getattr(
            other, "__pydantic_private__", None
        ):
            return f"{_named(f'{path}.{min(part.__pydantic_private__)}')} {PRIVATE}"
    differing = [each for each in _pairs("", value, copy) if each[0] and _differs(*each[1:])]
    if not differing:
        return None
    path, part, other = max(differing, key=lambda each: len(each[0]))
    if type(part) is type(other):
        return f"{_named(path)} comes back as another value"
    kinds = f"({type(part).__name__}) comes back as {type(other).__name__}"
    return f"{_named(path)} {kinds}; a type hint of exactly that type keeps it"


def _differs(part: Any, other: Any) -> bool:
    return type(part) is not type(other) or not bool(part == other)


def _pairs(path: str, value: Any, copy: Any, depth: int = 0) -> Iterator[tuple[str, Any, Any]]:
    """The value and all its parts, each with its path and its counterpart in the copy."""
    yield path, value, copy
    if depth > DEEPEST:
        return
    for name, part, other in _parts(value, copy):
        yield from _pairs(path + name, part, other, depth + 1)


def _parts(value: Any, copy: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(value, (str, bytes)) or type(value) is not type(copy):
        return
    if isinstance(value, Mapping):
        for (key, part), (other_key, other) in zip(value.items(), copy.items(), strict=False):
            yield "[key]", key, other_key  # a key is a value of the user's, and never in messages
            yield "[value]", part, other
    elif isinstance(value, (list, tuple)):
        for place, (part, other) in enumerate(zip(value, copy, strict=False)):
            yield f"[{place}]", part, other
    elif isinstance(value, (set, frozenset)):
        others = {other: other for other in copy}
        for part in value:
            yield "[]", part, others.get(part)
    else:
        for name in _names_of(value):
            yield f".{name}", getattr(value, name, None), getattr(copy, name, None)


def _names_of(value: Any) -> list[str]:
    kind = type(value)
    if is_model(kind):
        return list(fields_of(kind))
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if isinstance(value, msgspec.Struct):
        return list(value.__struct_fields__)
    return [field.name for field in getattr(kind, "__attrs_attrs__", ())]


def _named(path: str) -> str:
    return f"its part '{path.removeprefix('.')}'" if path else "it"
