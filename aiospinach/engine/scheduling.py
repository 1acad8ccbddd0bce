"""Scheduling: the calls of an engine that make jobs, and the call that runs a body at once."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar, overload

from ..batch import Batch
from ..exceptions import InvalidValue
from ..job import Job
from ..signals.sender import Sender
from ..surroundings import Surroundings
from ..task import Task
from ..timing import to_limit, to_milliseconds
from .attached_tasks import AttachedTasks
from .inline import run_inline
from .producer import Producer

P = ParamSpec("P")
T = TypeVar("T")


class Scheduling:
    """Schedules jobs of attached tasks, or runs their bodies at once."""

    _producer: Producer
    _sender: Sender
    _surroundings: Surroundings
    _tasks: AttachedTasks

    @overload
    async def schedule(self, task: Task[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @overload
    async def schedule(self, task: Task[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @overload
    async def schedule(self, task: str, /, *args: Any, **kwargs: Any) -> Job: ...
    async def schedule(self, task: Any, /, *args: Any, **kwargs: Any) -> Job:
        """Schedule a job of the task to run as soon as a worker is free.

        ``task`` is a Task, or the name of one. Returns the job once the broker has stored it; its status
        is QUEUED, or NOT_SET if ``options(id=)`` named a job that is stored already. If a job schedules its
        own id, the new job is stored when the first ends, unless that is cancelled or tried again. Raises
        UnknownTask, InvalidArguments or a BrokerError. If the call is cancelled, the job may be stored.
        """
        return await self._producer.schedule(task, None, args, kwargs)

    @overload
    async def schedule_at(
        self, task: Task[P, Awaitable[T]], at: datetime, /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    async def schedule_at(
        self, task: Task[P, T], at: datetime, /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    async def schedule_at(self, task: str, at: datetime, /, *args: Any, **kwargs: Any) -> Job: ...
    async def schedule_at(self, task: Any, at: datetime, /, *args: Any, **kwargs: Any) -> Job:
        """Schedule a job of the task to run from ``at`` on; a naive datetime means UTC, and a past one now.

        Returns and raises the same as ``schedule``; the status of a job in the future is WAITING. A duplicate
        has the moment of the stored job; a warning is logged if ``at`` was another.
        """
        moment = to_milliseconds(at, what="schedule_at()")
        return await self._producer.schedule(task, moment, args, kwargs)

    async def schedule_batch(
        self, batch: Batch, *, enqueue_timeout: float | timedelta | None = None
    ) -> list[Job]:
        """Store all jobs of a batch, with one call for each of their queues.

        Returns the jobs in the order of the batch. All jobs of a queue are stored, or none. If an error
        leaves some queues stored, BatchPartlyStored names their jobs. ``enqueue_timeout``, in seconds or as a
        timedelta, limits the time of tries to reach the store; the broker has the default. Also raises
        BatchTooLarge, and the errors of ``schedule``. If the call is cancelled, jobs may be stored.
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
        """Run the body of a task at once, in this process; sends job_started and job_finished.

        It uses no broker and has no retries. Returns the result of the body, and raises its errors, or
        JobTimeout after the task's ``timeout``. Cancelling the call cancels an async body; the call waits for
        a body in a thread, and then raises CancelledError.
        """
        return await run_inline(self._tasks.find(task), args, kwargs, self._sender, self._surroundings)
