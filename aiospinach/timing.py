"""Conversion of moments and durations, from what users pass to what the package counts with.

The package counts moments in whole milliseconds since 1970. Users pass and get aware datetimes.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from .exceptions import InvalidValue
from .logs import Log, LogThrottle

logger: Log = Log("aiospinach")

LOG_EVERY = 60.0
_naive = LogThrottle()

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MOMENT = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp()) * 1000

# Below this a float of seconds is exact to half a microsecond.
_EXACT_BELOW = 2**32 * 1000


def to_milliseconds(moment: datetime, *, what: str) -> int:
    """The moment in milliseconds since 1970; a naive datetime means UTC.

    Raises InvalidValue, which names ``what``, for anything but a datetime of the years 1970 to 9998.
    """
    if not isinstance(moment, datetime):
        raise InvalidValue(f"{what} takes a datetime, not {type(moment).__name__}")
    if moment.tzinfo is None:
        _warn_of_local_time(moment, what)
        moment = moment.replace(tzinfo=UTC)
    try:
        milliseconds = (moment - EPOCH) // timedelta(milliseconds=1)
    except Exception as error:  # a tzinfo is foreign code, and may raise anything
        raise InvalidValue(f"{what}: the offset of the datetime from UTC cannot be found") from error
    if not 0 <= milliseconds < LAST_MOMENT:
        raise InvalidValue(f"{what} lies outside the years 1970 to 9998: {moment.isoformat()}")
    return milliseconds


def _warn_of_local_time(moment: datetime, what: str) -> None:
    """Log a naive datetime where it may be meant in the zone of the machine."""
    try:
        is_utc = not moment.astimezone().utcoffset()
    except (OverflowError, OSError, ValueError):  # the first and the last year
        return
    if not is_utc and _naive.allows(what, LOG_EVERY):
        logger.warning(
            "%s: a datetime without a zone is taken as UTC, and this machine is not in UTC: use"
            " datetime.now(UTC), or moment.astimezone()",
            what,
        )


@lru_cache(1024)  # jobs that were scheduled together are due together
def from_milliseconds(milliseconds: float) -> datetime:
    """The aware datetime, in UTC, of a moment in milliseconds."""
    if milliseconds < _EXACT_BELOW:  # three times as fast as the sum below
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    return EPOCH + timedelta(milliseconds=milliseconds)


def to_seconds(duration: object, *, what: str, least: float = 0.0) -> float:
    """The seconds of a number or a timedelta.

    Raises InvalidValue, which names ``what``, for anything else, and for a duration that is not finite or
    less than ``least`` seconds.
    """
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, (int, float)) and not isinstance(duration, bool):
        try:
            seconds = float(duration)
        except OverflowError:
            seconds = math.inf
    else:
        raise InvalidValue(f"{what} takes seconds or a timedelta, not {type(duration).__name__}")
    if not math.isfinite(seconds) or seconds < least:
        raise InvalidValue(f"{what} must be finite and at least {least:g} s, not {seconds:g} s")
    return seconds


def to_limit(duration: object, *, what: str) -> float | None:
    """The seconds of a time limit of at least a millisecond, or None for no limit. Raises InvalidValue."""
    return None if duration is None else to_seconds(duration, what=what, least=0.001)
