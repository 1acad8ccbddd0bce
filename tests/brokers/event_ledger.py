"""The events that a model expects of each job, and a reader that is cut again and again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import NamedTuple

from aiospinach.brokers.base import Broker
from aiospinach.brokers.events import LookEvents
from aiospinach.engine.event_cursor import Place, decode_cursor, encode_cursor
from aiospinach.engine.event_hubs import EventHubs
from aiospinach.engine.event_stream import EventStream
from aiospinach.outcome import Action

PATIENCE = 5.0
ROWS = 100_000
"""More than one example writes, so that none is dropped."""
OF_ACTIONS = {
    Action.RETRY: "job_schedule_retry",
    Action.FAIL: "job_failed",
    Action.CANCELLED: "job_cancelled",
}


class Told(NamedTuple):
    """An event, without its moment."""

    name: str
    task: str
    duration: float | None = None


class EventLedger:
    """Compares the transitions of a model with the events that a reader has read, job by job."""

    def __init__(self, namespace: str, queue: str) -> None:
        self._namespace = namespace
        self._queue = queue
        self._made: defaultdict[str, list[Told]] = defaultdict(list)
        self._read: defaultdict[str, list[Told]] = defaultdict(list)
        self._cursor = encode_cursor({queue: Place()})

    def note(self, name: str, job_id: str, task: str, duration: float | None = None) -> None:
        """Note a transition of the model."""
        self._made[job_id].append(Told(name, task, duration))

    def note_settled(self, job_id: str, task: str, action: Action, duration: float) -> None:
        """Note that a worker has settled a job, with ``duration`` if its body has run."""
        if action in OF_ACTIONS:
            self.note(OF_ACTIONS[action], job_id, task)
        if duration >= 0:
            self.note("job_finished", job_id, task, duration)

    @property
    def unread(self) -> int:
        """How many events the reader has to come."""
        return sum(map(len, self._made.values())) - sum(map(len, self._read.values()))

    async def read(self, broker: Broker, count: int) -> None:
        """Read events as a new process does, from the cursor of the last one that was read."""
        hubs = EventHubs(broker, self._namespace)
        stream = EventStream(broker, self._namespace, hubs, [self._queue], after=self._cursor)
        async with asyncio.timeout(PATIENCE), stream:
            for _ in range(count):
                event = await anext(stream)
                self._read[event.job_id].append(Told(event.name, event.task, event.data.get("duration")))
                self._cursor = event.cursor
        for job_id, read in self._read.items():
            assert read == self._made[job_id][: len(read)], f"the events of {job_id} are its transitions"

    async def read_all(self, broker: Broker) -> None:
        """Read all events that are due, and assert that there are no others."""
        await self.read(broker, self.unread)
        place = decode_cursor(self._cursor)[self._queue]
        page = await broker.look(self._queue, LookEvents(place.position, ROWS, place.is_within))
        left = [event for row in page.rows for event in row.events][place.read or 0 :]
        assert left == [], "no event is invented"
