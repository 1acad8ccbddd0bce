"""What namespaces, queues, tasks and ids may be called."""

from __future__ import annotations

import re
from typing import NamedTuple

from .exceptions import InvalidValue


class _Rule(NamedTuple):
    """Which characters a name is made of, and how many it may have."""

    characters: re.Pattern[str]
    most: int
    words: str


_SPACE = _Rule(re.compile(r"[A-Za-z0-9_.-]"), 100, "letters, digits, '_', '.' or '-'")
_LABEL = _Rule(re.compile(r"[A-Za-z0-9_.:@-]"), 200, "letters, digits, '_', '.', '-', ':' or '@'")
_ID = _Rule(re.compile(r"[!-~]"), 200, "letters, digits and other characters of ASCII, without spaces")


def check_scope(value: object, *, what: str) -> str:
    """The name of a namespace or a queue, or InvalidValue, which says ``what`` it was for."""
    return _check(value, _SPACE, what)


def check_identifier(value: object, *, what: str) -> str:
    """The name of a task, or InvalidValue, which says ``what`` it was for."""
    return _check(value, _LABEL, what)


def check_id(value: object, *, what: str) -> str:
    """The id of a job, or InvalidValue, which says ``what`` it was for."""
    return _check(value, _ID, what)


def _check(value: object, rule: _Rule, what: str) -> str:
    words = f"1 to {rule.most} {rule.words}"
    if not isinstance(value, str):
        raise InvalidValue(f"{what} must be a string of {words}, not {type(value).__name__}")
    if not 1 <= len(value) <= rule.most:
        raise InvalidValue(f"{what} {_shown(value)} ({len(value)} characters) must be {words}")
    refused = [character for character in value if not rule.characters.match(character)]
    if refused:
        first = ", ".join(map(ascii, dict.fromkeys(refused[:5])))
        raise InvalidValue(f"{what} {_shown(value)} must be {words}, and has {first}")
    return value


def _shown(value: str) -> str:
    return ascii(value if len(value) <= 60 else f"{value[:60]}...")
