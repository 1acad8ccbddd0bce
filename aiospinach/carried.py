"""What travels: text that goes with each job from the code that schedules it to the code that runs it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from .arguments.hints import ParameterHint, name_of_type, type_of, write
from .exceptions import InvalidValue
from .failures import safe_exception
from .functions import is_async, label_of, takes_arguments
from .job import Job
from .logs import Log, LogThrottle
from .redaction import Redaction
from .validation import check_identifier

logger: Log = Log("aiospinach")

BYTES_LIMIT: Final = 4096
"""Bytes of all names and texts that travel with one job."""
LOG_EVERY: Final = 60.0

Provider = Callable[[], Mapping[str, str]]
"""Returns text that goes with a job, by name. It is called in the context of the call that schedules."""


class CarriedVariable:
    """A ContextVar whose value travels under a name: as it is if it is text, else as JSON of its type."""

    def __init__(self, variable: ContextVar[Any], name: str, hint: Any) -> None:
        self.variable: ContextVar[Any] = variable
        self.name: str = name
        self._hint = None if hint is str else ParameterHint(hint, f"carry(): the type of {name!r}")

    def write(self) -> str | None:
        """The value as text; None if it is None or not set. Raises InvalidValue for another type."""
        value = self.variable.get(None)
        if value is None:
            return None
        if self._hint is None:
            if isinstance(value, str):
                return _plain(value)
            raise InvalidValue(
                f"carry(): the value of {self.name!r} has to be text, not {type_of(value)}: set text, or"
                f" declare engine.carry(variable, type={type_of(value)})"
            )
        with contextlib.suppress(Exception):  # classes of users may raise anything
            text = write(value)
            if self._hint.is_same(value, self._hint.read(text)):
                return text.decode()
        raise InvalidValue(
            f"carry(): the value of {self.name!r} ({type_of(value)}) would not arrive equal as the declared"
            f" type, {name_of_type(self._hint.type)}: set a value of this type, or change carry(type=)"
        )

    def set_from(self, text: str) -> None:
        """Set the variable in the current context. Raises what a text of another type raises."""
        self.variable.set(text if self._hint is None else self._hint.read(text.encode()))


class Carried:
    """The variables and providers that an engine has declared."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._declared: list[CarriedVariable] = []
        self._variables: dict[str, CarriedVariable] = {}
        """The variables by name; of several declarations the latest."""
        self._providers: list[Provider] = []
        self._throttle = LogThrottle()
        self.is_used: bool = False
        """Something is declared."""

    def add_variable(self, variable: ContextVar[Any], name: str | None, hint: Any) -> Callable[[], None]:
        """Declare a variable. Returns a function that undoes it, to be called once.

        Raises InvalidValue or UnsupportedType.
        """
        name = check_identifier(variable.name if name is None else name, what="carry(): name")
        known = self._variables.get(name)
        if known is not None and known.variable is not variable:
            raise InvalidValue(
                f"carry(): another variable travels as {name!r} already: give this one another name="
            )
        new = CarriedVariable(variable, name, hint)
        self._declared.append(new)
        self._note_use()

        def undo() -> None:
            self._declared.remove(new)
            self._note_use()

        return undo

    def add_provider(self, provider: Provider) -> Callable[[], None]:
        """Declare a provider. Returns a function that undoes it, to be called once. Raises InvalidValue."""
        _check_provider(provider)
        self._providers.append(provider)
        self._note_use()

        def undo() -> None:
            self._providers.remove(provider)
            self._note_use()

        return undo

    def headers(self) -> dict[str, str]:
        """What goes with a job that the current context schedules. Raises InvalidValue.

        A provider that fails, or whose text is too long, is logged, and its text does not travel: what it
        adds is for the eyes of people, and must not stop jobs.
        """
        headers: dict[str, str] = {}
        for each in self._variables.values():
            if (text := each.write()) is not None:
                headers[each.name] = text
        size = _check_size(headers)
        for provider in list(self._providers):
            try:
                found = {_plain(each): _plain(text) for each, text in provider().items()}
                added = {each: text for each, text in found.items() if each not in headers}
                added_size = _size_of(added)
            except Exception as error:
                self._log("provider %s of carry() failed, and its text does not travel%s", provider, error)
                continue
            if size + added_size > BYTES_LIMIT:
                self._log("provider %s of carry() adds too much, and its text does not travel%s", provider)
                continue
            headers.update(added)
            size += added_size
        return headers

    def restore(self, job: Job, fields: Mapping[str, str]) -> None:
        """Set the variables in the current context, which is that of the job."""
        for each in self._variables.values():
            if (text := job.headers.get(each.name)) is None:
                continue
            try:
                each.set_from(text)
            except BaseException as error:  # classes of users may raise anything
                logger.error(
                    "%r runs without its %s, which does not read back: %s",
                    job,
                    each.name,
                    type(error).__name__,
                    fields=fields,
                )

    def _note_use(self) -> None:
        self._variables = {each.name: each for each in self._declared}
        self.is_used = bool(self._variables or self._providers)

    def _log(self, message: str, provider: Provider, error: BaseException | None = None) -> None:
        name = label_of(provider)
        if self._throttle.allows(name, LOG_EVERY):
            redaction = self._redaction
            ending = "" if error is None else redaction.ending(error)
            shown = None if error is None or redaction.tracebacks else redaction.shown(safe_exception(error))
            logger.error(message, name, ending, exc_info=shown)


def _plain(text: str) -> str:
    """The text without a class of its own, which could not be stored. Raises TypeError if it is no text."""
    return str.__str__(text)


def _check_provider(provider: Provider) -> None:
    name = label_of(provider)
    if is_async(provider):
        raise InvalidValue(
            f"carry(): {name!r} is async, and cannot be awaited while a job is scheduled: make it a plain"
            " function, or let a ContextVar travel that is set before"
        )
    if not takes_arguments(provider, 0):
        raise InvalidValue(
            f"carry(): {name!r} is called without arguments, and has parameters without a default: use a"
            " function without parameters"
        )


def _size_of(headers: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(text.encode()) for name, text in headers.items())


def _check_size(headers: Mapping[str, str]) -> int:
    """The bytes of headers. Raises InvalidValue if they are too many, or are not text that can be stored."""
    for name, text in headers.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidValue(
                f"carry(): the text of {name!r} holds a lone surrogate, which is not text: repair it"
            ) from None
    size = _size_of(headers)
    if size > BYTES_LIMIT:
        largest = max(headers, key=lambda name: len(headers[name].encode()))
        raise InvalidValue(
            f"carry(): the texts of a job take {size:,} bytes, and {BYTES_LIMIT:,} is the limit; the largest"
            f" is {largest!r} with {len(headers[largest].encode()):,}: let an id travel, and look the rest up"
        )
    return size
