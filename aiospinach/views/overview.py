"""The first page of a view: each queue with its counts, its pauses and its rate, and all workers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from aiospinach import Engine, EngineOverview, MinuteRow, Pause, QueueOverview, WorkerInfo

HISTORY = 60
"""How many minutes of the past a row has."""
REREAD_AFTER = 60.0
"""Seconds after which the past of a queue is read again."""


class QueueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A queue at one moment."""

    name: str
    ready: int
    running: int
    waiting: int
    dead: int
    parked: int
    oldest: float | None
    """For how many seconds the first job in line has been due; None if the line is empty."""
    pause: Pause | None
    """The pause of the whole queue."""
    paused_tasks: Sequence[Pause]
    """The pauses of single tasks, by the names of the tasks."""
    workers: int
    """How many live workers look at the queue."""
    slots: int
    """How many jobs these workers run at once, at most. They may have other queues as well."""
    per_minute: Sequence[int]
    """How many tries ended in each of the last 60 minutes, the oldest first; the last one goes on."""
    failed_per_minute: Sequence[int]
    """How many of these failed, whether they are tried again or not."""
    rate: float
    """How many tries ended within the last minute, at about."""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All queues and workers of an engine at one moment."""

    namespace: str
    at: datetime
    """By the clock of the store, in UTC."""
    queues: Sequence[QueueRow]
    """By their names."""
    workers: Sequence[WorkerInfo]
    """By their names."""
    busy: int
    """How many slots of the workers have a job."""
    slots: int
    """How many jobs all workers run at once, at most."""
    per_minute: Sequence[int]
    """As in QueueRow, for all queues together."""
    rate: float
    """As in QueueRow, for all queues together."""


class OverviewReader:
    """Reads overviews of one engine, again and again.

    The past is read at first. Later the minutes that pass are in each overview, and the past of one queue at
    a time is read again, each every minute at most: workers that ended have left numbers that no live worker
    reports.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pasts: dict[str, _Past] = {}

    async def read(self) -> Overview:
        """Return the overview of this moment. Raises a BrokerError. A cancellation changes nothing."""
        seen = await self._engine.overview()
        self._pasts = {queue: self._pasts.get(queue) or _Past() for queue in seen.queues}
        for queue in self._due():
            past = self._pasts[queue]
            past.add(await self._engine.throughput(queue=queue))
            past.read_at = time.monotonic()
        for queue, each in seen.queues.items():
            self._pasts[queue].add(each.minutes)
        return overview_of(self._engine.namespace, seen, self._pasts)

    def _due(self) -> list[str]:
        """The queues whose past was not read yet, or else the one whose past is the oldest."""
        unread = [queue for queue, past in self._pasts.items() if past.read_at is None]
        if unread or not self._pasts:
            return unread
        oldest = min(self._pasts, key=lambda queue: self._pasts[queue].read_at or 0.0)
        is_due = time.monotonic() - (self._pasts[oldest].read_at or 0.0) > REREAD_AFTER
        return [oldest] if is_due else []


async def read_overview(engine: Engine) -> Overview:
    """Return the overview of an engine at this moment.

    An OverviewReader that is kept asks less. Raises a BrokerError. A cancellation changes nothing.
    """
    return await OverviewReader(engine).read()


class _Past:
    """How many tries ended and failed in the minutes of a queue."""

    def __init__(self) -> None:
        self.read_at: float | None = None
        """When the whole past was read last, by ``time.monotonic()``."""
        self._ended: dict[int, int] = {}
        self._failed: dict[int, int] = {}

    def add(self, rows: Sequence[MinuteRow]) -> None:
        """Note the numbers of some minutes. No number shrinks: a worker that has left reports no more."""
        for row in rows:
            minute, failed = _minute(row.minute), row.failed + row.retried
            self._ended[minute] = max(self._ended.get(minute, 0), row.done + failed)
            self._failed[minute] = max(self._failed.get(minute, 0), failed)

    def up_to(self, last: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return how many ended and failed in each of the last minutes, and forget earlier ones."""
        minutes = range(last - HISTORY + 1, last + 1)
        self._ended = {minute: count for minute, count in self._ended.items() if minute >= minutes[0]}
        self._failed = {minute: count for minute, count in self._failed.items() if minute >= minutes[0]}
        return (
            tuple(self._ended.get(minute, 0) for minute in minutes),
            tuple(self._failed.get(minute, 0) for minute in minutes),
        )


def overview_of(namespace: str, seen: EngineOverview, pasts: Mapping[str, _Past]) -> Overview:
    """Return the overview, from what the engine has answered."""
    queues = [_row_of(queue, each, pasts[queue], seen.at) for queue, each in seen.queues.items()]
    total = tuple(map(sum, zip(*(row.per_minute for row in queues), strict=True))) or (0,) * HISTORY
    return Overview(
        namespace=namespace,
        at=seen.at,
        queues=queues,
        workers=seen.workers,
        busy=sum(worker.running for worker in seen.workers),
        slots=sum(worker.number for worker in seen.workers),
        per_minute=total,
        rate=_rate(total, seen.at),
    )


def _row_of(queue: str, seen: QueueOverview, past: _Past, at: datetime) -> QueueRow:
    counts = seen.counts
    ended, failed = past.up_to(_minute(at))
    return QueueRow(
        name=queue,
        ready=counts.ready,
        running=counts.running,
        waiting=counts.waiting,
        dead=counts.dead,
        parked=counts.parked,
        oldest=counts.oldest,
        pause=next((pause for pause in seen.pauses if pause.task is None), None),
        paused_tasks=[pause for pause in seen.pauses if pause.task is not None],
        workers=counts.workers,
        slots=seen.slots,
        per_minute=ended,
        failed_per_minute=failed,
        rate=_rate(ended, at),
    )


def _rate(per_minute: Sequence[int], at: datetime) -> float:
    """Of the minute before, the part that lies within the last 60 seconds counts."""
    passed = (at.second + at.microsecond / 1e6) / 60
    return per_minute[-1] + per_minute[-2] * (1 - passed)


def _minute(moment: datetime) -> int:
    return int(moment.timestamp()) // 60
