"""Words for people: how views write lengths of time, moments and numbers."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from aiospinach import JobStatus, Progress

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
_THOUSANDS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def age(seconds: float) -> str:
    """Return a length of time in its largest unit that is there twice: ``90 s``, ``5 min``, ``3 h``, ``2 d``.

    A length below ten seconds has one decimal. A negative one is written as 0.
    """
    length = max(0.0, seconds)
    for unit, name in _UNITS:
        if length >= 2 * unit:
            return f"{math.floor(length / unit):,} {name}"
    return f"{length:.0f} s" if length >= 9.95 else f"{length:.1f} s"


def moment(at: datetime) -> str:
    """Return a moment as ``2026-11-29 08:01:12 UTC``, whatever its zone is."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def number(count: int) -> str:
    """Return a number with commas: ``1,234,567``."""
    return f"{count:,}"


def short_number(count: int) -> str:
    """Return a number in six characters at most: ``9,999``, ``12.3k``, ``4.56M``. The rest is cut off."""
    if abs(count) < 10_000:
        return number(count)
    unit, name = next(each for each in _THOUSANDS if abs(count) >= each[0])
    whole = abs(count) // unit
    digits = max(0, 3 - len(str(whole)))
    part = abs(count) % unit * 10**digits // unit
    decimals = f".{part:0{digits}}" if digits else ""
    return f"{'-' if count < 0 else ''}{whole:,}{decimals}{name}"


def rate(per_minute: float) -> str:
    """Return a rate as ``0/min``, ``2.5/min`` or ``1,200/min``; below ten with one decimal."""
    if per_minute < 0.05:
        return "0/min"
    return f"{per_minute:.1f}/min" if per_minute < 9.95 else f"{per_minute:,.0f}/min"


def status_name(status: JobStatus) -> str:
    """Return the word of people for the status of a stored job: ``running``, or ``dead`` for FAILED."""
    return "dead" if status is JobStatus.FAILED else status.value


def progress_text(progress: Progress) -> str:
    """Return how far a job has come as ``450 of 1,000 rows (45 %)``, or ``450 rows`` without a total."""
    done = f"{progress.current:,}"
    if progress.total is None:
        return " ".join(filter(None, (done, progress.note)))
    share = f"({progress.current / progress.total:.0%})".replace("%", " %") if progress.total > 0 else ""
    return " ".join(filter(None, (f"{done} of {progress.total:,}", progress.note, share)))
