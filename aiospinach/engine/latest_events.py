"""The latest events of an engine's queues, read backwards."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter

import msgspec

from ..brokers.base import Broker
from ..brokers.events import EventRow, LookLatestEvents, Position, StoredEvent
from ..timing import from_milliseconds
from .event import Event, event_of
from .event_cursor import Place, encode_cursor

LATEST = 100
LARGEST = 1000
BEFORE = "before= takes the cursor that latest_events() has returned"
ROWS_AT_ONCE = 50
LOOKS_AT_MOST = 10_000
"""A call looks at so many events at most."""


class LatestEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the events that are kept, the latest first."""

    events: Sequence[Event]
    """The latest first. Those of several queues are merged by their moments."""
    cursor: str | None
    """``before=`` of a call that goes on with earlier events; None if none is kept. The last page may be
    empty."""
    is_truncated: bool
    """The call has looked at 10,000 events and found fewer than ``limit``: ``cursor`` goes on from there."""
    dropped_before: datetime | None
    """The moment of the oldest event that is kept, in UTC, if the call has come to it and there were earlier
    ones; else None."""


async def read_latest_events(
    broker: Broker,
    namespace: str,
    places: Mapping[str, Place | None],
    *,
    task: str,
    job_id: str,
    limit: int,
) -> LatestEvents:
    """Return the latest events in front of a place of each queue; None: the latest that there are."""
    await broker.open_in_time(namespace)
    queues = [_Backwards(broker, queue, place) for queue, place in places.items()]
    events: list[Event] = []
    looks = 0
    while True:
        if unread := [queue for queue in queues if queue.has_unread_rows]:
            await asyncio.gather(*(queue.fill() for queue in unread))
        latest = max((queue for queue in queues if queue.next_at), key=attrgetter("next_at"), default=None)
        if latest is None or len(events) == limit or looks == LOOKS_AT_MOST:
            break
        event = latest.next_event
        if job_id in ("", event.job_id) and task in ("", event.task):
            events.append(event_of(event, latest.name, _cursor_of(queues)))
        latest.advance()
        looks += 1
    dropped = [queue.dropped_before for queue in queues if queue.dropped_before and not queue.next_at]
    return LatestEvents(
        events=events,
        cursor=None if latest is None else _cursor_of(queues),
        is_truncated=latest is not None and len(events) < limit,
        dropped_before=from_milliseconds(max(dropped)[0]) if dropped else None,
    )


class _Backwards:
    """Reads the events of one queue, the latest first."""

    def __init__(self, broker: Broker, name: str, place: Place | None) -> None:
        self.name = name
        self.place: Place | None = place
        """The place behind the next event; None: behind the latest one that there is."""
        self.dropped_before: Position | None = None
        """The place of the oldest row, if it was read and there were others before it."""
        self._broker = broker
        self._rows: deque[EventRow] = deque()
        self._left: int = 0
        """How many events of the first row were not returned yet."""
        self._is_at_end = place == Place()

    @property
    def next_at(self) -> Position | None:
        """The place of the row that has the next event; None if there is none, or it was not read yet."""
        return self._rows[0].position if self._rows else None

    @property
    def next_event(self) -> StoredEvent:
        """The next event, of a queue that has one."""
        return self._rows[0].events[self._left - 1]

    @property
    def has_unread_rows(self) -> bool:
        """The next event was not read yet, and there may be one."""
        return not (self._rows or self._is_at_end)

    async def fill(self) -> None:
        """Read rows, unless the queue has no more."""
        while self.has_unread_rows:
            place = self.place or Place()
            found = await self._broker.look(self.name, LookLatestEvents(place.position, ROWS_AT_ONCE))
            if len(found.rows) < ROWS_AT_ONCE:
                self._is_at_end, self.dropped_before = True, found.dropped_before
            for row in found.rows:
                events = row.events[: place.read] if row.position == place.position else row.events
                if events:
                    self._rows.append(EventRow(row.position, events))
            if found.rows:
                self.place = Place(found.rows[-1].position, 0)
            self._begin_row()

    def advance(self) -> None:
        """Go on with the event before the next one."""
        position = self._rows[0].position
        self._left -= 1
        self.place = Place(position, self._left)
        if not self._left:
            self._rows.popleft()
            self._begin_row()

    def _begin_row(self) -> None:
        if self._rows:
            row = self._rows[0]
            self._left = len(row.events)
            self.place = Place(row.position, self._left)


def _cursor_of(queues: Sequence[_Backwards]) -> str:
    return encode_cursor({queue.name: queue.place or Place() for queue in queues})
