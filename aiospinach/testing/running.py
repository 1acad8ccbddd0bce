"""Running the jobs of a test: what is due now, what becomes due, and one job twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, overload

from .. import signals
from ..engine import Engine
from ..exceptions import InvalidValue, LeaseLost
from ..job import Job, JobStatus
from ..task import Task
from ..workers import Pool
from .broker import KeepingBroker
from .drive import Drive
from .lost_workers import Loss
from .record import Record, connected

P = ParamSpec("P")
T = TypeVar("T")

LIMIT = 10_000
TIMEOUT = 10.0
LOST_TICKS = 30
"""A lost job is found after so many ticks at the latest: its lease and the pauses of a rescue are shorter."""


class Running:
    """Runs jobs, in steps of the clock of the test."""

    def __init__(self, engine: Engine, broker: KeepingBroker, record: Record, number: int) -> None:
        self._engine = engine
        self._broker = broker
        self._record = record
        self._drive = Drive(engine, broker, record, number)

    async def drain(self, *, raise_errors: bool = True, limit: int = LIMIT, timeout: float = TIMEOUT) -> int:
        """Run all jobs that are due, and those that these schedule at once, until nothing is due.

        Returns how many bodies have run. Jobs and retries that are due later wait: see ``advance``. When all
        have run, the first error is raised of a job that failed for ever, or that raised it and waits for a
        retry. A job that asked for its retry by a RetryException raises nothing. ``raise_errors=False``
        raises none of these.

        Raises AssertionError if more than ``limit`` bodies run, and TimeoutError, which names the jobs, if
        they take longer than ``timeout`` seconds. Also raises AlreadyRunning within another ``drain`` or
        ``advance``, and BrokerUnavailable during an outage. After a TimeoutError, or if the call is
        cancelled, the bodies are cancelled; on workers of the application they go on.
        """
        async with self._run("drain()", raise_errors, limit, timeout) as run:
            await run.due()
        return run.count

    async def advance(
        self,
        by: timedelta = timedelta(0),
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        raise_errors: bool = True,
        limit: int = LIMIT,
        timeout: float = TIMEOUT,
    ) -> int:
        """Move the clock of the jobs, and run on the way what becomes due, each at its moment and in order.

        Retries, jobs of later and periodic tasks run; jobs of lost workers are found when their leases end.
        The time is the sum of all arguments. The clock of the process stays: ``datetime.now()`` moves only if
        ``testing.memory(travel=)`` moves it. Returns how many bodies have run. ``raise_errors`` raises the
        first error of a job that has not succeeded by the end. ``limit`` and ``timeout`` are for each moment.
        Raises the errors of ``drain``, and InvalidValue for a negative time.
        """
        span = by + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if span < timedelta(0):
            raise InvalidValue(f"advance() moves the clock forward, not by {span}")
        broker = self._broker
        until = broker.now() + span // timedelta(milliseconds=1)
        if not self._wait_for_outage(until):
            return 0
        async with self._run("advance()", raise_errors, limit, timeout) as run:
            await run.due()
            while (moment := broker.next_moment(run.queues)) is not None and moment <= until:
                broker.clock.move_to(moment)
                await run.due()
            broker.clock.move_to(until)
        return run.count

    @overload
    async def repeat(
        self, task: Task[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, T]: ...
    @overload
    async def repeat(self, task: Task[P, T], /, *args: P.args, **kwargs: P.kwargs) -> tuple[T, T]: ...
    async def repeat(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> tuple[Any, Any]:
        """Schedule a job, and have it run twice: its first worker is lost before the result is stored.

        So it shows whether the body is idempotent: aiospinach runs a job at least once, and twice after such
        a loss. The id of the job is the same in both runs. What else is due runs as well. The lease of the
        lost worker ends at once, and the clock of the jobs stays. Returns the results of both runs.

        Raises the error of a body, the errors of ``drain`` and ``schedule``, and InvalidValue if
        ``max_retries`` is 0: a job of such a task runs once at most.
        """
        found = self._engine._tasks.find(task)
        if not found.max_retries:
            raise InvalidValue(
                f"task {found.name!r} has max_retries=0: a job of it starts once at most, and is never"
                " repeated; give the task max_retries, or do not test this"
            )
        results: list[Any] = []

        def note(namespace: str, job: Job, err: BaseException | None, result: Any, **_: Any) -> None:
            if job == scheduled and (err is None or isinstance(err, LeaseLost)):
                results.append(result)

        scheduled = await self._engine.schedule(task, *args, **kwargs)
        if scheduled.status is not JobStatus.QUEUED:
            raise InvalidValue(f"repeat() needs a new job, and {scheduled!r} is a duplicate of another")
        self._broker.lost_workers.add(Loss("before_settle", job_id=scheduled.id, only_done=True))
        with connected(signals.job_finished, note, self._engine.namespace):
            async with self._run("repeat()", True, LIMIT, TIMEOUT) as run:
                await run.due()
                for _ in range(LOST_TICKS):
                    if len(results) != 1:
                        break
                    self._broker.clock.age_leases(self._broker.tick_period)
                    await run.due()
        if len(results) != 2:
            raise AssertionError(f"{scheduled!r} has succeeded {len(results)} times, and not twice")
        return results[0], results[1]

    def _wait_for_outage(self, until: int) -> bool:
        """Move the clock to the end of an outage. Returns False if the broker stays away until the moment."""
        outage, clock = self._broker.outage, self._broker.clock
        if outage is None or not self._broker.is_away or outage.until is None:
            return True
        clock.move_to(min(outage.until, until))
        return outage.until <= until

    @asynccontextmanager
    async def _run(
        self, what: str, raise_errors: bool, limit: int, timeout: float
    ) -> AsyncIterator[_RunOfJobs]:
        """Workers for some moments. Raises the first error that is left."""
        self._record.errors.clear()
        async with self._drive.workers(what) as pool:
            yield _RunOfJobs(self._drive, pool, self._record, what, limit, timeout)
        errors = self._record.errors
        if raise_errors and errors:
            job, error = next(iter(errors.items()))
            error.add_note(f"{what}: the first error of a job that has not succeeded, of {job!r}")
            raise error


class _RunOfJobs:
    """Workers, and what they have run."""

    def __init__(
        self, drive: Drive, pool: Pool, record: Record, what: str, limit: int, timeout: float
    ) -> None:
        self._drive = drive
        self._pool = pool
        self._record = record
        self._what = what
        self._limit = limit
        self._timeout = timeout
        self._before = record.begun.total()
        self.queues: list[str] = [consumer.queue for consumer in pool.consumers]

    @property
    def count(self) -> int:
        """How many bodies have begun."""
        return self._record.begun.total() - self._before

    async def due(self) -> None:
        """Run what is due at this moment."""
        await self._drive.run_due(self._pool, self._what, limit=self._limit, timeout=self._timeout)
