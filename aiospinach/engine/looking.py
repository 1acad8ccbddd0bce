"""Looking: the calls of an engine that ask about its queues and jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

from ..brokers.base import Broker
from ..exceptions import InvalidValue
from ..job import Job, JobStatus
from ..task import Task
from ..timing import to_seconds
from ..validation import check_flag, check_identifier, check_number
from .attached_tasks import AttachedTasks
from .checkup import Finding, check_queues
from .counts import QueueCounts, count_jobs
from .dead_groups import DeadGroup, read_dead_groups
from .dead_jobs import DeadJob, DeadJobs
from .event_cursor import Place, decode_cursor
from .event_hubs import EventHubs
from .event_stream import EventStream
from .explanation import Explanation
from .latest_events import BEFORE, LARGEST, LATEST, LatestEvents, read_latest_events
from .listing import PAGE, Listing, Page, filters_of
from .live_workers import WorkerInfo, read_workers
from .lookup import Lookup
from .overview import EngineOverview, read_overview
from .periodic import PeriodicTask, read_periodic
from .ping import Ping, read_ping
from .throughput import MinuteRow, read_throughput


class Looking:
    """Answers questions about the queues of attached tasks."""

    namespace: str
    _broker: Broker
    _dead_jobs: DeadJobs
    _event_hubs: EventHubs
    _listing: Listing
    _lookup: Lookup
    _tasks: AttachedTasks

    def dead_jobs(self, *, queue: str | None = None) -> AsyncIterator[DeadJob]:
        """Iterate over the jobs that failed for ever, the latest of each queue first.

        ``async for dead in engine.dead_jobs(): ...``. A queue keeps the last 10,000, for 180 days. Raises
        UnknownQueue or a BrokerError.
        """
        return self._dead_jobs.jobs(self._tasks.queues_to_search(queue))

    async def find_queues(self) -> list[str]:
        """Find the queues of the namespace in the store, also those whose tasks are not attached here.

        Calls without ``queue=`` that look at jobs or steer them search the found queues from then on, beside
        those of the attached tasks. So an engine without tasks can look after all queues. Returns the names,
        sorted. Raises a BrokerError. A cancellation changes nothing.
        """
        await self._broker.open_in_time(self.namespace)
        found = await self._broker.queues()
        self._tasks.note_found(found)
        return found

    async def check(self, *, queue: str | None = None) -> list[Finding]:
        """Look whether what is stored of every queue of the attached tasks, or of one, fits together.

        It only reads, some ids a call, and needs about 200 bytes of memory for each job. A queue in motion is
        not wrong: what seemed so twice is looked at once more, at one moment. Returns what does not fit, a
        thousand of each kind and queue at most; a MemoryBroker has nothing that others could damage. Raises
        UnknownQueue or a BrokerError. A cancellation changes nothing.
        """
        return await check_queues(self._broker, self.namespace, self._tasks.queues_to_search(queue))

    async def ping(self) -> Ping:
        """Ask the store to answer.

        Returns its kind and version, how long the answer took, and how far its clock is ahead of the clock of
        this machine. Raises a BrokerError. A cancellation changes nothing.
        """
        await self._broker.open_in_time(self.namespace)
        return await read_ping(self._broker)

    async def dead_job(self, job: Job | str, *, queue: str | None = None) -> DeadJob | None:
        """Look up a dead job, given itself or by its id, with its message and traceback.

        Returns None if no such job is dead. The job is found as ``job`` finds it. Raises UnknownQueue,
        InvalidValue or a BrokerError. A cancellation changes nothing.
        """
        return await self._lookup.find_dead(*self._tasks.whereabouts(job, queue))

    async def dead_groups(self, *, queue: str | None = None, latest: int | None = None) -> list[DeadGroup]:
        """Count the dead jobs of every queue of the attached tasks, or of one, by their task and error.

        ``latest=2000`` looks at the 2,000 jobs of each queue that died last, and at no others. Groups may
        have more jobs then than are counted, and requeue_dead() requeues them all. Returns the groups, those
        with the most jobs first. The broker counts a thousand jobs a call, without sending them. Raises
        InvalidValue, UnknownQueue or a BrokerError. A cancellation changes nothing.
        """
        queues = self._tasks.queues_to_search(queue)
        return await read_dead_groups(self._broker, self.namespace, queues, latest)

    async def periodic_tasks(self, *, queue: str | None = None) -> list[PeriodicTask]:
        """List the periodic tasks of every queue of the attached tasks, or of one, by their names.

        Tasks that other processes have registered with the queues are listed as well. Raises UnknownQueue or
        a BrokerError. A cancellation changes nothing.
        """
        queues = self._tasks.queues_to_search(queue)
        await self._broker.open_in_time(self.namespace)
        return await read_periodic(self._broker, self._tasks, queues)

    async def counts(self, *, queue: str | None = None) -> dict[str, QueueCounts]:
        """Count the jobs of each queue of the attached tasks, or of one ``queue``, by their states.

        Returns the counts by queue. Raises UnknownQueue or a BrokerError. A cancellation changes nothing.
        """
        return await count_jobs(self._broker, self.namespace, self._tasks.queues_to_search(queue))

    async def overview(self, *, queue: str | None = None) -> EngineOverview:
        """Look at every queue of the attached tasks, or at one, and at their workers.

        This is what a view shows first: the counts, the pauses, the workers, and what ended in this minute
        and the one before. The queues of one server are asked with one call, whose cost does not grow with
        the number of jobs. Raises UnknownQueue or a BrokerError. A cancellation changes nothing.
        """
        return await read_overview(self._broker, self.namespace, self._tasks.queues_to_search(queue))

    async def job(self, job: Job | str, *, queue: str | None = None) -> Job | None:
        """Look up a job that lives or is dead, given itself or by its id.

        Returns it as it is now, with ``started_at`` and ``worker`` if it runs; None if no such job is stored.
        An id without ``queue`` is looked for in every queue of the attached tasks. Raises UnknownQueue,
        InvalidValue or a BrokerError. A cancellation changes nothing.
        """
        return await self._lookup.find(*self._tasks.whereabouts(job, queue))

    async def explain(self, job: Job | str, *, queue: str | None = None, stack: bool = False) -> Explanation:
        """Explain why a job does not run, or what has become of it.

        ``print(await engine.explain("order-17"))`` prints one sentence. With ``stack=True`` the worker of a
        running job is asked, for two seconds at most, where its body is: at which await, or at which line of
        a thread. The job is found as ``job`` finds it. Raises UnknownQueue, InvalidValue or a BrokerError. A
        cancellation changes nothing.
        """
        check_flag(stack, what="stack=")
        return await self._lookup.explain(*self._tasks.whereabouts(job, queue), stack=stack)

    def jobs(
        self,
        *,
        queue: str | None = None,
        status: JobStatus | None = None,
        task: Task[..., Any] | str | None = None,
    ) -> AsyncIterator[Job]:
        """Iterate over the jobs of every queue of the attached tasks, or of one, that have a status, or of
        one task.

        ``async for job in engine.jobs(status=JobStatus.QUEUED): ...``. It reads a hundred jobs a call. No job
        comes twice. A job that moves meanwhile comes once or not at all. Queued jobs come in their order,
        waiting ones by their moments, running ones by their starts, and dead ones with the latest first. A
        job that cannot be read has an empty ``task_name``. Raises UnknownQueue, InvalidValue or a
        BrokerError.
        """
        return self._listing.jobs(self._tasks.queues_to_search(queue), filters_of(status, task, None, None))

    async def page(
        self,
        *,
        queue: str | None = None,
        status: JobStatus | None = None,
        task: Task[..., Any] | str | None = None,
        key: str | None = None,
        error: str | type[BaseException] | None = None,
        after: str | None = None,
        limit: int = PAGE,
    ) -> Page:
        """Read up to ``limit`` jobs (1,000 at most) in the order of ``jobs``, and a cursor for the next page.

        ``key`` is that of ``options(key=)``. ``error`` is a class of errors, or its name with or without the
        module: the last error of a job. ``after`` takes the cursor of the page before, with the same other
        arguments. A page with ``task``, ``key`` or ``error`` looks at 10,000 jobs at most. Raises
        UnknownQueue, InvalidValue or a BrokerError. A cancellation changes nothing.
        """
        filters = filters_of(status, task, key, error)
        return await self._listing.page(self._tasks.queues_to_search(queue), filters, after, limit)

    def events(
        self,
        *,
        queue: str | None = None,
        task: Task[..., Any] | str | None = None,
        job: Job | str | None = None,
        after: str | None = None,
    ) -> EventStream:
        """Read what becomes of jobs, in any process: of every queue of the attached tasks or of one, of one
        task, or of one job, given itself or by its id.

        ``async for event in engine.events(): ...`` goes on until the reading is ended. The events of a queue
        come in their order, and each comes once. ``after`` takes the cursor of an event, and begins with the
        next one; ``"oldest"`` begins with the oldest one that is kept; None with the first that happens after
        the ``async with``, or the first ``async for``. ``job_progress`` is not kept: only a reader that waits
        gets it. The broker has to keep events: ``RedisBroker(events=10_000)``. Raises UnknownQueue or
        InvalidValue; the stream raises EventsLost if the next events are not kept any more.
        """
        queues, task_name, job_id = self._event_filters(queue, task, job)
        return EventStream(
            self._broker,
            self.namespace,
            self._event_hubs,
            queues,
            task=task_name,
            job_id=job_id,
            after=after,
        )

    async def latest_events(
        self,
        *,
        queue: str | None = None,
        task: Task[..., Any] | str | None = None,
        job: Job | str | None = None,
        before: str | None = None,
        limit: int = LATEST,
    ) -> LatestEvents:
        """Read the events that have come last, the latest first; ``limit`` of them, and 1000 at most.

        ``queue``, ``task`` and ``job`` choose events as in ``events()``. ``before`` takes the cursor of the
        call before, with the same other arguments, and goes on with earlier events. A call looks at 10,000
        events at most. ``job_progress`` is not kept, and so not found. Raises UnknownQueue, InvalidValue or a
        BrokerError. A cancellation changes nothing.
        """
        queues, task_name, job_id = self._event_filters(queue, task, job)
        count = check_number(limit, what="limit=", least=1, most=LARGEST)
        places = None if before is None else decode_cursor(before, BEFORE)
        return await read_latest_events(
            self._broker,
            self.namespace,
            {name: None if places is None else places.get(name, Place()) for name in queues},
            task=task_name,
            job_id=job_id,
            limit=count,
        )

    @property
    def keeps_events(self) -> bool:
        """Whether the broker keeps events: it was made with ``events=``."""
        return self._broker.events > 0

    def _event_filters(
        self, queue: str | None, task: Task[..., Any] | str | None, job: Job | str | None
    ) -> tuple[Sequence[str], str, str]:
        """The queues, the name of the task and the id of the job whose events are read; empty: all."""
        if not self.keeps_events:
            kind = type(self._broker).__name__
            raise InvalidValue(f"this broker keeps no events: give {kind}(events=10_000), in all programs")
        if job is not None:
            queues, job_id = self._tasks.whereabouts(job, queue)
        else:
            queues, job_id = self._tasks.queues_to_search(queue), ""
        name = task.name if isinstance(task, Task) else task
        return queues, "" if name is None else check_identifier(name, what="task name"), job_id

    async def workers(self, *, queue: str | None = None) -> list[WorkerInfo]:
        """List the live workers of every queue of the attached tasks, or of one, by their names.

        A worker that was killed is listed for three more leases; one that was stopped is not. Raises
        UnknownQueue or a BrokerError. A cancellation changes nothing.
        """
        return await read_workers(self._broker, self.namespace, self._tasks.queues_to_search(queue))

    async def throughput(
        self, *, queue: str | None = None, since: float | timedelta = timedelta(hours=1)
    ) -> list[MinuteRow]:
        """Count the jobs that ended in each minute, for every queue of the attached tasks or for one.

        ``since`` is how far to look back, in seconds or as a timedelta. Queues keep 72 hours. Returns the
        rows by minute; a minute in which no job ended has none. Workers report every few seconds, and when
        they stop; what a killed worker has not reported is lost. Raises UnknownQueue, InvalidValue or a
        BrokerError. A cancellation changes nothing.
        """
        seconds = to_seconds(since, what="since=")
        queues = self._tasks.queues_to_search(queue)
        return await read_throughput(self._broker, self.namespace, queues, seconds)
