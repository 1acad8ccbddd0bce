"""Pauses of queues and tasks."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import datetime

import msgspec

from ..brokers.base import Broker
from ..brokers.pauses import WHOLE_QUEUE, LookPauses, Resume, StoredPause
from ..brokers.pauses import Pause as PauseAct
from ..exceptions import InvalidValue, UnknownTask
from ..timing import LAST_MOMENT, from_milliseconds, to_seconds
from ..validation import check_identifier, check_text
from .attached_tasks import AttachedTasks

SHORTEST_PAUSE = 0.001


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A pause of a task, or of a whole queue: no job of it starts."""

    queue: str
    task: str | None
    """The name of the paused task; None if the whole queue is paused."""
    since: datetime
    """In UTC."""
    until: datetime | None
    """When the pause ends, in UTC; None if only ``engine.resume`` ends it."""
    by: str
    """The host and process that called ``engine.pause``, or the worker whose job asked for the pause."""
    reason: str


class Pauses:
    """Begins, ends and lists the pauses of an engine's queues and tasks."""

    def __init__(self, broker: Broker, namespace: str, tasks: AttachedTasks) -> None:
        self._broker = broker
        self._namespace = namespace
        self._tasks = tasks

    async def begin(self, task: object, queue: object, length: object, reason: object) -> None:
        """Pause a task or a queue, without an end if ``length`` is None."""
        where, name = self._target(task, queue, "pause")
        why = check_text(reason, what="pause(reason=)") if reason != "" else ""
        seconds = None if length is None else _length_of(length)
        await self._broker.open_in_time(self._namespace)
        until = 0 if seconds is None else min(self._broker.now() + round(seconds * 1000), LAST_MOMENT - 1)
        by = f"{socket.gethostname().replace(' ', '_')}-{os.getpid()}"
        await self._broker.steer(where, PauseAct(name, until, by, why))

    async def end(self, task: object, queue: object) -> bool:
        """End a pause. Returns whether there was one."""
        where, name = self._target(task, queue, "resume")
        await self._broker.open_in_time(self._namespace)
        return await self._broker.steer(where, Resume(name))

    async def all(self, queues: Sequence[str]) -> list[Pause]:
        """The pauses of these queues that have not ended, in the order of the queues."""
        await self._broker.open_in_time(self._namespace)
        found: list[Pause] = []
        for queue in queues:
            found += pauses_of(queue, await self._broker.look(queue, LookPauses()), self._broker.now())
        return found

    def _target(self, task: object, queue: object, call: str) -> tuple[str, str]:
        """The queue, and the name of the task; WHOLE_QUEUE stands for all tasks."""
        if task is None:
            if queue is None:
                raise InvalidValue(f"{call}() takes a task, or the name of one, or queue=: give one of them")
            return self._tasks.check_queue(queue), WHOLE_QUEUE
        if isinstance(task, str) and task not in self._tasks.by_name:
            name = check_identifier(task, what="task name")
            if queue is None:
                raise UnknownTask(
                    f"task {name!r} is not attached to engine {self._namespace!r}, so its queue is not known:"
                    f" add queue=, as in {call}({name!r}, queue='mail')"
                )
            return self._tasks.check_queue(queue), name
        found = self._tasks.find(task)
        if queue is not None:
            raise InvalidValue(
                f"{call}() takes a task or queue=, not both: task {found.name!r} is of queue {found.queue!r},"
                " so leave queue= out"
            )
        return found.queue, found.name


def _length_of(length: object) -> float:
    return to_seconds(length, what="pause(for_=)", least=SHORTEST_PAUSE)


def pauses_of(queue: str, stored: Sequence[StoredPause], now: int) -> list[Pause]:
    """The pauses of a queue that have not ended."""
    return [_read(pause, queue) for pause in stored if not pause.is_over(now)]


def _read(stored: StoredPause, queue: str) -> Pause:
    return Pause(
        queue=queue,
        task=None if stored.task == WHOLE_QUEUE else stored.task,
        since=from_milliseconds(stored.since),
        until=from_milliseconds(stored.until) if stored.until else None,
        by=stored.by,
        reason=stored.reason,
    )
