"""Awaiting: the calls of an engine that wait for the results of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, overload

from ..brokers.base import Broker
from ..brokers.records import Envelope
from ..brokers.results import LookResults
from ..done import Done
from ..exceptions import AiospinachError, InvalidValue, UnknownJob
from ..job import Job, JobStatus, running_job
from ..timing import to_limit, to_milliseconds, to_seconds
from .attached_tasks import AttachedTasks
from .result_hub import Wait
from .result_hubs import ResultHubs
from .result_of import check_keeps_results, named, result_of

R = TypeVar("R")


class Awaiting:
    """Waits for the results of jobs."""

    namespace: str
    _broker: Broker
    _hubs: ResultHubs
    _tasks: AttachedTasks

    @overload
    async def result(
        self, job: Job[R], *, timeout: float | timedelta | None = None, queue: str | None = None
    ) -> R: ...
    @overload
    async def result(
        self, job: str, *, timeout: float | timedelta | None = None, queue: str | None = None
    ) -> Any: ...
    async def result(
        self, job: Job[Any] | str, *, timeout: float | timedelta | None = None, queue: str | None = None
    ) -> Any:
        """Wait until a job has ended, and return its result; the job is given itself, or by its id.

        The task of the job has a ``result_ttl``, and is attached to this engine. An id without ``queue`` is
        looked for in every queue of the attached tasks. After ``timeout``, in seconds or as a timedelta, it
        raises TimeoutError; 0 asks the store once. That and a cancellation end only the waiting.

        Raises JobFailed, or JobLost, if the job failed for ever; ResultCancelled if it was cancelled;
        ResultExpired if its result is not kept any more; UnknownJob if no queue knows the id; InvalidResult
        if the stored result does not fit the return annotation. Also raises InvalidValue for a task without
        ``result_ttl``, and for the job that makes this call; UnknownTask; UnknownQueue; and a BrokerError if
        the store does not answer at first. Later the wait outlives outages of the store.
        """
        limit = None if timeout is None else to_seconds(timeout, what="result(timeout=)")
        queues, job_id = self._tasks.whereabouts(job, queue)
        if not queues:
            raise UnknownJob(
                f"{named(job)} is not known: engine {self.namespace!r} has no tasks, and so no queue to"
                " search"
            )
        self._check(job, queues, job_id)
        if limit == 0:
            return await self._result_now(job, queues, job_id)
        try:
            async with asyncio.timeout(limit):
                await self._broker.open_in_time(self.namespace)
                found_in = queues[0] if len(queues) == 1 else await self._queue_of(queues, job_id)
                hub = self._hubs.of(found_in)
                wait = hub.wait_for(job_id, _created(job))
                try:
                    end = await wait.end
                finally:
                    hub.give_up(wait)
        except TimeoutError:
            raise _too_late(f"{named(job)} has", limit) from None
        return result_of(end, job, self._tasks)

    async def results(self, jobs: Iterable[Job[R]], *, timeout: float | timedelta | None = None) -> list[R]:
        """Wait until all jobs have ended, and return their results, in the order of the jobs.

        The first error ends the waiting, and is raised; it is one of ``result``. The other jobs go on.
        ``timeout`` is for all of them together. ``as_completed`` yields every end instead.
        """
        limit = to_limit(timeout, what="results(timeout=)")
        awaited = self._checked(jobs, "results()")
        results: dict[int, R] = {}
        async for place, done in self._ends(awaited, limit):
            results[place] = done.result
        return [results[place] for place in range(len(awaited))]

    def as_completed(
        self, jobs: Iterable[Job[R]], *, timeout: float | timedelta | None = None
    ) -> AsyncIterator[Done[R]]:
        """Iterate over jobs in the order in which they end: ``async for done in engine.as_completed(jobs)``.

        ``done.result`` is the result of ``done.job``, or raises ``done.error``. A job that is given twice is
        yielded twice. Raises TimeoutError if some jobs have not ended after ``timeout``, which begins with
        the iteration. Errors of the store and of wrong arguments are raised as by ``result``.
        """
        limit = to_limit(timeout, what="as_completed(timeout=)")
        return self._completed(self._checked(jobs, "as_completed()"), limit)

    # Within.

    async def _completed(self, jobs: Sequence[Job[R]], limit: float | None) -> AsyncIterator[Done[R]]:
        async for _, done in self._ends(jobs, limit):
            yield done

    async def _ends(self, jobs: Sequence[Job[R]], limit: float | None) -> AsyncIterator[tuple[int, Done[R]]]:
        """The place and the end of each job, as they end."""
        loop = asyncio.get_running_loop()
        deadline = None if limit is None else loop.time() + limit
        ended: asyncio.Queue[int] = asyncio.Queue()
        waits: list[Wait] = []
        try:
            for left in range(len(jobs), 0, -1):
                try:
                    async with asyncio.timeout_at(deadline):
                        if not waits:
                            await self._broker.open_in_time(self.namespace)
                            waits += self._begin(jobs, ended)
                        place = await ended.get()
                except TimeoutError:
                    raise _too_late(f"{left} of {len(jobs)} jobs have", limit) from None
                yield place, self._done(jobs[place], waits[place])
        finally:
            for job, wait in zip(jobs, waits, strict=False):
                self._hubs.of(job.queue).give_up(wait)

    def _begin(self, jobs: Sequence[Job[Any]], ended: asyncio.Queue[int]) -> list[Wait]:
        """Begin the waits; ``ended`` gets the places of those that end."""
        waits = [self._hubs.of(job.queue).wait_for(job.id, _created(job)) for job in jobs]
        for place, wait in enumerate(waits):
            wait.end.add_done_callback(partial(_note_end, ended, place))
        return waits

    def _done(self, job: Job[R], wait: Wait) -> Done[R]:
        end = wait.end.result()
        try:
            return Done(job=job, _result=result_of(end, job, self._tasks))
        except AiospinachError as error:
            return Done(job=job, error=error)

    def _checked(self, jobs: Iterable[Job[R]], what: str) -> list[Job[R]]:
        """The jobs in a list. Raises the errors of a wrong use."""
        if isinstance(jobs, (Job, str)) or not isinstance(jobs, Iterable):
            raise InvalidValue(f"{what} takes several jobs, not {type(jobs).__name__}: pass a list of them")
        awaited = list(jobs)
        for job in awaited:
            if not isinstance(job, Job):
                raise InvalidValue(
                    f"{what} takes jobs, as schedule() returns them, not {type(job).__name__}:"
                    " engine.result() also takes an id"
                )
        for job in awaited:
            queues, job_id = self._tasks.whereabouts(job, None)
            self._check(job, queues, job_id)
        return awaited

    def _check(self, job: Job[Any] | str, queues: Sequence[str], job_id: str) -> None:
        """Raise an error if the job keeps no result, or is the one that makes this call."""
        own = running_job.get()
        if own is not None and (own.namespace, own.id) == (self.namespace, job_id) and own.queue in queues:
            raise InvalidValue(f"{own!r} awaits its own result, for which it would wait for ever")
        if isinstance(job, Job):
            check_keeps_results(self._tasks.find(job.task_name))

    async def _result_now(self, job: Job[Any] | str, queues: Sequence[str], job_id: str) -> Any:
        """The result of a job that has ended. Raises TimeoutError if it has not."""
        await self._broker.open_in_time(self.namespace)
        end = None
        for queue in queues:
            [found] = await self._broker.look(queue, LookResults([job_id]))
            end = found.of(_created(job))
            if end is not None:
                break
        if isinstance(end, Envelope) and end.result_ttl:
            raise _too_late(f"{named(job)} has", 0)
        return result_of(end, job, self._tasks)

    async def _queue_of(self, queues: Sequence[str], job_id: str) -> str:
        """The first queue that knows the job; any of them if none does."""
        for queue in queues:
            [found] = await self._broker.look(queue, LookResults([job_id]))
            if found.of(None) is not None:
                return queue
        return queues[0]


def _note_end(ended: asyncio.Queue[int], place: int, end: asyncio.Future[Any]) -> None:
    ended.put_nowait(place)


def _created(job: Job[Any] | str) -> int | None:
    """When the job was scheduled, in milliseconds since 1970; None for an id, or for a duplicate."""
    if isinstance(job, str) or job.status is JobStatus.NOT_SET:
        return None
    return to_milliseconds(job.created_at, what="Job.created_at")


def _too_late(what: str, limit: float | None) -> TimeoutError:
    return TimeoutError(f"{what} not ended within {limit:g} s: the waiting has ended, and the work goes on")
