"""How many jobs of each queue are in which state."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..brokers.base import Broker
from ..brokers.overview import QueueSeen


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs of a queue are in which state, and how many workers look at the queue."""

    ready: int
    """Jobs that may start as soon as a worker, and the limit of their task, has room for them."""
    running: int
    waiting: int
    """Jobs that are not due yet, retries included."""
    dead: int
    parked: int
    """Jobs that wait for a worker that knows their task."""
    oldest: float | None
    """For how many seconds the first job in line has been due; None if the line is empty. Jobs that the
    limit of their task holds back are in no line."""
    workers: int
    """Workers that have looked at the queue within three leases."""
    paused: bool = False
    """The whole queue is paused. Its jobs count as ready all the same."""
    paused_tasks: Sequence[str] = ()
    """The paused tasks of the queue, by name. Their jobs count as ready all the same."""


async def count_jobs(broker: Broker, namespace: str, queues: Sequence[str]) -> dict[str, QueueCounts]:
    """The counts of these queues, by their names."""
    await broker.open_in_time(namespace)
    seen = await broker.overview(queues)
    return {queue: counts_of(each, broker.now()) for queue, each in zip(queues, seen, strict=True)}


def counts_of(seen: QueueSeen, now: int) -> QueueCounts:
    """The counts of a queue, as the broker has answered at this moment."""
    counts = seen.counts
    return QueueCounts(
        ready=counts.ready,
        running=counts.running,
        waiting=counts.waiting,
        dead=counts.dead,
        parked=counts.parked,
        oldest=None if seen.oldest is None else max(0.0, (now - seen.oldest) / 1000),
        workers=len(seen.workers),
        paused=counts.paused,
        paused_tasks=counts.paused_tasks,
    )
