"""Time zones of datetimes, which arguments keep: adding a day has the same result in a job as in its caller.

JSON has only an offset. RFC 9557 adds the zone: ``2026-10-25T02:30:00+01:00[Europe/Paris]``.
"""

from __future__ import annotations

from datetime import datetime, time, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from .type_rewriting import StandIn, stand_in

_UTC = {"UTC", "Etc/UTC"}


def write_zones(value: Any) -> Any:
    """The value, with text for each datetime that has a zone, also within plain collections."""
    kind = type(value)
    if kind is datetime and has_no_zone(value.tzinfo):
        return value
    if isinstance(value, datetime):
        zone = zone_of(value)
        return value if zone is None else f"{value.isoformat()}[{zone}]"
    if kind in (list, tuple, set, frozenset):
        return kind(map(write_zones, value))
    if kind is dict:
        return {key: write_zones(each) for key, each in value.items()}
    return value


def has_no_zone(tz: tzinfo | None) -> bool:
    """It is a fixed offset, or None."""
    return tz is None or type(tz) is timezone


def read_datetime(text: Any) -> datetime:
    """Read a datetime, with or without a zone."""
    if not isinstance(text, str) or not text.endswith("]"):
        return msgspec.convert(text, datetime)
    written, _, zone = text[:-1].partition("[")
    moment, tz = datetime.fromisoformat(written), ZoneInfo(zone)
    for fold in (0, 1):
        found = moment.replace(tzinfo=tz, fold=fold)
        if found.utcoffset() == moment.utcoffset():
            return found
    return moment.astimezone(tz)  # the zone has changed its offset since


DATETIME: StandIn = stand_in("datetime", read_datetime)


def stand_in_for_datetime(hint: Any) -> Any:
    """The stand-in for a hint that is ``datetime``, else None."""
    return DATETIME if hint is datetime else None


def zone_of(value: datetime) -> str | None:
    """The name of the zone that the datetime has to keep; None for UTC, an offset or no zone."""
    key: str | None = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    return None if key in _UTC else key


def is_same_zone(value: datetime | time, copy: Any) -> bool:
    """The copy, which is equal, also keeps the zone and the fold of the value."""
    if value.tzinfo is None:
        return value.fold == int(copy.fold)
    if isinstance(value, time):
        return value.utcoffset() is not None
    if value.utcoffset() != copy.utcoffset():
        return False
    return zone_of(value) == zone_of(copy) if zone_of(copy) else is_fixed(value.tzinfo, value)


def is_fixed(tz: tzinfo, value: datetime) -> bool:
    """The offset of the zone is the same in winter and in summer."""
    if isinstance(tz, timezone):
        return True
    winter, summer = (value.replace(month=month, day=1, fold=0) for month in (1, 7))
    return winter.utcoffset() == summer.utcoffset()
