"""The engine: the one object that a program talks to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextvars import copy_context
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from .. import forks
from ..batch import Batch
from ..brokers.base import Broker
from ..cron import Cron
from ..exceptions import AlreadyRunning, InvalidValue
from ..job import Job, JobStatus
from ..logs import Log
from ..outcome import Backoff
from ..redaction import redaction_of
from ..signals.faults import set_redaction
from ..signals.signal import DEFAULT_TIMEOUT
from ..task import Task, Tasks, check_flag, check_number
from ..timing import to_limit, to_milliseconds, to_seconds
from ..validation import check_id, check_scope
from ..workers import STOPPED, Health, OSSignals, Pool, current_pool
from .attached_tasks import AttachedTasks
from .dead_jobs import DeadJob, DeadJobs
from .entries import Entries
from .inline import run_inline
from .producer import Producer

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

logger: Log = Log("aiospinach")

DEFAULT_NAMESPACE = "aiospinach"
DEFAULT_NUMBER = 5
LARGEST_NUMBER = 10_000
DEFAULT_SHUTDOWN_TIMEOUT = 25.0


class Engine:
    """Schedules jobs, and runs them.

    ``broker`` stores the jobs, and belongs to this engine alone. ``namespace`` separates engines that
    share a store. ``signal_timeout`` is how many seconds the receivers of one signal have together.
    ``leave_out`` names what neither the log nor the dead jobs are to hold, since it may be somebody's data:
    some of "arguments", "messages" and "tracebacks", the last two of errors. Making an engine connects to
    nothing and starts nothing.

    Leaving ``async with engine`` stops the workers that were started within it; workers that were started
    elsewhere go on. It may be entered many times, in any task, thread and event loop: the last one to be
    left in an event loop closes the connections of this loop.
    """

    def __init__(
        self,
        broker: Broker,
        namespace: str = DEFAULT_NAMESPACE,
        *,
        signal_timeout: float | timedelta = DEFAULT_TIMEOUT,
        leave_out: str | Collection[str] = (),
    ) -> None:
        if not isinstance(broker, Broker):
            kind = broker.__name__ if isinstance(broker, type) else type(broker).__name__
            raise InvalidValue(
                f"Engine takes a broker such as MemoryBroker(), not {kind}"
                + (": call it" if isinstance(broker, type) else "")
            )
        self.namespace: str = check_scope(namespace, what="namespace")
        self._signal_timeout = to_seconds(signal_timeout, what="Engine(signal_timeout=)", least=0.001)
        self._redaction = redaction_of(leave_out)
        broker.belong_to(self)
        set_redaction(self.namespace, self._redaction)
        self._broker = broker
        self._tasks = AttachedTasks(self.namespace)
        self._producer = Producer(broker, self.namespace, self._tasks, self._signal_timeout)
        self._dead_jobs = DeadJobs(broker, self.namespace, self._tasks)
        self._own_tasks = Tasks()
        self._own_tasks.attach_to(self)
        self._pool: Pool | None = None
        self._entries = Entries()
        forks.forget_in_child(self)

    def __repr__(self) -> str:
        return f"<Engine {self.namespace} on {self._broker!r}>"

    @property
    def has_ended(self) -> bool:
        """It was used, and nobody uses it any more: every ``async with`` of it was left and its workers have
        stopped, or the event loop in which it was made, or first scheduled a job, is closed. It may be used
        again all the same; but a task that another engine has, too, schedules itself through that one."""
        if self._is_running() or self._entries.is_open:
            return False
        was_used = self._entries.was_entered or self._pool is not None
        return was_used or self._producer.is_homeless

    async def __aenter__(self) -> Self:
        self._broker.belong_to(self)  # it may have been given to another engine, when this one had ended
        await self._broker.open(self.namespace)
        self._entries.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pool, is_last = self._entries.leave()
        is_own = pool is self._pool
        if not is_own and self._works_here():  # guard: connections of others
            is_last = False
        try:
            if is_own:
                await self.stop_workers()
        finally:
            if is_last:
                await self._broker.aclose()

    # Tasks.

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        queue: str | None = None,
        max_retries: int = ...,
        periodicity: timedelta | Cron | None = None,
        overlap: bool = False,
        catch_up: float | timedelta | None = None,
        max_concurrency: int | None = None,
        timeout: float | timedelta | None = None,
        backoff: Backoff | None = None,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...
    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Make a task of a function, and attach it: ``@engine.task``, or ``@engine.task(max_retries=3)``.

        The options, and what is raised, are those of ``Tasks.task``.
        """
        return self._own_tasks.task(*(() if function is None else (function,)), **options)

    def attach_tasks(self, tasks: Tasks) -> None:
        """Make the tasks of a registry known: those that it has, and those that it gets later.

        Raises DuplicateTask, and then none was attached. Attaching a registry twice does nothing.
        """
        if not isinstance(tasks, Tasks):
            raise InvalidValue(f"attach_tasks() takes a Tasks registry, not {type(tasks).__name__}")
        tasks.attach_to(self)

    def check_adoption(self, tasks: Sequence[Task[..., Any]]) -> None:
        """DuplicateTask if the tasks of a registry cannot all be adopted; the registry calls it."""
        self._tasks.check(tasks)

    def adopt(self, tasks: Sequence[Task[..., Any]]) -> None:
        """Take tasks of a registry, which has checked them; the registry calls it."""
        self._tasks.add(tasks)
        for task in tasks:
            task.schedulers.add(self)
        if tasks and self._pool is not None and self._is_running():
            self._tell_what_is_left_out([consumer.queue for consumer in self._pool.consumers], tasks)
            self._pool.loop.call_soon_threadsafe(self._pool.register_again)

    # Jobs.

    @overload
    async def schedule(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Job: ...
    @overload
    async def schedule(self, task: str, /, *args: Any, **kwargs: Any) -> Job: ...
    async def schedule(self, task: Any, /, *args: Any, **kwargs: Any) -> Job:
        """Have a job of the task run as soon as a worker is free.

        ``task`` is a Task, or the name of one. Returns the job once the broker has stored it; its status
        is QUEUED, or NOT_SET if ``options(id=)`` named a job that is stored already. A job that schedules its
        own id is followed by the new one: that is stored when the first ends, and not if it is cancelled or
        tried again. Raises UnknownTask, InvalidArguments or a BrokerError. If it is cancelled, the job is
        stored or not.
        """
        return await self._producer.schedule(task, None, args, kwargs)

    @overload
    async def schedule_at(
        self, task: Task[P, Any], at: datetime, /, *args: P.args, **kwargs: P.kwargs
    ) -> Job: ...
    @overload
    async def schedule_at(self, task: str, at: datetime, /, *args: Any, **kwargs: Any) -> Job: ...
    async def schedule_at(self, task: Any, at: datetime, /, *args: Any, **kwargs: Any) -> Job:
        """Have a job of the task run from ``at`` on; a naive datetime means UTC, a past one means now.

        Returns and raises what ``schedule`` does; the status of the job is WAITING until its time comes. A
        duplicate has the moment of the job that is stored, and a warning tells that it is another.
        """
        moment = to_milliseconds(at, what="schedule_at()")
        return await self._producer.schedule(task, moment, args, kwargs)

    async def schedule_batch(
        self, batch: Batch, *, enqueue_timeout: float | timedelta | None = None
    ) -> list[Job]:
        """Have all jobs of a batch stored, in one round trip for each of their queues.

        Returns the jobs in the order of the batch. Jobs of one queue are stored all or none; with
        several queues, BatchPartlyStored names what was stored before an error. ``enqueue_timeout`` is how
        many seconds it tries to reach the store; without it, it is the broker's. Raises BatchTooLarge, and
        what ``schedule`` raises.
        """
        if not isinstance(batch, Batch):
            raise InvalidValue(f"schedule_batch() takes a Batch, not {type(batch).__name__}")
        within = to_limit(enqueue_timeout, what="schedule_batch(enqueue_timeout=)")
        return await self._producer.schedule_batch(batch, within)

    @overload
    async def execute(self, task: Task[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def execute(self, task: Task[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def execute(self, task: str, /, *args: Any, **kwargs: Any) -> Any: ...
    async def execute(self, task: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run the body of a task here and now, with job_started and job_finished around it.

        No broker takes part, and there are no retries. Returns what the body returns and raises what it
        raises; JobTimeout after the task's ``timeout``. Being cancelled cancels an asynchronous body,
        and waits for one in a thread.
        """
        return await run_inline(self._tasks.find(task), args, kwargs, self.namespace, self._producer)

    async def cancel(self, job: Job | str, *, queue: str | None = None) -> JobStatus:
        """Cancel a job, wherever it is; a job is given itself, or by its id.

        Returns where it was: WAITING or QUEUED, and it will never run; RUNNING, and its body is being
        cancelled if it is asynchronous; or NOT_SET, if no such job lives. An id alone is looked for in
        every queue of the attached tasks. Raises UnknownQueue or a BrokerError.
        """
        queues, job_id = self._whereabouts(job, queue)
        status, found_in = await self._producer.cancel(queues, job_id)
        if status is not JobStatus.NOT_SET and self._pool is not None:
            self._pool.cancel(found_in, job_id)
        return status

    def dead_jobs(self, *, queue: str | None = None) -> AsyncIterator[DeadJob]:
        """Iterate over the jobs that failed for ever, the latest of each queue first.

        ``async for dead in engine.dead_jobs(): ...``. A queue keeps 10,000 of them, for 180 days. Raises
        UnknownQueue or a BrokerError.
        """
        return self._dead_jobs.jobs(self._queues_to_search(queue))

    async def requeue(self, job: Job | str, *, queue: str | None = None) -> bool:
        """Queue a dead job again, as if it never had run; a job is given itself, or by its id.

        False if no such job is dead, or its id is in use again. Raises InvalidValue if ``Engine(leave_out=)``
        has left out its arguments, and what ``cancel`` raises.
        """
        queues, job_id = self._whereabouts(job, queue)
        return await self._dead_jobs.requeue(queues, job_id)

    async def discard(self, job: Job | str, *, queue: str | None = None) -> bool:
        """Forget a dead job. False if no such job is dead. Raises what ``cancel`` raises."""
        queues, job_id = self._whereabouts(job, queue)
        return await self._dead_jobs.discard(queues, job_id)

    # Workers.

    async def start_workers(
        self,
        number: int = DEFAULT_NUMBER,
        queue: str | Sequence[str] | None = None,
        *,
        block: bool = True,
        stop_when_queue_empty: bool = False,
        shutdown_timeout: float | timedelta = DEFAULT_SHUTDOWN_TIMEOUT,
    ) -> None:
        """Run jobs, ``number`` at a time.

        ``queue`` is a queue, or several, of which earlier ones come first; None: every queue of the attached
        tasks, ``"default"`` first. A queue of theirs that is left out is named in the log.

        With ``block=True`` it returns when the workers have stopped: after ``stop_workers()``, or SIGINT
        or SIGTERM if this is the main thread. Running jobs then have ``shutdown_timeout`` seconds to end,
        before their bodies are cancelled; a second signal cancels them at once. Cancelled jobs that have
        retries go back to the head of their queue, others fail. With ``block=False`` it returns once the
        workers fetch, and leaves signals of the operating system alone. ``stop_when_queue_empty`` stops
        them when nothing is ready or running and no retry of theirs waits.

        Raises AlreadyRunning, UnknownQueue, InvalidValue or a BrokerError before anything runs. Being
        cancelled, it cancels the bodies, waits until the workers have stopped, and goes on being cancelled.
        """
        check_flag(block, what="block")
        if self._is_running():
            raise AlreadyRunning(
                f"the workers of engine {self.namespace!r} run already: await engine.stop_workers() first"
            )
        queues = self._tasks.check_queues(queue)
        self._broker.belong_to(self)
        pool = Pool(
            broker=self._broker,
            namespace=self.namespace,
            tasks=self._tasks.by_name,
            queues=queues,
            number=check_number(number, what="number", least=1, most=LARGEST_NUMBER),
            stop_when_queue_empty=check_flag(stop_when_queue_empty, what="stop_when_queue_empty"),
            shutdown_timeout=to_seconds(shutdown_timeout, what="shutdown_timeout"),
            signal_timeout=self._signal_timeout,
            redaction=self._redaction,
            context=copy_context(),
        )
        self._tell_what_is_left_out(queues, self._tasks.by_name.values())
        self._pool = pool
        self._entries.start(pool, block=block)
        if block:
            with OSSignals(pool.stop, pool.interrupt):
                await pool.join(until_started=True)
                await pool.join()
        else:
            await pool.join(until_started=True)

    async def stop_workers(self) -> None:
        """Have the workers fetch no more, and return when they have stopped, as ``start_workers`` tells.

        It may be called before a start, twice, and from any task. Within a job, or a receiver of a
        signal, it only asks, since waiting would be waiting for itself. Raises what crashed the workers,
        if something did. Being cancelled, it waits no longer; the workers stop all the same.
        """
        pool = self._pool
        if pool is None or not pool.loop.is_running():
            return
        if pool.loop is not asyncio.get_running_loop():
            call = asyncio.run_coroutine_threadsafe(self.stop_workers(), pool.loop)
            await asyncio.wrap_future(call)
            return
        pool.stop()
        if current_pool() is not pool:
            await pool.wait_closed()

    def health(self) -> Health:
        """How the workers are, for a readiness probe; it asks nobody, and does not wait."""
        return STOPPED if self._pool is None else self._pool.health()

    @staticmethod
    def _tell_what_is_left_out(queues: Sequence[str], tasks: Iterable[Task[..., Any]]) -> None:
        """Name the queues of tasks that workers of these queues do not look at."""
        left_out: defaultdict[str, list[str]] = defaultdict(list)
        for task in tasks:
            if task.queue not in queues:
                left_out[task.queue].append(task.name)
        for queue, names in left_out.items():
            logger.warning(
                "queue %s: these workers run none of its jobs, of the tasks %s: other workers must, or leave"
                " queue= out to run every queue",
                queue,
                ", ".join(sorted(names)),
            )

    def _whereabouts(self, job: object, queue: object) -> tuple[list[str], str]:
        """The queues in which to look for a job that was given itself or by its id, and the id."""
        if isinstance(job, Job):
            if job.namespace != self.namespace:
                raise InvalidValue(f"{job!r} is not of the namespace {self.namespace!r} of this engine")
            return [job.queue], job.id
        return self._queues_to_search(queue), check_id(job, what="job id")

    def _queues_to_search(self, queue: object) -> list[str]:
        return sorted(self._tasks.queues) if queue is None else [self._tasks.check_queue(queue)]

    def forget_parent(self) -> object:
        """Be an engine without workers, in a forked child: those of the parent go on there."""
        pool, self._pool = self._pool, None
        self._entries.clear()
        return pool

    def _works_here(self) -> bool:
        """Its workers run in this event loop."""
        pool = self._pool
        return pool is not None and self._is_running() and pool.loop is asyncio.get_running_loop()

    def _is_running(self) -> bool:
        pool = self._pool
        return pool is not None and not pool.supervisor.task.done() and not pool.loop.is_closed()
