"""The default backoff: how long a job waits before it is tried again."""

from __future__ import annotations

import zlib

BACKOFF_BASE = 3.0
BACKOFF_CAP = 20 * 60.0

# 2**64 s is far beyond the cap; a larger exponent would only overflow the float.
_LARGEST_EXPONENT = 64


def exponential_backoff(attempt: int, key: str = "") -> float:
    """Seconds before retry number ``attempt`` (1 for the first): ``3 * 2**attempt``, at most 20 minutes.

    The second half is jitter by ``key``, so that jobs which failed together do not come back together. The
    same attempt of the same key always has the same delay.
    """
    longest = min(BACKOFF_BASE * 2.0 ** min(attempt, _LARGEST_EXPONENT), BACKOFF_CAP)
    return longest / 2 + jitter(longest / 2, f"{key}/{attempt}")


def jitter(longest: float, key: str) -> float:
    """0 to ``longest`` seconds: the same for the same key, and evenly spread over many keys."""
    return longest * zlib.crc32(key.encode()) / 2**32
