"""The events of an engine's queues, as an async iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from ..brokers.base import Broker
from ..brokers.events import START, EventPage, EventPlace, EventRow, LookEvents, StoredEvent
from ..exceptions import BrokerUnavailable, EventsLost
from .event import Event, event_of
from .event_cursor import OLDEST, Place, decode_cursor, encode_cursor
from .event_feed import EventFeed
from .event_hub import GATHERED_FOR, EventHub, EventReader
from .event_hubs import EventHubs

ROWS_AT_ONCE = 100
"""Rows that a reader asks for which has fallen behind."""
PAUSE = 0.5
"""Seconds between two tries to read from a store that is away."""


class EventStream(AsyncIterator[Event]):
    """The result of ``Engine.events``: ``async for event in engine.events(): ...``.

    ``async with engine.events() as events`` connects at once, and so fixes the moment from which on events
    come. It ends the reading as well. Without it, the reading begins with the first ``async for``, and ends
    when the stream is not used any more. A cancelled wait for an event loses none.
    """

    def __init__(
        self,
        broker: Broker,
        namespace: str,
        hubs: EventHubs,
        queues: Sequence[str],
        *,
        task: str = "",
        job_id: str = "",
        after: str | None = None,
    ) -> None:
        self._broker = broker
        self._namespace = namespace
        self._hubs = hubs
        self._task = task
        self._job_id = job_id
        self._is_from_now = after is None
        known = {} if after in (None, OLDEST) else decode_cursor(after)
        # A queue that the cursor does not have is new, and none of its events was read.
        self._places = {queue: known.get(queue, Place()) for queue in queues}
        self._numbers: dict[str, int | None] = dict.fromkeys(queues)
        """The number of the next row in the feed of each queue; None while rows are read from the store."""
        self._found: deque[Event] = deque()
        self._lost: EventsLost | None = None
        """A loss behind the events that were found."""
        self._cursor = ""
        """The cursor of the event that was returned last."""
        self._hub: EventHub | None = None
        self._reader: EventReader | None = None
        self._is_closed = False

    @property
    def cursor(self) -> str:
        """``after=`` of a call that goes on behind the last event that this stream has returned.

        Before the first event it is the place where the stream begins.
        """
        return self._cursor if self._found else encode_cursor(self._places)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event; waits for it.

        Raises EventsLost if the next events are not kept any more; the stream then goes on with the oldest
        one that is. Raises a BrokerError if the store refuses to be read, or was away at the start. While the
        store is away later, the call waits.
        """
        await self._start()
        while not self._found:
            if self._is_closed or self._reader is None:
                raise StopAsyncIteration
            if self._lost is not None:
                lost, self._lost = self._lost, None
                raise lost
            self._reader.news.clear()
            if self._reader.error is not None:
                raise self._reader.error
            try:
                is_more = await self._read()
            except BrokerUnavailable:
                await asyncio.sleep(PAUSE)
                continue
            if not (is_more or self._found):
                await self._reader.news.wait()
        event = self._found.popleft()
        self._cursor = event.cursor
        return event

    async def skip(self) -> bool:
        """Wait until there is an event, and leave out all that are there.

        For a reader that has to know only that something has changed, as a page that is read anew. It costs
        the same for one event and for a hundred thousand. Events that were lost count as well. Returns False
        if the stream was closed. Raises a BrokerError as the wait for an event does. A cancelled wait leaves
        out no event.
        """
        await self._start()
        is_news = bool(self._found) or self._lost is not None
        self._found.clear()
        self._lost = None
        while not (is_news or self._is_closed or self._reader is None):
            self._reader.news.clear()
            if self._reader.error is not None:
                raise self._reader.error
            is_news = self._skip_to_end()
            if not is_news:
                await self._reader.news.wait()
        return not self._is_closed

    async def aclose(self) -> None:
        """End the reading. A wait for an event ends as well."""
        self._is_closed = True
        if self._hub is not None and self._reader is not None:
            self._hub.leave(self._reader)
            self._reader.news.set()

    def __del__(self) -> None:
        hub, reader = getattr(self, "_hub", None), getattr(self, "_reader", None)
        if hub is not None and reader is not None:
            hub.leave_soon(reader)  # guard: forgotten stream

    # Within.

    async def _start(self) -> None:
        if self._reader is not None or self._is_closed:
            return
        await self._broker.open_in_time(self._namespace)
        pages = await asyncio.gather(
            *(self._broker.look(queue, LookEvents(None, 0)) for queue in self._places)
        )
        ends = {
            queue: EventPlace(page.end, page.end_of_steps)
            for queue, page in zip(self._places, pages, strict=True)
        }
        if self._is_from_now:
            self._places = {queue: Place(end.events) for queue, end in ends.items()}
        self._hub, self._reader = self._hubs.here(), EventReader(list(self._places))
        self._hub.join(self._reader, ends)

    async def _read(self) -> bool:
        """Collect events that are there. Returns whether there may be more at once."""
        is_more = False
        for queue in self._places:
            if self._lost is None:
                is_more = await self._read_queue(queue) or is_more
        return is_more

    async def _read_queue(self, queue: str) -> bool:
        feed, number = self._feed(queue), self._numbers[queue]
        if feed is not None and number is not None and feed.has(number):  # guard: rows that a feed dropped
            self._numbers[queue] = feed.next
            self._take(queue, feed.rows_from(number))
            return False
        place = self._places[queue]
        page = await self._broker.look(queue, LookEvents(place.position, ROWS_AT_ONCE, place.is_within))
        if page.is_lost:
            self._lose(queue, page)
            return True
        self._take(queue, page.rows)
        if len(page.rows) == ROWS_AT_ONCE:
            return True
        feed = self._feed(queue)
        number = None if feed is None else feed.number_after(self._places[queue].position or page.end)
        self._numbers[queue] = number
        if feed is None or number is None:  # the feed is far ahead, or behind
            await asyncio.sleep(GATHERED_FOR)
            return True
        return number < feed.next  # steps that came meanwhile

    def _skip_to_end(self) -> bool:
        """Go on behind all rows of the feeds. Returns whether there may have been wanted events."""
        is_news = False
        for queue, place in self._places.items():
            feed, number = self._feed(queue), self._numbers[queue]
            if feed is None or (number is None and (place.position or START) > feed.end):
                continue  # the feed has not come to the place yet
            is_news = is_news or self._has_news(feed, place, number)
            self._numbers[queue] = feed.next
            self._places[queue] = Place(feed.end)
        return is_news

    def _has_news(self, feed: EventFeed, place: Place, number: int | None) -> bool:
        """Whether a feed has wanted events behind a place, or has dropped some."""
        if number is None and place.position is not None and not place.is_within:
            number = feed.number_after(place.position)
        if number is None or not feed.has(number):
            return True
        return any(self._is_wanted(event) for row in feed.rows_from(number) for event in row.events)

    def _feed(self, queue: str) -> EventFeed | None:
        return None if self._hub is None else self._hub.feed(queue)

    def _take(self, queue: str, rows: Sequence[EventRow]) -> None:
        """Collect the events of rows, without those that were read."""
        for row in rows:
            if row.is_step:
                self._found += [self._event(queue, event) for event in row.events if self._is_wanted(event)]
                continue
            position, read = self._places[queue]
            skipped = read if position == row.position else 0
            if skipped is None or (position is not None and row.position < position):
                continue
            for number, event in enumerate(row.events[skipped:], skipped + 1):
                if self._is_wanted(event):
                    is_last = number == len(row.events)
                    self._places[queue] = Place(row.position, None if is_last else number)
                    self._found.append(self._event(queue, event))
            self._places[queue] = Place(row.position)

    def _is_wanted(self, event: StoredEvent) -> bool:
        return self._job_id in ("", event.job_id) and self._task in ("", event.task)

    def _event(self, queue: str, event: StoredEvent) -> Event:
        return event_of(event, queue, encode_cursor(self._places))

    def _lose(self, queue: str, page: EventPage) -> None:
        """Note that events were lost, and go on behind them."""
        self._places[queue] = Place(page.end if page.has_gone_back else None)
        self._numbers[queue] = None
        why = "the store has gone back to an earlier state" if page.has_gone_back else "later ones came"
        self._lost = EventsLost(
            f"events of the queue {queue!r} are lost, since {why}: go on with after=error.oldest",
            oldest=encode_cursor(self._places),
        )
