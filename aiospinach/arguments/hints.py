"""Type hints of parameters: how values of a hint are written, read back and compared."""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from ..exceptions import UnsupportedType
from ..functions import underlying_function
from .differences import find_lost_zone
from .models import is_model, may_hold_datetimes, read_model, union_of_models, write_model
from .type_rewriting import StandIn, rewrite_hint
from .zones import stand_in_for_datetime

# For values of these classes equality is proof enough. Others must come back as exactly their class: a
# subclass that inherits __eq__ may be equal, and have lost its own fields.
_PLAIN = frozenset(
    {str, int, float, bool, type(None), list, dict, tuple, set, frozenset, bytes, bytearray}
    | {datetime, date, time, timedelta, Decimal, UUID}
)
_CLASSES = (msgspec.inspect.StructType, msgspec.inspect.DataclassType, msgspec.inspect.CustomType)


def _write_hook(value: Any) -> Any:
    if is_model(type(value)):
        return write_model(value)
    raise NotImplementedError


def _read_hook(kind: Any, value: Any) -> Any:
    return kind.read(value) if isinstance(kind, StandIn) else read_model(kind, value)


write: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=_write_hook).encode
_write_in_order = msgspec.json.Encoder(enc_hook=_write_hook, order="deterministic").encode


class ParameterHint:
    """The hint of one parameter, which errors call ``what``.

    Raises NameError if the hint names something that is not defined yet, and UnsupportedType if JSON cannot
    hold its values.
    """

    __slots__ = ("_holds_objects", "keeps_zones", "may_hold_datetimes", "read", "type")

    def __init__(self, hint: Any, what: str) -> None:
        if hint is object:
            hint = Any
        try:
            hint = rewrite_hint(hint, union_of_models)
            kinds = list(_kinds_in(msgspec.inspect.type_info(hint), set()))
            read = reader_of(hint)
        except NameError:
            raise
        except Exception as error:
            raise UnsupportedType(f"{what} has a type hint whose values JSON cannot hold: {error}") from None
        for kind in kinds:
            _check_kind(kind, what)
        self._holds_objects = any(isinstance(kind, _CLASSES) for kind in kinds)
        self.may_hold_datetimes: bool = any(map(_has_datetimes, kinds))
        """Its values may hold a datetime or a time."""
        self.type: Any = hint
        self.read: Callable[[msgspec.Raw | bytes], Any] = read
        """Reads a value from JSON; raises what msgspec and the classes of the hint raise."""
        read_zoned = _zoned_reader_of(hint) if self.may_hold_datetimes else None
        self.keeps_zones: bool = read_zoned is not None
        """Datetimes of this hint are written with their zones."""
        if read_zoned is not None:
            self.read = _read_either_way(read, read_zoned)

    def is_same(self, value: Any, copy: Any) -> bool:
        """The copy that was read back is equal and of the same class, and has lost no field, zone or fold."""
        try:
            if not bool(value == copy):
                return False
            if self._holds_objects and _write_in_order(value) != _write_in_order(copy):
                return False  # a part was of a subclass, and has lost its own fields
            if self.may_hold_datetimes and not _is_utc(value) and find_lost_zone(value, copy):
                return False
        except Exception:
            return False
        # An instance of a subclass of a plain class would lose its own attributes.
        return type(copy) is type(value) or (type(copy) in _PLAIN and not getattr(value, "__dict__", None))


def _is_utc(value: Any) -> bool:
    """The most common datetime, which loses nothing."""
    return type(value) is datetime and value.tzinfo is UTC


def _has_datetimes(kind: Any) -> bool:
    if isinstance(kind, msgspec.inspect.CustomType):
        return isinstance(kind.cls, StandIn) or may_hold_datetimes(kind.cls)
    return isinstance(kind, (msgspec.inspect.DateTimeType, msgspec.inspect.TimeType))


