"""Checks of the names, ids, numbers and flags that users pass; each raises InvalidValue, naming ``what``."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from .exceptions import InvalidValue

LARGEST_NUMBER = 2**31 - 1
LONGEST_TEXT = 200


class _Rule(NamedTuple):
    """Which characters a name may have, and how many."""

    characters: re.Pattern[str]
    most: int
    words: str


_SPACE = _Rule(re.compile(r"[A-Za-z0-9_.-]"), 100, "letters, digits, '_', '.' or '-'")
_LABEL = _Rule(re.compile(r"[A-Za-z0-9_.:@-]"), 200, "letters, digits, '_', '.', '-', ':' or '@'")
_ID = _Rule(re.compile(r"[!-~]"), 200, "letters, digits and other characters of ASCII, without spaces")


def check_scope(value: object, *, what: str) -> str:
    """Check and return the name of a namespace or a queue."""
    return _check(value, _SPACE, what)


def check_identifier(value: object, *, what: str) -> str:
    """Check and return the name of a task."""
    return _check(value, _LABEL, what)


def check_id(value: object, *, what: str) -> str:
    """Check and return the id of a job."""
    return _check(value, _ID, what)


def check_text(value: object, *, what: str) -> str:
    """Check and return a text of 1 to 200 characters."""
    if not isinstance(value, str):
        raise InvalidValue(f"{what} must be text, not {type(value).__name__}")
    if not 1 <= len(value) <= LONGEST_TEXT:
        raise InvalidValue(
            f"{what} {_shown(value)} ({len(value)} characters) must have 1 to {LONGEST_TEXT} characters"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue(f"{what} {_shown(value)} holds a lone surrogate, which is not text") from None
    return value


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


def check_number(value: object, *, what: str, least: int, most: int = LARGEST_NUMBER) -> int:
    """Check and return a whole number from ``least`` to ``most``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidValue(f"{what} must be a whole number, not {type(value).__name__}")
    if not least <= value <= most:
        shown = value if abs(value) < 10**30 else "the number given"
        raise InvalidValue(f"{what} must be from {least} to {most:,}, and {shown} is not")
    return value


def check_retries(value: object, *, what: str) -> int:
    """Check and return how often a job may be tried again."""
    if value is None or value == math.inf:
        raise InvalidValue(
            f"{what} must be a whole number, and {value} is not: leave it out to start a job at most once,"
            f" and give {LARGEST_NUMBER} to try it again for ever"
        )
    return check_number(value, what=what, least=0)


def check_flag(value: object, *, what: str) -> bool:
    """Check and return True or False."""
    if not isinstance(value, bool):
        raise InvalidValue(f"{what} must be True or False, not {type(value).__name__}")
    return value
