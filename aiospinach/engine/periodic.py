"""The periodic tasks of an engine: when they are due, and what their last ticks were."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from ..brokers.base import Broker
from ..brokers.periodic import LookPeriodic, TickSeen
from ..cron import Cron
from ..timing import LAST_MOMENT, from_milliseconds
from .attached_tasks import AttachedTasks


class PeriodicTask(msgspec.Struct, frozen=True, kw_only=True):
    """A periodic task: its calendar, and its ticks."""

    task: str
    """Its name."""
    queue: str
    periodicity: timedelta | Cron | None
    """None for a task that is not attached to this engine, or is not periodic here."""
    next_at: datetime | None
    """When it is due next, in UTC; None until a worker has registered the task."""
    last_at: datetime | None
    """When it was due last and a job was scheduled, in UTC; None if that was never so."""
    last_id: str | None
    """The id of this job, which ``Engine.job`` finds while the job lives or is dead."""


async def read_periodic(broker: Broker, tasks: AttachedTasks, queues: Sequence[str]) -> list[PeriodicTask]:
    """The periodic tasks of these queues, by their names."""
    found: list[PeriodicTask] = []
    for queue in queues:
        ticks = {tick.task: tick for tick in await broker.look(queue, LookPeriodic())}
        attached = {task.name for task in tasks.by_name.values() if task.queue == queue and task.periodicity}
        found += (_read(task, queue, ticks.get(task), tasks) for task in ticks.keys() | attached)
    return sorted(found, key=lambda each: (each.task, each.queue))


def _read(name: str, queue: str, tick: TickSeen | None, tasks: AttachedTasks) -> PeriodicTask:
    task = tasks.by_name.get(name)
    last_id = tick.last_id if tick is not None else ""
    return PeriodicTask(
        task=name,
        queue=queue,
        periodicity=None if task is None else task.periodicity,
        next_at=None if tick is None else _moment(tick.next_due),
        last_at=_moment_of_id(last_id),
        last_id=last_id or None,
    )


def _moment(milliseconds: int) -> datetime | None:
    return from_milliseconds(milliseconds) if 0 < milliseconds < LAST_MOMENT else None


def _moment_of_id(job_id: str) -> datetime | None:
    """The moment in the id of a job of a tick, after the name of its task and '@'."""
    digits = job_id.rpartition("@")[2]
    return _moment(int(digits)) if digits.isascii() and digits.isdigit() else None
