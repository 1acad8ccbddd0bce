"""From a call to a stored job."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from . import signals
from .batch import Batch, check_bytes
from .brokers.base import Broker, Envelope
from .exceptions import AiospinachError, BatchPartlyStored, EnqueueUncertain
from .job import Job, JobStatus
from .registry import KnownTasks
from .signals import SafeNamedSignal
from .task import Task
from .timing import from_milliseconds

Prepared = tuple[Job, Envelope]


class Producer:
    """Makes jobs and has the broker store or cancel them; says so with job_scheduled and job_cancelled."""

    def __init__(self, broker: Broker, namespace: str, tasks: KnownTasks, signal_timeout: float) -> None:
        self._broker = broker
        self._namespace = namespace
        self._tasks = tasks
        self._signal_timeout = signal_timeout

    async def schedule(
        self, task: object, at: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Job:
        """Store one job."""
        found = self._tasks.find(task)
        body = found.arguments.encode(args, kwargs)
        await self._broker.open(self._namespace)  # its clock says what is due
        job, envelope = self._prepare(new_ids(1)[0], self._broker.now(), found, at, args, kwargs, body)
        conclude = partial(self._conclude, job)
        try:
            answer = await self._broker.enqueue(job.queue, [envelope])
        except EnqueueUncertain as error:
            raise _with_conclusion(error, conclude) from error
        return await conclude(answer)

    async def schedule_batch(self, batch: Batch) -> list[Job]:
        """Store the jobs of a batch, queue by queue; gives them back in its order."""
        checked = []
        for call in batch:
            task, body = self._tasks.find(call.task), call.body
            if body is None:
                body = task.arguments.encode(call.args, call.kwargs)
            checked.append((task, call.at, call.args, call.kwargs, body))
        check_bytes(sum(len(call[-1]) for call in checked))
        await self._broker.open(self._namespace)  # its clock says what is due
        now = self._broker.now()
        ids = new_ids(len(checked))
        prepared = [self._prepare(new_id, now, *call) for new_id, call in zip(ids, checked, strict=True)]
        queues = list(dict.fromkeys(job.queue for job, _ in prepared))
        return await self._store(prepared, queues, {})

    async def cancel(self, queues: Sequence[str], job_id: str) -> tuple[JobStatus, str]:
        """Cancel a job in the first of the queues that has it; tells where it was, and in which queue."""
        await self._broker.open(self._namespace)
        for queue in queues:
            cancelled = await self._broker.cancel(queue, job_id)
            if cancelled.status is JobStatus.NOT_SET:
                continue
            if cancelled.job is not None and cancelled.status is not JobStatus.RUNNING:
                await self.tell(signals.job_cancelled, {"job": self._read(cancelled.job, queue)})
            return cancelled.status, queue
        return JobStatus.NOT_SET, ""

    async def tell(self, signal: SafeNamedSignal, kwargs: dict[str, Any]) -> None:
        """Send a signal of the engine from wherever its user called it."""
        if signal.receivers and not signal.is_muted:
            await signal.dispatch(self._namespace, kwargs, timeout=self._signal_timeout, context=None)

    async def _conclude(self, job: Job, answer: Sequence[bool]) -> Job:
        """What follows the broker's answer to one job."""
        if not answer[0]:
            return _with_status(job, JobStatus.NOT_SET)
        await self.tell(signals.job_scheduled, {"job": job})
        return job

    async def _tell_scheduled(self, jobs: Sequence[Job]) -> None:
        if signals.job_scheduled.receivers:
            for job in jobs:
                if job.status is not JobStatus.NOT_SET:
                    await self.tell(signals.job_scheduled, {"job": job})

    def _prepare(
        self,
        new_id: str,
        now: int,
        task: Task[..., Any],
        at: int | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        body: bytes,
    ) -> Prepared:
        due = now if at is None else at
        job_id = task.job_id or new_id
        job = Job(
            id=job_id,
            task_name=task.name,
            queue=task.queue,
            namespace=self._namespace,
            at=from_milliseconds(due),
            status=JobStatus.QUEUED if due <= now else JobStatus.WAITING,
            max_retries=task.max_retries,
            args=args,
            kwargs=kwargs,
        )
        named = task.job_id is not None
        return job, Envelope(job_id, task.name, body, due, task.max_retries, named=named)

    async def _store(
        self,
        prepared: Sequence[Prepared],
        queues: Sequence[str],
        stored: dict[int, Job],
        answer: Sequence[bool] | None = None,
    ) -> list[Job]:
        """Store the jobs of these queues, of which the first may have been answered already, and tell of
        them; ``stored`` has those of earlier queues, by their places in the batch."""
        new: list[int] = []
        failure: AiospinachError | None = None
        for number, queue in enumerate(queues):
            places = [place for place, (job, _) in enumerate(prepared) if job.queue == queue]
            try:
                if answer is None:
                    answer = await self._broker.enqueue(queue, [prepared[place][1] for place in places])
            except EnqueueUncertain as error:
                failure = _with_conclusion(error, partial(self._store, prepared, queues[number:], stored))
                failure.__cause__ = error
                break
            except AiospinachError as error:
                failure = error
                break
            for place, is_new in zip(places, answer, strict=True):
                job = prepared[place][0]
                stored[place] = job if is_new else _with_status(job, JobStatus.NOT_SET)
                new.append(place)
            answer = None
        await self._tell_scheduled([stored[place] for place in sorted(new)])
        jobs = [stored[place] for place in sorted(stored)]
        if failure is None:
            return jobs
        if not stored:
            raise failure
        raise BatchPartlyStored(
            f"queue {queue!r} of the batch was not stored ({failure}); the {len(stored)} jobs of"
            f" {', '.join(sorted({job.queue for job in jobs}))} were",
            stored=jobs,
        ) from failure

    def _read(self, envelope: Envelope, queue: str) -> Job:
        """The cancelled job, with its arguments as far as they can be read here."""
        args, kwargs = self._tasks.read(envelope.task, envelope.body)
        return envelope.as_job(self._namespace, queue, JobStatus.CANCELLED, args, kwargs)


def new_ids(count: int) -> list[str]:
    """So many ids of 128 random bits, for which the system is asked once."""
    digits = secrets.token_hex(16 * count)
    return [digits[start : start + 32] for start in range(0, 32 * count, 32)]


def _with_status(job: Job, status: JobStatus) -> Job:
    return msgspec.structs.replace(job, status=status)


def _with_conclusion(
    error: EnqueueUncertain, conclude: Callable[[list[bool]], Awaitable[Any]]
) -> EnqueueUncertain:
    """The broker's error as ``schedule`` raises it: its retry() also does what follows an answer."""

    async def retry() -> Any:
        try:
            answer = await error.retry()
        except EnqueueUncertain as again:
            raise _with_conclusion(again, conclude) from again
        return await conclude(answer)

    return EnqueueUncertain(str(error), retry=retry)
