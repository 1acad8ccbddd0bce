"""Errors of users' code: how they are looked at, and what is kept of them."""

from __future__ import annotations

import traceback

import msgspec

from .redaction import REDACT_NOTHING, Redaction

MESSAGE_LIMIT = 1024
TRACEBACK_LIMIT = 8 * 1024


def safe_exception(error: BaseException) -> BaseException:
    """The error that a user's code raised; or, if it raises when it is merely looked at, as logging and
    ``isinstance`` do, another in its place."""
    try:
        bool(error)
        isinstance(error, Redaction)  # no error is one, so that its __class__ is looked at
    except BaseException:
        stand_in = RuntimeError(f"a {type(error).__name__} was raised, which cannot be looked at")
        return stand_in.with_traceback(error.__traceback__)
    return error


def describe(error: BaseException, reason: str, redaction: Redaction = REDACT_NOTHING) -> bytes:
    """JSON of why a job died: ``reason``, the ``error``'s class, its ``message`` and ``traceback``.

    The last two are cut to 1 KB and 8 KB, or empty if they are left out. An exception that cannot be printed
    is survived.
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
            "error": _printable(f"{type(error).__module__}.{type(error).__qualname__}"),
            "message": message[:MESSAGE_LIMIT],
            "traceback": _printable(text[-TRACEBACK_LIMIT:]),
        }
    )


def _printable(text: str) -> str:
    # The method of str itself: an exception's __str__ may return a subclass with one of its own.
    return str.encode(text, "utf-8", "backslashreplace").decode()
