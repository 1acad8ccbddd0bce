"""Data of users that the log and the dead jobs leave out: arguments, messages and tracebacks of errors."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from .exceptions import InvalidValue

CHOICES = ("arguments", "messages", "tracebacks")


class Redaction(msgspec.Struct, frozen=True):
    """Which data is left out; True means left out."""

    arguments: bool = False
    """The arguments of dead jobs; the log never has arguments."""
    messages: bool = False
    """The messages of errors, in their tracebacks as well."""
    tracebacks: bool = False
    """The tracebacks of errors."""

    def __or__(self, other: Redaction) -> Redaction:
        return Redaction(
            self.arguments or other.arguments,
            self.messages or other.messages,
            self.tracebacks or other.tracebacks,
        )

    def shown(self, error: BaseException) -> BaseException:
        """The error itself; or, without messages, a copy that has the name of its class, its traceback and
        its causes."""
        return _without_message(error, {}) if self.messages else error

    def ending(self, error: BaseException) -> str:
        """The end of a log line that has no traceback: the class of the error, and its message unless left
        out. Empty if the line has a traceback."""
        if not self.tracebacks:
            return ""
        name = type(error).__name__
        if self.messages:
            return f": {name}"
        try:
            return f": {name}: {str.__str__(str(error))}"
        except BaseException:
            return f": {name}, whose message cannot be printed"


REDACT_NOTHING = Redaction()


def redaction_of(leave_out: object) -> Redaction:
    """The Redaction of ``Engine(leave_out=)``: some of "arguments", "messages" and "tracebacks", or one.

    Raises InvalidValue.
    """
    names = [leave_out] if isinstance(leave_out, str) else leave_out
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        raise InvalidValue(
            f"Engine(leave_out=) takes some of {', '.join(CHOICES)}, not {type(leave_out).__name__}"
        )
    for name in names:
        if name not in CHOICES:
            raise InvalidValue(f"Engine(leave_out=) takes some of {', '.join(CHOICES)}, not {name[:40]!r}")
    return Redaction(**dict.fromkeys(names, True))


def _without_message(error: BaseException, seen: dict[int, BaseException]) -> BaseException:
    known = seen.get(id(error))
    if known is not None:
        return known
    kind = type(error)
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    bare: BaseException
    if isinstance(error, BaseExceptionGroup):
        parts = [_without_message(part, seen) for part in error.exceptions]
        bare = type(kind.__name__, (BaseExceptionGroup,), named)("", parts)
    else:
        bare = type(kind.__name__, (Exception,), named)()
    seen[id(error)] = bare
    cause, context = error.__cause__, error.__context__
    bare.__cause__ = None if cause is None else _without_message(cause, seen)
    bare.__context__ = None if context is None else _without_message(context, seen)
    bare.__suppress_context__ = error.__suppress_context__
    return bare.with_traceback(error.__traceback__)
