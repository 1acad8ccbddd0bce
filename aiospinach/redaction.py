"""What the log and the dead jobs leave out, since it may be somebody's data."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from .exceptions import InvalidValue

CHOICES = ("arguments", "messages", "tracebacks")


class Redaction(msgspec.Struct, frozen=True):
    """Which of it is left out."""

    arguments: bool = False
    """Those of dead jobs; the log has none."""
    messages: bool = False
    """Those of errors, in their tracebacks as well."""
    tracebacks: bool = False

    def __or__(self, other: Redaction) -> Redaction:
        return Redaction(
            self.arguments or other.arguments,
            self.messages or other.messages,
            self.tracebacks or other.tracebacks,
        )

    def shown(self, error: BaseException) -> BaseException:
        """The error itself; or one in its place that has its class's name, its traceback and its causes, and
        none of their messages."""
        return _without_message(error, {}) if self.messages else error

    def ending(self, error: BaseException) -> str:
        """How a log line ends that has no traceback: with the error's class, and its message if told."""
        if not self.tracebacks:
            return ""
        name = type(error).__name__
        if self.messages:
            return f": {name}"
        try:
            return f": {name}: {str.__str__(str(error))}"
        except BaseException:
            return f": {name}, which cannot be printed"


REDACT_NOTHING = Redaction()


def redaction_of(leave_out: object) -> Redaction:
    """What ``Engine(leave_out=)`` says: some of "arguments", "messages" and "tracebacks", or one of them."""
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
