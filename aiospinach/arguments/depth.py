"""How deep JSON nests: reading it takes stack for each level."""

from __future__ import annotations

from typing import Any

import msgspec

DEPTH_LIMIT = 64

_read_plain = msgspec.json.Decoder().decode


def is_too_deep(body: bytes, wrapping: int = 0) -> bool:
    """Return whether JSON nests deeper than the limit, beside ``wrapping`` levels of its layout.

    Damaged JSON is not too deep: reading it raises another error.
    """
    limit = DEPTH_LIMIT + wrapping
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    try:
        level: list[Any] = [_read_plain(body)]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    except RecursionError:
        return True
    for _ in range(limit):
        level = [item for outer in level for item in _items_of(outer)]
        if not level:
            return False
    return any(isinstance(item, (list, dict)) for item in level)


def _items_of(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
