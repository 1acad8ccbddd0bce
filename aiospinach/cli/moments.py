"""Spans of time as people type them."""

from __future__ import annotations

import re
from datetime import timedelta

_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|m|min|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def span_of(text: str) -> timedelta | None:
    """Return a span such as 90s, 15m, 2h or 3d; None if the text is none."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        return None
    try:
        return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
    except OverflowError:
        return None
