"""Cancels, requeues and discards many jobs, some a call to the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from .. import signals
from ..brokers.base import Broker
from ..brokers.bulk import CancelSome, Cursor, SteerDead
from ..exceptions import InvalidValue
from ..job import JobStatus
from ..logs import Log
from ..outcome import DEAD_REASONS
from ..task import Task
from ..validation import check_identifier
from .attached_tasks import AttachedTasks
from .producer import Producer
from .worker_control import WorkerControl

logger: Log = Log("aiospinach")


class Bulk:
    """Changes many jobs of an engine's queues. A call that fails halfway has changed some of them."""

    def __init__(
        self,
        broker: Broker,
        namespace: str,
        tasks: AttachedTasks,
        producer: Producer,
        workers: WorkerControl,
    ) -> None:
        self._broker = broker
        self._namespace = namespace
        self._tasks = tasks
        self._producer = producer
        self._workers = workers

    async def cancel(self, task: object, queue: object) -> int:
        """Cancel the jobs that wait or are queued. Returns how many."""
        queues, name = self._target(task, queue)
        await self._broker.open_in_time(self._namespace)
        return sum([count for each in queues async for count in self._cancel(each, name)])

    async def steer_dead(
        self, task: object, queue: object, reason: object, error: object, *, is_to_run: bool
    ) -> int:
        """Requeue or discard dead jobs. Returns how many."""
        queues, name = self._target(task, queue)
        chosen = SteerDead(is_to_run, name, _check_reason(reason), error=_check_error(error))
        await self._broker.open_in_time(self._namespace)
        return sum([await self._steer_dead(each, chosen) for each in queues])

    async def _cancel(self, queue: str, task: str) -> AsyncIterator[int]:
        cursor: Cursor | None = ()
        while cursor is not None:
            # The jobs are needed for receivers, and by workers here that wait for retries.
            with_jobs = bool(signals.job_cancelled.receivers) or self._workers.is_running
            result = await self._broker.steer(queue, CancelSome(task, with_jobs, cursor))
            for job in result.jobs:
                self._workers.on_cancelled(queue, job.id, JobStatus.WAITING)
            await self._producer.send_cancelled(result.jobs, queue)
            yield result.count
            cursor = result.cursor

    async def _steer_dead(self, queue: str, chosen: SteerDead) -> int:
        count = bare = 0
        cursor: Cursor | None = ()
        while cursor is not None:
            result = await self._broker.steer(queue, msgspec.structs.replace(chosen, cursor=cursor))
            count, bare, cursor = count + result.count, bare + result.bare, result.cursor
        if bare:
            logger.warning(
                "queue %s: %d dead jobs are not requeued, since Engine(leave_out=) left out their arguments:"
                " schedule them again, and discard these",
                queue,
                bare,
                fields={"namespace": self._namespace, "queue": queue},
            )
        return count

    def _target(self, task: object, queue: object) -> tuple[Sequence[str], str]:
        """The queues, and the name of the task, which need not be attached; an empty name stands for all."""
        if task is None:
            return self._tasks.queues_to_search(queue), ""
        if isinstance(task, Task):
            name = self._tasks.find(task).name
        else:
            name = check_identifier(task, what="task name")
        return self._tasks.queues_to_search(queue), name


def _check_reason(reason: object) -> str:
    if reason is not None and reason not in DEAD_REASONS:
        shown = repr(reason[:40]) if isinstance(reason, str) else type(reason).__name__
        raise InvalidValue(f"reason= takes one of {', '.join(DEAD_REASONS)}, not {shown}")
    return reason if isinstance(reason, str) else ""


def _check_error(error: object) -> str | None:
    if error is None or isinstance(error, str):
        return error
    if isinstance(error, type) and issubclass(error, BaseException):
        return f"{error.__module__}.{error.__qualname__}"
    raise InvalidValue(f"error= takes a class of errors, or its full name, not {type(error).__name__}")
