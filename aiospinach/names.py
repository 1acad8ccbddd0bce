"""What namespaces, queues, tasks and ids may be called."""

from __future__ import annotations

import re

from .exceptions import InvalidValue

_SPACE = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_LABEL = re.compile(r"[A-Za-z0-9_.:@-]{1,200}")


def check_space(value: object, *, what: str) -> str:
    """The name of a namespace or a queue, or InvalidValue, which says ``what`` it was for."""
    return _check(value, _SPACE, "1 to 100 letters, digits, '_', '.' or '-'", what)


def check_label(value: object, *, what: str) -> str:
    """The name of a task or the id of a job, or InvalidValue, which says ``what`` it was for."""
    return _check(value, _LABEL, "1 to 200 letters, digits, '_', '.', '-', ':' or '@'", what)


def _check(value: object, pattern: re.Pattern[str], rule: str, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"{what} must be a string of {rule}, not {type(value).__name__}")
    if not pattern.fullmatch(value):
        shown = ascii(value if len(value) <= 60 else f"{value[:60]}...")
        raise InvalidValue(f"{what} {shown} ({len(value)} characters) must be {rule}")
    return value
