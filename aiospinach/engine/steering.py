"""Steering: the calls of an engine that change what becomes of stored jobs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from ..brokers.base import Broker
from ..brokers.questions import Reschedule
from ..job import Job, JobStatus
from ..task import Task
from ..timing import to_milliseconds
from .attached_tasks import AttachedTasks
from .bulk import Bulk
from .dead_jobs import DeadJobs
from .pauses import Pause, Pauses
from .producer import Producer
from .worker_control import WorkerControl


class Steering:
    """Cancels, moves and pauses jobs, and requeues or discards dead ones."""

    namespace: str
    _broker: Broker
    _bulk: Bulk
    _dead_jobs: DeadJobs
    _pauses: Pauses
    _producer: Producer
    _tasks: AttachedTasks
    _workers: WorkerControl

    async def cancel(self, job: Job | str, *, queue: str | None = None) -> JobStatus:
        """Cancel a job, given itself or by its id.

        Returns the status that it had. WAITING or QUEUED: it will never run. RUNNING: its body is being
        cancelled if it is async; a plain one learns it from ``should_stop()``, and succeeds if it returns;
        the job never runs again. NOT_SET: no such job lives. An id without ``queue`` is looked for in every
        queue of the attached tasks. Raises UnknownQueue, InvalidValue or a BrokerError.
        """
        queues, job_id = self._tasks.whereabouts(job, queue)
        status, found_in = await self._producer.cancel(queues, job_id)
        self._workers.on_cancelled(found_in, job_id, status)
        return status

    async def requeue(self, job: Job | str, *, queue: str | None = None) -> bool:
        """Queue a dead job again, as if it had never run; it is given itself, or by its id.

        Returns False if no such job is dead, or if its id is in use again. Raises InvalidValue if
        ``Engine(leave_out=)`` left out its arguments, and the errors of ``cancel``.
        """
        queues, job_id = self._tasks.whereabouts(job, queue)
        return await self._dead_jobs.requeue(queues, job_id)

    async def discard(self, job: Job | str, *, queue: str | None = None) -> bool:
        """Forget a dead job. Returns False if no such job is dead. Raises the errors of ``cancel``."""
        queues, job_id = self._tasks.whereabouts(job, queue)
        return await self._dead_jobs.discard(queues, job_id)

    async def reschedule(self, job: Job | str, at: datetime | None, *, queue: str | None = None) -> JobStatus:
        """Move a job that waits or is queued, given itself or by its id, to another moment.

        ``at`` is the moment; a naive datetime means UTC, and None or a past one means now. Returns the status
        that the job had. WAITING or QUEUED: it was moved, and starts at that moment at the earliest; a job
        that waits for a retry or for a worker that knows its task is WAITING. RUNNING or FAILED: it stays as
        it is. NOT_SET: no such job lives. Raises the errors of ``cancel``. If the call is cancelled, the job
        may have been moved.
        """
        queues, job_id = self._tasks.whereabouts(job, queue)
        moment = 0 if at is None else to_milliseconds(at, what="reschedule()")
        await self._broker.open_in_time(self.namespace)
        status = JobStatus.NOT_SET
        for each in queues:
            found = (await self._broker.steer(each, Reschedule(job_id, moment))).status
            if found in (JobStatus.WAITING, JobStatus.QUEUED):
                self._workers.on_rescheduled(each, job_id)
            if found in (JobStatus.WAITING, JobStatus.QUEUED, JobStatus.RUNNING):
                return found
            status = found if status is JobStatus.NOT_SET else status
        return status

    async def pause(
        self,
        task: Task[..., Any] | str | None = None,
        *,
        queue: str | None = None,
        for_: timedelta | float | None = None,
        reason: str = "",
    ) -> None:
        """Start no more jobs of a task, or of a whole queue, on any worker.

        Give a task, itself or by its name, or ``queue=``. The name of a task that is not attached needs
        ``queue=`` as well. The pause ends after ``for_``, in seconds or as a timedelta, or else with
        ``resume``. It outlives restarts. Jobs can be scheduled meanwhile; all keep their order. Jobs that run
        go on, and no worker takes another one. Ticks of paused periodic tasks are skipped. A
        pause that exists is replaced, and keeps its beginning. ``reason`` is a text for people. Raises
        UnknownTask, UnknownQueue, InvalidValue or a BrokerError. If the call is cancelled, the pause may
        have begun.
        """
        await self._pauses.begin(task, queue, for_, reason)

    async def resume(self, task: Task[..., Any] | str | None = None, *, queue: str | None = None) -> bool:
        """End a pause that ``pause`` or a job began, given as to ``pause``.

        Returns False if there was none. The pause of a queue and those of its tasks end apart. Raises the
        errors of ``pause``.
        """
        return await self._pauses.end(task, queue)

    async def pauses(self, *, queue: str | None = None) -> list[Pause]:
        """List what is paused in each queue of the attached tasks, or in one ``queue``.

        Raises UnknownQueue or a BrokerError.
        """
        return await self._pauses.all(self._tasks.queues_to_search(queue))

    async def requeue_dead(
        self,
        *,
        queue: str | None = None,
        task: Task[..., Any] | str | None = None,
        reason: str | None = None,
        error: str | type[BaseException] | None = None,
    ) -> int:
        """Queue dead jobs again, as if they had never run, the oldest of each queue first.

        Only those of a ``queue``, of a ``task``, or that died for a ``reason``: lost, poison, exhausted,
        aborted, interrupted, unknown, result or unreadable, or of an ``error``: a class, or its name with its
        module. The name of a task need not be attached. Jobs whose id is in use, or that were kept without
        their arguments, stay dead. Returns how many were queued. The broker takes 500 a call: if a call fails
        or is cancelled, some jobs are queued, and a repeat goes on with the others. Raises UnknownTask for a
        Task that is not attached, UnknownQueue, InvalidValue or a BrokerError.
        """
        return await self._bulk.steer_dead(task, queue, reason, error, is_to_run=True)

    async def discard_dead(
        self,
        *,
        queue: str | None = None,
        task: Task[..., Any] | str | None = None,
        reason: str | None = None,
        error: str | type[BaseException] | None = None,
    ) -> int:
        """Forget dead jobs, chosen as by ``requeue_dead``. Returns how many. Raises the same errors."""
        return await self._bulk.steer_dead(task, queue, reason, error, is_to_run=False)

    async def cancel_all(self, *, queue: str | None = None, task: Task[..., Any] | str | None = None) -> int:
        """Cancel all jobs that wait or are queued, of every queue, or of a ``queue`` or a ``task``.

        Running jobs go on, and periodic tasks keep their next ticks. Jobs that are scheduled meanwhile may be
        left. Sends job_cancelled for each job. Returns how many were cancelled. The broker takes 500 a call:
        if a call fails or is cancelled, some jobs are cancelled, and a repeat goes on with the others. Raises
        UnknownTask, UnknownQueue, InvalidValue or a BrokerError.
        """
        return await self._bulk.cancel(task, queue)
