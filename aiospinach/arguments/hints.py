"""What a parameter's type hint says of its values: how they are written, read back and compared."""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
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

# Equality is proof enough for these. A value of any other class must come back as its very class, or a
# subclass whose __eq__ is inherited would lose its own fields unseen.
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
    """The hint of one parameter. ``what`` names the parameter in errors.

    Raises NameError if it names something not defined yet, and UnsupportedType if JSON cannot carry its
    values.
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
            raise UnsupportedType(f"{what} has a type hint that JSON cannot carry: {error}") from None
        for kind in kinds:
            _check_kind(kind, what)
        self._holds_objects = any(isinstance(kind, _CLASSES) for kind in kinds)
        self.may_hold_datetimes: bool = any(map(_has_datetimes, kinds))
        """Its values may have a datetime or a time in them."""
        self.type: Any = hint
        self.read: Callable[[msgspec.Raw | bytes], Any] = read
        """The value of some JSON, typed; raises what msgspec and the classes of the hint raise."""
        read_zoned = _zoned_reader_of(hint) if self.may_hold_datetimes else None
        self.keeps_zones: bool = read_zoned is not None
        """Its datetimes are to be written with their zones."""
        if read_zoned is not None:
            self.read = _read_either_way(read, read_zoned)

    def is_same(self, value: Any, copy: Any) -> bool:
        """Whether the copy that was read back is what the value was."""
        try:
            if not bool(value == copy):
                return False
            if self._holds_objects and _write_in_order(value) != _write_in_order(copy):
                return False  # something within was of a subclass, and has lost its own fields
            if self.may_hold_datetimes and not _is_utc(value) and find_lost_zone(value, copy):
                return False
        except Exception:
            return False
        # A subclass of a plain class would lose what its instance holds besides.
        return type(copy) is type(value) or (type(copy) in _PLAIN and not getattr(value, "__dict__", None))


def _is_utc(value: Any) -> bool:
    """The commonest datetime, which loses nothing."""
    return type(value) is datetime and value.tzinfo is UTC


def _has_datetimes(kind: Any) -> bool:
    if isinstance(kind, msgspec.inspect.CustomType):
        return isinstance(kind.cls, StandIn) or may_hold_datetimes(kind.cls)
    return isinstance(kind, (msgspec.inspect.DateTimeType, msgspec.inspect.TimeType))


def _zoned_reader_of(hint: Any) -> Callable[[Any], Any] | None:
    """Reads datetimes with their zones, where the hint has them in plain collections."""
    zoned = rewrite_hint(hint, stand_in_for_datetime)
    if zoned is hint:
        return None
    try:
        return reader_of(zoned)
    except TypeError:  # what stands in for it cannot be told from the rest of a union
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


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The type hints of a callable's parameters; raises NameError, or what a string as a hint raises."""
    function = inspect.unwrap(underlying_function(function))
    if not inspect.isroutine(function):
        function = type(function).__call__
    # The hint of what it returns is nobody's business, and may be there for type checkers only.
    annotations: dict[str, Any] = getattr(function, "__annotations__", None) or {}
    parameters = {name: hint for name, hint in annotations.items() if name != "return"}
    holder = types.SimpleNamespace(
        __annotations__=parameters, __type_params__=getattr(function, "__type_params__", ())
    )
    return typing.get_type_hints(holder, getattr(function, "__globals__", {}), include_extras=True)


def reason_of(error: BaseException) -> str:
    """Why reading was refused, as far as the message names types and places only, never a value."""
    # With a cause, it is the message of a validator that the user wrote.
    by_msgspec = type(error) is msgspec.ValidationError and error.__cause__ is None
    message = str(error) if by_msgspec else ""
    if message.startswith(("Expected ", "Object missing ")):
        return message
    if message.startswith("Invalid enum value"):
        return "it is no value of the enum"
    return f"reading it back raised {type(error).__name__}"


def type_of(value: Any) -> str:
    """The name of a value's type, for a message."""
    return _name_of(type(value))


def _check_kind(kind: Any, what: str) -> None:
    if isinstance(kind, msgspec.inspect.CustomType):
        if not is_model(kind.cls) and not isinstance(kind.cls, StandIn):
            raise UnsupportedType(
                f"{what} has a type hint that JSON cannot carry: {_name_of(kind.cls)}; take plain data"
                " or an identifier, and build the object in the task"
            )
    elif isinstance(kind, (msgspec.inspect.RawType, msgspec.inspect.ExtType)):
        raise UnsupportedType(f"{what} has a type hint of msgspec's own that no value fits")


def _kinds_in(information: Any, seen: set[int]) -> Iterator[Any]:
    """Every msgspec type within this one; types may contain themselves."""
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


def _name_of(kind: Any) -> str:
    module = getattr(kind, "__module__", "builtins")
    name = getattr(kind, "__qualname__", None) or str(kind)
    return name if module == "builtins" else f"{sys.intern(module)}.{name}"
