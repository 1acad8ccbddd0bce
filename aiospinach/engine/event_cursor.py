"""The cursor of an event: how far the events of each queue were read, as text that may travel in a URL."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import NamedTuple

from ..brokers.events import Position
from ..exceptions import InvalidValue

OLDEST = "oldest"
"""``after=OLDEST`` begins with the oldest events that are kept."""
_PART = re.compile(r"([^=,]+)=(?:oldest|(\d{1,15})-(\d{1,19})(?:\.(\d{1,9}))?)")


class Place(NamedTuple):
    """How far the events of a queue were read."""

    position: Position | None = None
    """The row that was read last; None: begin with the oldest one. There was such a row: a store that does
    not have it has lost rows."""
    read: int | None = None
    """How many events of this row were read; None: all."""

    @property
    def is_within(self) -> bool:
        """Events of the row were not read."""
        return self.read is not None


Places = dict[str, Place]
"""How far the events of each queue were read."""


def encode_cursor(places: Mapping[str, Place]) -> str:
    """Return the cursor of these places, by queue."""
    words = ",".join([f"{queue}={_encode(place)}" for queue, place in places.items()])
    return base64.urlsafe_b64encode(words.encode()).rstrip(b"=").decode()


def decode_cursor(text: object, takes: str = f'after= takes the cursor of an event, or "{OLDEST}"') -> Places:
    """Return the places that a cursor has. Raises InvalidValue with what the argument ``takes``."""
    if not isinstance(text, str):
        raise InvalidValue(f"{takes}, not {type(text).__name__}")
    try:
        words = base64.b64decode(
            text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True
        ).decode()
    except (UnicodeError, binascii.Error):
        words = ""
    places: Places = {}
    for part in words.split(","):
        if (found := _PART.fullmatch(part)) is None:
            raise InvalidValue(f"{takes}, and this is another text: leave it out to begin anew")
        queue, moment, number, count = found.groups()
        read = None if count is None else int(count)
        places[queue] = Place() if moment is None else Place((int(moment), int(number)), read)
    return places


def _encode(place: Place) -> str:
    if place.position is None:
        return OLDEST
    moment, number = place.position
    return f"{moment}-{number}" if place.read is None else f"{moment}-{number}.{place.read}"
