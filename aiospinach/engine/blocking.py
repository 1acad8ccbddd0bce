"""``engine.blocking``: the calls that schedule and cancel, for threads without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar, overload

from ..batch import Batch
from ..exceptions import EnqueueUncertain, InvalidValue, WouldBlock
from ..job import Job, JobStatus
from ..task import Scheduler, Task
from .portal import Portal

P = ParamSpec("P")
T = TypeVar("T")


class Twins(Scheduler, Protocol):
    """The part of an engine that has a blocking twin."""

    async def schedule_batch(
        self, batch: Batch, *, enqueue_timeout: float | timedelta | None = None
    ) -> list[Job]: ...

    async def cancel(self, job: Job | str, *, queue: str | None = None) -> JobStatus: ...

    async def reschedule(
        self, job: Job | str, at: datetime | None, *, queue: str | None = None
    ) -> JobStatus: ...

    async def pause(
        self,
        task: Task[..., Any] | str | None = None,
        *,
        queue: str | None = None,
        for_: timedelta | float | None = None,
        reason: str = "",
    ) -> None: ...

    async def resume(self, task: Task[..., Any] | str | None = None, *, queue: str | None = None) -> bool: ...

    async def requeue_dead(
        self,
        *,
        queue: str | None = None,
        task: Task[..., Any] | str | None = None,
        reason: str | None = None,
        error: str | type[BaseException] | None = None,
    ) -> int: ...

    async def result(
        self, job: Any, *, timeout: float | timedelta | None = None, queue: str | None = None
    ) -> Any: ...


class Blocking:
    """The blocking twins of the calls of an engine: ``engine.blocking.schedule(send, "ann")``.

    They are for threads that run no event loop: plain views of a web framework, scripts, and jobs that are
    plain functions. The first call starts a thread, in whose event loop the calls and the receivers of their
    signals run. Later calls, from any thread, share it and its connection. A forked child starts a thread of
    its own. Leaving ``with engine.blocking`` closes the thread, and so does the end of the interpreter.

    A twin has the arguments, the result and the errors of its original. It also raises WouldBlock in a thread
    whose event loop runs. If KeyboardInterrupt or another error of a signal handler ends a call, the job may
    be stored.
    """

    def __init__(self, engine: Twins, portal: Portal) -> None:
        self._engine = engine
        self._portal = portal

    def __repr__(self) -> str:
        return f"<Blocking of {self._engine!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @overload
    def schedule(self, task: Task[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @overload
    def schedule(self, task: Task[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @overload
    def schedule(self, task: str, /, *args: Any, **kwargs: Any) -> Job: ...
    def schedule(self, task: Any, /, *args: Any, **kwargs: Any) -> Job:
        """Schedule a job as ``Engine.schedule`` does, and return it once the broker has stored it."""
        _refuse_in_loop("schedule(...)")
        return self._portal.call(self._engine.schedule, task, *args, **kwargs)

    @overload
    def schedule_at(
        self, task: Task[P, Awaitable[T]], at: datetime, /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    def schedule_at(self, task: Task[P, T], at: datetime, /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @overload
    def schedule_at(self, task: str, at: datetime, /, *args: Any, **kwargs: Any) -> Job: ...
    def schedule_at(self, task: Any, at: datetime, /, *args: Any, **kwargs: Any) -> Job:
        """Schedule a job from ``at`` on as ``Engine.schedule_at`` does, and return it once it is stored."""
        _refuse_in_loop("schedule_at(...)")
        return self._portal.call(self._engine.schedule_at, task, at, *args, **kwargs)

    def schedule_batch(self, batch: Batch, *, enqueue_timeout: float | timedelta | None = None) -> list[Job]:
        """Store all jobs of a batch as ``Engine.schedule_batch`` does, and return them in its order."""
        _refuse_in_loop("schedule_batch(batch)")
        return self._portal.call(self._engine.schedule_batch, batch, enqueue_timeout=enqueue_timeout)

    def cancel(self, job: Job | str, *, queue: str | None = None) -> JobStatus:
        """Cancel a job as ``Engine.cancel`` does, and return the status that it had."""
        _refuse_in_loop("cancel(job)")
        return self._portal.call(self._engine.cancel, job, queue=queue)

    def reschedule(self, job: Job | str, at: datetime | None, *, queue: str | None = None) -> JobStatus:
        """Move a job as ``Engine.reschedule`` does, and return the status that it had."""
        _refuse_in_loop("reschedule(job, at)")
        return self._portal.call(self._engine.reschedule, job, at, queue=queue)

    def pause(
        self,
        task: Task[..., Any] | str | None = None,
        *,
        queue: str | None = None,
        for_: timedelta | float | None = None,
        reason: str = "",
    ) -> None:
        """Pause a task or a queue as ``Engine.pause`` does."""
        _refuse_in_loop("pause(task)")
        self._portal.call(self._engine.pause, task, queue=queue, for_=for_, reason=reason)

    def resume(self, task: Task[..., Any] | str | None = None, *, queue: str | None = None) -> bool:
        """End a pause as ``Engine.resume`` does. Returns False if there was none."""
        _refuse_in_loop("resume(task)")
        return self._portal.call(self._engine.resume, task, queue=queue)

    def requeue_dead(
        self,
        *,
        queue: str | None = None,
        task: Task[..., Any] | str | None = None,
        reason: str | None = None,
        error: str | type[BaseException] | None = None,
    ) -> int:
        """Queue dead jobs again as ``Engine.requeue_dead`` does, and return how many."""
        _refuse_in_loop("requeue_dead()")
        return self._portal.call(
            self._engine.requeue_dead, queue=queue, task=task, reason=reason, error=error
        )

    @overload
    def result(
        self, job: Job[T], *, timeout: float | timedelta | None = None, queue: str | None = None
    ) -> T: ...
    @overload
    def result(
        self, job: str, *, timeout: float | timedelta | None = None, queue: str | None = None
    ) -> Any: ...
    def result(
        self, job: Job[Any] | str, *, timeout: float | timedelta | None = None, queue: str | None = None
    ) -> Any:
        """Wait for the result of a job as ``Engine.result`` does, and return it."""
        _refuse_in_loop("result(job)")
        return self._portal.call(self._engine.result, job, timeout=timeout, queue=queue)

    def retry(self, error: EnqueueUncertain) -> Any:
        """Repeat a call of ``engine.blocking`` that was not answered, as ``await error.retry()`` does.

        Returns the result of the call. Raises its errors, and InvalidValue if ``error`` is another error.
        """
        if not isinstance(error, EnqueueUncertain):
            raise InvalidValue(
                f"engine.blocking.retry() takes an EnqueueUncertain, not {type(error).__name__}"
            )
        _refuse_in_loop("retry(error)", "use 'await error.retry()', in an 'async def' function")
        return self._portal.call(error.retry)

    def close(self) -> None:
        """Wait for the calls of other threads, and end the thread of these calls with its connections.

        A second call does nothing. The next ``schedule`` starts another thread. Raises WouldBlock in a thread
        whose event loop runs: call ``await asyncio.to_thread(engine.blocking.close)`` there.
        """
        _refuse_in_loop("close()", "await asyncio.to_thread(engine.blocking.close)")
        self._portal.close()


def _refuse_in_loop(call: str, remedy: str | None = None) -> None:
    """Raise WouldBlock if an event loop runs in this thread."""
    if asyncio._get_running_loop() is not None:
        remedy = remedy or f"use 'await engine.{call}', in an 'async def' function"
        raise WouldBlock(
            f"engine.blocking.{call} would block the event loop that runs in this thread: {remedy}"
        )
