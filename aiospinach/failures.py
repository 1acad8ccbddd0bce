"""Errors that users' code raised: looking at one safely, and the record of one that a dead job keeps."""

from __future__ import annotations

import re
import traceback

import msgspec

from .redaction import REDACT_NOTHING, Redaction

MESSAGE_LIMIT = 1024
TRACEBACK_LIMIT = 8 * 1024
CLASS_LIMIT = 100
_NOT_IN_HEADERS = re.compile(r"[^A-Za-z0-9_.<>]")


def safe_exception(error: BaseException) -> BaseException:
    """The error itself; or a RuntimeError in its place, if ``bool`` or ``isinstance`` of the error raises.

    Logging looks at an error in these ways.
    """
    try:
        bool(error)
        isinstance(error, Redaction)  # no error is one, so isinstance reads its __class__
    except BaseException:
        stand_in = RuntimeError(f"a {type(error).__name__} was raised, which cannot be looked at")
        return stand_in.with_traceback(error.__traceback__)
    return error


def describe(error: BaseException, reason: str, redaction: Redaction = REDACT_NOTHING) -> bytes:
    """JSON that says why a job died: ``reason``, the class of the ``error``, ``message`` and ``traceback``.

    The last two are cut to 1,024 and 8,192 characters, or empty if they are left out. A placeholder stands
    for a part that cannot be printed.
    """
    try:
        message = "" if redaction.messages else _printable(str(error))
    except BaseException:
        message = "<its __str__ raises>"
    try:
        text = "" if redaction.tracebacks else "".join(traceback.format_exception(redaction.shown(error)))
    except BaseException:
        text = "<it cannot be printed>"
    return msgspec.json.encode(
        {
            "reason": reason,
            "error": _printable(_class_of(error)),
            "message": message[:MESSAGE_LIMIT],
            "traceback": _printable(text[-TRACEBACK_LIMIT:]),
        }
    )


def summary(error: BaseException, redaction: Redaction = REDACT_NOTHING) -> str:
    """The name of the class of the error, and its message unless it is left out or cannot be printed."""
    name = _printable(type(error).__qualname__)
    try:
        message = "" if redaction.messages else _printable(str(error))
    except BaseException:
        message = ""
    return f"{name}: {message}" if message else name


def class_name(error: BaseException) -> str:
    """The class of the error with its module, for the header of a job: at most 100 characters. A character
    that a header may not have becomes ``_``."""
    return _NOT_IN_HEADERS.sub("_", _class_of(error))[:CLASS_LIMIT]


def _class_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _printable(text: str) -> str:
    # The method of str itself: an exception's __str__ may return a subclass with one of its own.
    return str.encode(text, "utf-8", "backslashreplace").decode()
