"""A form made of the type hints of a task, and the arguments that its fields stand for."""

from __future__ import annotations

import enum
import inspect
import math
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from aiospinach import InvalidArguments, Task

ARGUMENT = "argument."
"""What the names of the fields of arguments begin with."""
_WRITTEN_AS_TEXT = (str, bytes, datetime, date, time, timedelta, Decimal, UUID)
_EXAMPLES = {
    datetime: "2026-11-29T08:00:00Z",
    date: "2026-11-29",
    time: "08:00:00",
    timedelta: "PT90S (90 seconds), or P1D (a day)",
    bytes: "aGVsbG8= (base64)",
    UUID: "123e4567-e89b-12d3-a456-426614174000",
}


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter."""

    name: str
    kind: str
    """text, number, choice or json."""
    hint: str
    has_default: bool
    may_be_none: bool
    default: str = ""
    """The default as text, for a placeholder."""
    choices: Sequence[str] = ()
    """The values to choose from, as JSON."""
    is_integer: bool = False
    value: str = ""
    """What the visitor has typed."""

    @property
    def is_needed(self) -> bool:
        """The field may not be empty. A text may be."""
        return not self.has_default and not self.may_be_none and self.kind != "text"

    @property
    def field(self) -> str:
        """The name of its field in the form."""
        return f"{ARGUMENT}{self.name}"


def fields_of(task: Task[..., Any], typed: Mapping[str, str]) -> list[Field]:
    """The fields of a task, with what a visitor has typed. Raises UnsupportedType.

    Parameters that take any number of arguments have none.
    """
    return [
        _field_of(parameter, typed.get(f"{ARGUMENT}{parameter.name}", ""))
        for parameter in task.signature.parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def arguments_of(task: Task[..., Any], typed: Mapping[str, str]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that the fields stand for. An empty field of a parameter with a default is left out.

    Raises InvalidArguments, which names the parameter and not the value.
    """
    values = {
        field.name: _json_of(field)
        for field in fields_of(task, typed)
        if field.value or not field.has_default
    }
    read = task.read_values(values)
    parameters = task.signature.parameters
    only = [name for name in read if parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY]
    return [read.pop(name) for name in only], read


def _field_of(parameter: inspect.Parameter, value: str) -> Field:
    kinds, may_be_none = _members_of(parameter.annotation)
    choices = _choices_of(kinds)
    kind, hint = _kind_of(kinds, choices), _name_of(parameter.annotation)
    if kind == "text" and kinds[0] in _EXAMPLES:
        hint = f"{hint}, such as {_EXAMPLES[kinds[0]]}"
    has_default = parameter.default is not parameter.empty
    return Field(
        name=parameter.name,
        kind=kind,
        hint=hint,
        has_default=has_default,
        may_be_none=may_be_none,
        default=_default_text(parameter.default) if has_default else "",
        choices=[*choices, "null"] if choices and may_be_none else choices,
        is_integer=kinds == [int],
        value=value,
    )


def _kind_of(kinds: Sequence[Any], choices: Sequence[str]) -> str:
    if choices:
        return "choice"
    [kind] = kinds if len(kinds) == 1 else [None]
    if kind in (int, float):
        return "number"
    return "text" if kind in _WRITTEN_AS_TEXT else "json"


def _members_of(hint: Any) -> tuple[list[Any], bool]:
    """The types that a hint allows, without None, and whether it allows None."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return [each for each in members if each not in (None, type(None))], type(None) in members


def _choices_of(kinds: Sequence[Any]) -> list[str]:
    """The values of a bool, an Enum or a Literal as JSON; none for other hints."""
    [kind] = kinds if len(kinds) == 1 else [None]
    values: Sequence[Any] = ()
    if kind is bool:
        values = (True, False)
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        values = list(kind)
    elif typing.get_origin(kind) is typing.Literal:
        values = typing.get_args(kind)
    return [msgspec.json.encode(value).decode() for value in values]


def _json_of(field: Field) -> bytes:
    """The JSON that a field stands for. Raises InvalidArguments if it is none."""
    if not field.value and field.may_be_none:
        return b"null"
    if field.kind == "text":
        return msgspec.json.encode(field.value)
    text = field.value.strip()
    if field.kind == "number":
        text = text.replace(",", "").replace("\N{NO-BREAK SPACE}", "").lstrip("+")
    try:
        value = msgspec.json.decode(text or "null")
    except (msgspec.MsgspecError, RecursionError):
        expected = "a number" if field.kind == "number" else 'JSON, such as 5, "text", [1, 2] or {"a": 1}'
        raise InvalidArguments(f"argument '{field.name}' takes {expected}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArguments(f"argument '{field.name}' takes a number that JSON can hold")
    return text.encode() or b"null"


def _default_text(default: object) -> str:
    """The default for a placeholder, where it is plain; other defaults may be long, or secrets."""
    value = default.value if isinstance(default, enum.Enum) else default
    is_plain = default is None or isinstance(default, (bool, int, float, enum.Enum))
    return f"default: {value}" if is_plain else "has a default"


def _name_of(hint: Any) -> str:
    """The name of a type, for people."""
    if hint is Any or hint is inspect.Parameter.empty:
        return "any JSON"
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "").replace("datetime.", "")
