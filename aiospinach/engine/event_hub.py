"""All readers of events in one event loop: they share one wait for each span, and what was read."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from ..brokers.base import Broker
from ..brokers.events import EventPlace, EventRow, LookEvents, Position
from ..exceptions import BrokerUnavailable
from ..logs import Log
from .event_feed import EventFeed

logger: Log = Log("aiospinach")

READ_AT_ONCE = 100
"""Rows."""
WAIT_FOR = 5.0
"""Seconds after which a wait is made anew."""
GATHERED_FOR = 0.02
"""Seconds between an event and the read: events that come together are read together."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two tries to read from a store that is away."""


class EventReader:
    """What a hub knows of one reader."""

    def __init__(self, queues: Collection[str]) -> None:
        self.queues: Collection[str] = queues
        self.news: asyncio.Event = asyncio.Event()
        """Set when there may be new events."""
        self.error: BaseException | None = None
        """Why no more events come."""


class EventHub:
    """Reads the events of each queue that has readers. A task for each span waits for them."""

    def __init__(self, broker: Broker, namespace: str) -> None:
        self._broker = broker
        self._namespace = namespace
        self._loop = asyncio.get_running_loop()
        self._readers: dict[EventReader, None] = {}
        self._feeds: dict[str, EventFeed] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}

    def feed(self, queue: str) -> EventFeed | None:
        """The feed of a queue; None if no reader is left."""
        return self._feeds.get(queue)

    def join(self, reader: EventReader, ends: Mapping[str, EventPlace]) -> None:
        """Add a reader of these queues. ``ends`` has the latest place of each."""
        self._readers[reader] = None
        new = {queue: EventFeed(end) for queue, end in ends.items() if queue not in self._feeds}
        if new:
            self._feeds.update(new)
            self._follow_anew()

    def leave(self, reader: EventReader) -> None:
        """Remove a reader."""
        if self._readers.pop(reader, reader) is None:
            read = {queue for other in self._readers for queue in other.queues}
            unread = [queue for queue in self._feeds if queue not in read]
            for queue in unread:
                del self._feeds[queue]
            if unread:
                self._follow_anew()

    def leave_soon(self, reader: EventReader) -> None:
        """Remove a reader that was forgotten, from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.leave, reader)

    async def aclose(self) -> None:
        """End all reading: it raises BrokerUnavailable."""
        tasks = list(self._tasks)
        self._fail(BrokerUnavailable("the engine was left while its events were read"), list(self._readers))
        if tasks:
            await asyncio.wait(tasks)

    # Within.

    def _follow_anew(self) -> None:
        ended, self._tasks = self._tasks, {}
        for task in ended:
            task.cancel()
        for span in self._broker.spans(list(self._feeds)) if self._feeds else ():
            self._tasks[self._loop.create_task(self._follow(span, ended))] = None

    async def _follow(self, queues: Sequence[str], ended: Collection[asyncio.Task[None]]) -> None:
        """Read the events of a span as they come, until cancelled."""
        if ended:  # they use the same connection
            await asyncio.wait(ended)
        pause, is_failing = SHORTEST_PAUSE, False
        while True:
            try:
                for queue in queues:
                    await self._read(queue)
                places = {queue: self._feeds[queue].place for queue in queues}
                await self._broker.wait_for_events(places, WAIT_FOR)
            except BrokerUnavailable as error:
                if not is_failing:
                    logger.warning(
                        "events of %s cannot be read, and those that wait for them go on: %s",
                        ", ".join(queues),
                        error,
                        fields={"namespace": self._namespace},
                    )
                is_failing = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except Exception as error:  # the store refuses, or this is a defect
                self._fail(error, [reader for reader in self._readers if set(queues) & set(reader.queues)])
                return
            else:
                pause, is_failing = SHORTEST_PAUSE, False
                await asyncio.sleep(GATHERED_FOR)

    async def _read(self, queue: str) -> None:
        """Read all new events of a queue."""
        feed = self._feeds[queue]
        is_full = True
        while is_full:
            question = LookEvents(feed.end, READ_AT_ONCE, steps_after=feed.end_of_steps)
            page = await self._broker.look(queue, question)
            if page.is_lost:
                feed.begin_again(EventPlace(page.end, page.end_of_steps))
            else:
                is_full = len(page.rows) == READ_AT_ONCE
                feed.add(page.rows, _up_to(page.rows[-1].position, page.steps) if is_full else page.steps)
            if page.rows or page.steps or page.is_lost:
                for reader in self._readers:
                    if queue in reader.queues:
                        reader.news.set()
            is_full = len(page.rows) == READ_AT_ONCE

    def _fail(self, error: BaseException, readers: Collection[EventReader]) -> None:
        for reader in readers:
            reader.error = error
            reader.news.set()
            self.leave(reader)


def _up_to(position: Position, steps: Sequence[EventRow]) -> list[EventRow]:
    """The steps that come before the rows that were not read yet."""
    return [step for step in steps if step.position <= position]
