"""Steering: the calls of an engine that change what becomes of stored jobs."""

from __future__ import annotations

from ..job import Job, JobStatus
from .attached_tasks import AttachedTasks
from .dead_jobs import DeadJobs
from .producer import Producer
from .worker_control import WorkerControl


class Steering:
    """Cancels jobs, and requeues or discards dead ones."""

    _dead_jobs: DeadJobs
    _producer: Producer
    _tasks: AttachedTasks
    _workers: WorkerControl

    async def cancel(self, job: Job | str, *, queue: str | None = None) -> JobStatus:
        """Cancel a job, given itself or by its id.

        Returns the status that it had. WAITING or QUEUED: it will never run. RUNNING: its body is being
        cancelled if it is async, and the job never runs again. NOT_SET: no such job lives. An id without
        ``queue`` is looked for in every queue of the attached tasks. Raises UnknownQueue, InvalidValue or a
        BrokerError.
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
