"""Dead jobs, which failed for ever: iterating over them, requeueing and discarding them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import msgspec

from ..brokers.base import Broker
from ..brokers.questions import Discard, LookDead, Requeue
from ..brokers.records import DeadRecord
from ..exceptions import InvalidValue
from ..job import Job, JobStatus
from ..timing import from_milliseconds
from .attached_tasks import AttachedTasks
from .snapshots import detail_of

PAGE = 100


class DeadJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that failed for ever, and why. The repr shows neither arguments nor message."""

    job: Job
    died_at: datetime
    """In UTC."""
    reason: str
    """lost, poison, exhausted, aborted, interrupted, result, unknown or unreadable; the design page explains
    them."""
    error: str
    """The class of the last error, with its module."""
    message: str
    """The message of the last error, at most 1,024 characters; empty if left out."""
    traceback: str
    """The traceback of the last error, at most its last 8,192 characters; empty if left out."""

    def __repr__(self) -> str:
        return f"<DeadJob {self.reason} {self.error} {self.job!r}>"


class DeadJobs:
    """The dead jobs of an engine's queues."""

    def __init__(self, broker: Broker, namespace: str, tasks: AttachedTasks) -> None:
        self._broker = broker
        self._namespace = namespace
        self._tasks = tasks

    async def jobs(self, queues: Sequence[str]) -> AsyncIterator[DeadJob]:
        """Every dead job, the latest of each queue first. The iteration skips no job if jobs are requeued or
        discarded meanwhile."""
        await self._broker.open_in_time(self._namespace)
        for queue in queues:
            async for record in self._records(queue):
                yield read_dead(record, self._namespace, queue, self._tasks)

    async def requeue(self, queues: Sequence[str], job_id: str) -> bool:
        """Queue a dead job again, in the first of the queues that has it. Returns False if none has it."""
        await self._broker.open_in_time(self._namespace)
        for queue in queues:
            if await self._is_done(queue, Requeue(job_id)):
                return True
        return False

    async def discard(self, queues: Sequence[str], job_id: str) -> bool:
        """Forget a dead job, in the first of the queues that has it. Returns False if none has it."""
        await self._broker.open_in_time(self._namespace)
        for queue in queues:
            if await self._is_done(queue, Discard(job_id)):
                return True
        return False

    async def _is_done(self, queue: str, act: Requeue | Discard) -> bool:
        steered = await self._broker.steer(queue, act)
        if steered.is_bare:
            raise InvalidValue(
                f"dead job {act.job_id!r} was kept without its arguments, because of Engine(leave_out=):"
                " schedule it again with its arguments, and discard() this one"
            )
        return steered.status is not JobStatus.NOT_SET

    async def _records(self, queue: str) -> AsyncIterator[DeadRecord]:
        seen: set[str] = set()
        offset = 0
        while True:
            page = await self._broker.look(queue, LookDead(offset, PAGE))
            if offset and not any(record.job.id in seen for record in page):
                offset = max(0, offset - PAGE)  # some were removed meanwhile: go back to a known one
                continue
            for record in page:
                if record.job.id not in seen:
                    seen.add(record.job.id)
                    yield record
            if len(page) < PAGE:
                return
            offset += PAGE - 1


def read_dead(record: DeadRecord, namespace: str, queue: str, tasks: AttachedTasks) -> DeadJob:
    """Return a dead job for users, with its arguments if they can be read here."""
    args, kwargs = tasks.read(record.job.task, record.job.arguments)
    detail = detail_of(record)
    return DeadJob(
        job=record.job.as_job(namespace, queue, JobStatus.FAILED, args, kwargs),
        died_at=from_milliseconds(record.died_at),
        reason=detail.get("reason", ""),
        error=detail.get("error", ""),
        message=detail.get("message", ""),
        traceback=detail.get("traceback", ""),
    )
