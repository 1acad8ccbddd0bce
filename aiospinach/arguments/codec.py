"""The codec of arguments: writes them as JSON, reads them as their type hints, and proves them equal.

The body of a job is ``[[positional...],{keyword...}]``, which msgspec writes and reads.
"""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from ..exceptions import InvalidArguments, UnsupportedType
from .call_shapes import CallShape, Reader, with_zones
from .depth import DEPTH_LIMIT, is_too_deep
from .differences import find_lost_part
from .hints import ParameterHint, hints_of, reader_of, reason_of, type_of, write
from .parameters import Parameters

BODY_LIMIT = 256 * 1024

_WRAPPING = 2  # levels of brackets that the layout of the body adds
_SHALLOW = 2 * (DEPTH_LIMIT + _WRAPPING)  # bytes; a body that nests too deep has more brackets than that
_KNOWN_SHAPES = 256
_READ_WHOLE_AT_MOST = 32  # arguments; building a decoder for more costs more time than it saves

_NO_KEYWORDS = b",{}]"

_split = msgspec.json.Decoder(tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]).decode


class Arguments:
    """The arguments of one function: which calls fit it, and how they are stored.

    Hints are resolved by ``resolve()``, or else at the first use: a hint may name a class that is defined
    further down the module. Parameters that are ``injected`` take no arguments, and may have any hint.
    """

    def __init__(
        self, function: Callable[..., Any], name: str, injected: Collection[str] = frozenset()
    ) -> None:
        self._function = function
        self._name = name
        self._injected = injected
        self._parameters = Parameters(function, name, injected)
        self._shapes: dict[object, CallShape] = {}
        self._hints: dict[str, ParameterHint] | None = None
        self._last_reader: Reader | None = None
        """Reads whole bodies that have the shape of the body read last."""

    def resolve(self) -> None:
        """Read the type hints.

        Raises NameError while a hint names something that is not defined yet, and UnsupportedType for a hint
        whose values cannot be stored and read back.
        """
        try:
            hints = hints_of(self._function, self._injected)
        except NameError:
            raise
        except Exception as error:
            raise UnsupportedType(f"{self._name}(): a type hint cannot be read: {error}") from None
        self._shapes, self._last_reader = {}, None
        self._hints = {
            name: ParameterHint(hints.get(name, Any), f"{self._name}(): parameter '{name}'")
            for name in self._parameters
        }

    def resolve_if_possible(self) -> None:
        """Resolve the hints now, unless one names something that is not defined yet."""
        with contextlib.suppress(NameError):
            self.resolve()

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The body that holds these arguments, proved to be read back equal.

        Raises InvalidArguments if they do not fit the function, are larger than 256 KB, nested deeper
        than 64, or would not arrive equal.
        """
        shape = self._shape_of(args, kwargs)
        comparisons = shape.comparisons if shape.comparisons is not None else self._prepare(shape)
        try:
            body = write((args, kwargs) if shape.keeps_zones is None else with_zones(shape, args, kwargs))
        except Exception:
            body = b""
        if not body:  # not in the handler: the error there holds the value, and would be the __context__
            raise self._unwritable(shape.names, args, kwargs)
        if len(body) > BODY_LIMIT:
            raise InvalidArguments(
                f"{self._name}(): the arguments take {len(body):,} bytes as JSON, and {BODY_LIMIT:,} is"
                " the limit; store the data elsewhere and pass a reference to it"
            )
        if len(body) > _SHALLOW:
            self._check_depth(body)
        copies = _read_whole(shape.read, body) if shape.read is not None else None
        values = (*args, *kwargs.values()) if kwargs else args
        if copies is None:
            copies = tuple(self._read(shape.names, _raw_arguments(body), values))
        for number, copy in enumerate(copies):
            value = values[number]
            if copy is not value and not comparisons[number](value, copy):
                raise self._unequal(shape.names[number], value, copy)
        return body

    def decode(self, body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a body, typed by the function's hints.

        Raises InvalidArguments if the body is damaged or does not fit the function as it is now.
        """
        if len(body) > BODY_LIMIT:
            raise InvalidArguments(f"{self._name}(): the stored arguments are over {BODY_LIMIT:,} bytes")
        if len(body) > _SHALLOW:
            self._check_depth(body)
        reader = self._last_reader if body.endswith(_NO_KEYWORDS) else None
        if reader is not None and (args := _read_whole(reader, body)) is not None:
            return args, {}
        try:
            positional, keyword = _split(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise InvalidArguments(f"{self._name}(): the stored arguments are damaged") from None
        try:
            shape = self._shape_of(positional, keyword)
            values = self._read(shape.names, [*positional, *keyword.values()])
        except InvalidArguments as error:
            raise InvalidArguments(
                f"{error}. The job was stored for another signature of the task: give new parameters a"
                " default. A dead job keeps its arguments, and engine.requeue() runs it again"
            ) from None
        if not keyword:
            if shape.comparisons is None:
                self._prepare(shape)
            self._last_reader = shape.read
        return tuple(values[: len(positional)]), dict(zip(keyword, values[len(positional) :], strict=True))

    def signature(self) -> inspect.Signature:
        """The parameters that take arguments, with their hints. Raises UnsupportedType."""
        return self._parameters.signature_with({name: hint.type for name, hint in self._resolved().items()})

    def read_values(self, values: Mapping[str, bytes]) -> dict[str, Any]:
        """Values of parameters from JSON, typed by their hints. Raises InvalidArguments."""
        if unknown := values.keys() - self._resolved().keys():
            raise InvalidArguments(f"{self._name}() has no parameter '{min(unknown)}'")
        read = self._read(tuple(values), [msgspec.Raw(value) for value in values.values()])
        return dict(zip(values, read, strict=True))

    def fit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """The parameter that takes each argument. Raises InvalidArguments if the call does not fit."""
        return self._shape_of(args, kwargs).names

    def _shape_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> CallShape:
        key = (len(args), *kwargs) if kwargs else len(args)
        shape = self._shapes.get(key)
        if shape is None:
            shape = CallShape(self._parameters.taking(args, kwargs), is_plain=not kwargs)
            if len(self._shapes) < _KNOWN_SHAPES:
                self._shapes[key] = shape
        return shape

    def _prepare(self, shape: CallShape) -> list[Callable[[Any, Any], bool]]:
        """Fill a shape with what its hints decide. Returns its comparisons."""
        hints = [self._resolved()[name] for name in shape.names]
        shape.comparisons = [hint.is_same for hint in hints]
        keeps_zones = [hint.keeps_zones for hint in hints]
        shape.keeps_zones = keeps_zones if any(keeps_zones) else None
        if shape.is_plain and len(hints) <= _READ_WHOLE_AT_MOST:
            types = tuple(hint.type for hint in hints)
            shape.read = reader_of(tuple[tuple[types], dict[str, msgspec.Raw]])  # type: ignore[valid-type]
        return shape.comparisons

    def _resolved(self) -> dict[str, ParameterHint]:
        if self._hints is None:
            try:
                self.resolve()
            except NameError as error:
                raise UnsupportedType(
                    f"{self._name}(): a type hint names something that is not defined in the module of"
                    f" the function: {error}; define it there, or annotate with the class itself"
                ) from None
        return typing.cast("dict[str, ParameterHint]", self._hints)

    def _read(
        self, names: tuple[str, ...], raws: Sequence[msgspec.Raw], originals: Sequence[Any] = ()
    ) -> list[Any]:
        """The values, typed. An error names the part of an original that is lost, if there are originals."""
        hints = self._resolved()
        values: list[Any] = []
        for name, raw in zip(names, raws, strict=True):
            try:
                values.append(hints[name].read(raw))
                continue
            except BaseException as error:  # classes of users may raise anything
                why = reason_of(error)
            if originals and (lost := find_lost_part(originals[len(values)])):
                why = lost
            kind = f" ({type_of(originals[len(values)])})" if originals else ""
            raise InvalidArguments(
                f"{self._name}(): argument '{name}'{kind} is not what the parameter's type hint allows: {why}"
            )
        return values

    def _check_depth(self, body: bytes) -> None:
        if is_too_deep(body, _WRAPPING):
            raise self._too_deep()

    def _too_deep(self) -> InvalidArguments:
        return InvalidArguments(
            f"{self._name}(): the arguments are nested deeper than {DEPTH_LIMIT} levels, or contain"
            " themselves; pass something flatter"
        )

    def _unwritable(
        self, names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> InvalidArguments:
        for name, value in zip(names, (*args, *kwargs.values()), strict=True):
            try:
                write(value)
            except RecursionError:
                return self._too_deep()
            except UnicodeEncodeError:
                why = "it holds a lone surrogate, which is not text; repair it, or pass bytes"
            except Exception:
                why = "it cannot be written as JSON; pass plain data, or an identifier of the thing"
            else:
                continue
            return InvalidArguments(
                f"{self._name}(): argument '{name}' ({type_of(value)}) cannot be stored: {why}"
            )
        return InvalidArguments(f"{self._name}(): the names of keyword arguments must be text")

    def _unequal(self, name: str, value: Any, copy: Any) -> InvalidArguments:
        if lost := find_lost_part(value, copy):
            return InvalidArguments(
                f"{self._name}(): argument '{name}' ({type_of(value)}) would not arrive equal: {lost}"
            )
        return InvalidArguments(
            f"{self._name}(): argument '{name}' ({type_of(value)}) would not arrive equal: it would come"
            f" back as another value ({type_of(copy)}). NaN and infinity have no JSON; a tuple, set, date,"
            " Decimal or object needs a type hint of exactly that type"
        )


def _read_whole(read: Reader, body: bytes) -> tuple[Any, ...] | None:
    """The arguments, or None if they do not have the shape or the types of the reader.

    Then the caller reads them one by one, so that an error can name the wrong one.
    """
    try:
        args, keyword = read(body)
    except BaseException:  # classes of users may raise anything
        return None
    return None if keyword else args


def _raw_arguments(body: bytes) -> list[msgspec.Raw]:
    positional, keyword = _split(body)
    return [*positional, *keyword.values()] if keyword else positional
