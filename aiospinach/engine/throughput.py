"""How many jobs ended in each minute, as workers have reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from ..brokers.base import Broker
from ..brokers.places import LookRows
from ..brokers.reports import MINUTE, TaskRow, WorkerRow
from ..timing import from_milliseconds


class TaskNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """How many tries of a task ended in a minute, and how."""

    done: int = 0
    failed: int = 0
    """Tries after which the job was dead."""
    retried: int = 0
    """Tries that failed, and are followed by another."""
    seconds: float = 0.0
    """How long the bodies took, all together."""


class MinuteRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers of a queue did in one minute."""

    minute: datetime
    """Its beginning, in UTC. A worker may count a job in the minute after it has ended."""
    queue: str
    done: int
    failed: int
    """Jobs that died."""
    retried: int
    """Tries that failed, and are followed by another."""
    seconds: float
    """How long the bodies took, all together."""
    by_task: Mapping[str, TaskNumbers]
    """The same by the names of tasks."""


async def read_throughput(
    broker: Broker, namespace: str, queues: Sequence[str], seconds: float
) -> list[MinuteRow]:
    """The rows of the last ``seconds``, in the order of time."""
    await broker.open_in_time(namespace)
    since = max(0, broker.now() - int(seconds * 1000)) // MINUTE
    found: list[MinuteRow] = []
    for queue in queues:
        found += minutes_of(queue, await broker.look(queue, LookRows(since)))
    return sorted(found, key=lambda row: (row.minute, row.queue))


def minutes_of(queue: str, rows: Sequence[WorkerRow]) -> list[MinuteRow]:
    """Add up the rows of all workers, minute by minute."""
    minutes: defaultdict[int, defaultdict[str, list[TaskRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for task, numbers in row.by_task.items():
            minutes[row.minute][task].append(numbers)
    return [_minute_of(queue, minute, by_task) for minute, by_task in minutes.items()]


def _minute_of(queue: str, minute: int, by_task: Mapping[str, Sequence[TaskRow]]) -> MinuteRow:
    total = _sum([row for rows in by_task.values() for row in rows])
    return MinuteRow(
        minute=from_milliseconds(minute * MINUTE),
        queue=queue,
        done=total.done,
        failed=total.failed,
        retried=total.retried,
        seconds=total.seconds,
        by_task={task: _sum(rows) for task, rows in by_task.items() if task},
    )


def _sum(rows: Sequence[TaskRow]) -> TaskNumbers:
    return TaskNumbers(
        done=sum(row.done for row in rows),
        failed=sum(row.failed for row in rows),
        retried=sum(row.retried for row in rows),
        seconds=sum(row.seconds for row in rows),
    )