def _zoned_reader_of(hint: Any) -> Callable[[Any], Any] | None:
    """A reader of datetimes with zones; None for a hint that has no datetimes in plain collections."""
    zoned = rewrite_hint(hint, stand_in_for_datetime)
    if zoned is hint:
        return None
    try:
        return reader_of(zoned)
    except TypeError:  # within a union, msgspec cannot distinguish the stand-in from other members
        return None


def _read_either_way(read: Callable[[Any], Any], read_zoned: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read_either(raw: Any) -> Any:
        try:
            return read(raw)
        except msgspec.ValidationError as error:
            with contextlib.suppress(Exception):
                return read_zoned(raw)
            raise error

    return read_either


def reader_of(hint: Any) -> Callable[[msgspec.Raw | bytes], Any]:
    """A function that reads a value of this type from JSON."""
    return msgspec.json.Decoder(hint, dec_hook=_read_hook).decode


def hints_of(function: Callable[..., Any], left_out: Collection[str] = ()) -> dict[str, Any]:
    """The type hints of a callable's parameters, but for those that are left out.

    Raises NameError, or any error of a hint in a string.
    """
    # The hint of the result is not read: its names may be defined for type checkers only.
    return _resolved_hints(function, lambda name: name != "return" and name not in left_out)


def result_hint_of(function: Callable[..., Any]) -> Any:
    """The type hint of a callable's result, once awaited; Any if there is none. Raises as ``hints_of``."""
    hint = _resolved_hints(function, lambda name: name == "return").get("return", Any)
    origin = typing.get_origin(hint)
    return typing.get_args(hint)[-1] if origin in (Awaitable, Coroutine) else hint


def _resolved_hints(function: Callable[..., Any], is_wanted: Callable[[str], bool]) -> dict[str, Any]:
    function = inspect.unwrap(underlying_function(function))
    if not inspect.isroutine(function):
        function = type(function).__call__
    annotations: dict[str, Any] = getattr(function, "__annotations__", None) or {}
    holder = types.SimpleNamespace(
        __annotations__={name: hint for name, hint in annotations.items() if is_wanted(name)},
        __type_params__=getattr(function, "__type_params__", ()),
    )
    return typing.get_type_hints(holder, getattr(function, "__globals__", {}), include_extras=True)


def reason_of(error: BaseException) -> str:
    """Why a value could not be read, without any part of the value."""
    # With a cause it is the message of a user's validator, and may hold the value.
    by_msgspec = type(error) is msgspec.ValidationError and error.__cause__ is None
    message = str(error) if by_msgspec else ""
    if message.startswith(("Expected ", "Object missing ")):
        return message
    if message.startswith("Invalid enum value"):
        return "it is no value of the enum"
    return f"reading it back raised {type(error).__name__}"


def type_of(value: Any) -> str:
    """The name of a value's type, for a message."""
    return name_of_type(type(value))


def _check_kind(kind: Any, what: str) -> None:
    if isinstance(kind, msgspec.inspect.CustomType):
        if not is_model(kind.cls) and not isinstance(kind.cls, StandIn):
            raise UnsupportedType(
                f"{what} has a type hint whose values JSON cannot hold: {name_of_type(kind.cls)}; take plain"
                " data or an identifier, and build the object in the task"
            )
    elif isinstance(kind, (msgspec.inspect.RawType, msgspec.inspect.ExtType)):
        raise UnsupportedType(
            f"{what} has the type hint Raw or Ext of msgspec, whose values cannot be stored; take plain data"
        )


def _kinds_in(information: Any, seen: set[int]) -> Iterator[Any]:
    """Every msgspec type within this one, each once: types may contain themselves."""
    if isinstance(information, tuple):
        for part in information:
            yield from _kinds_in(part, seen)
    elif (
        isinstance(information, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(information) not in seen
    ):
        seen.add(id(information))
        yield information
        for name in information.__struct_fields__:
            yield from _kinds_in(getattr(information, name), seen)


def name_of_type(kind: Any) -> str:
    """The name of a type, for a message."""
    module = getattr(kind, "__module__", "builtins")
    name = getattr(kind, "__qualname__", None) or str(kind)
    return name if module == "builtins" else f"{sys.intern(module)}.{name}"
