"""The body of one job: runs the user's function, and cancels it for a reason."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..around import Around
from ..call import call_surrounded
from ..exceptions import Interrupted, JobCancelled, JobError, JobTimeout, LeaseLost
from ..failures import safe_exception
from ..functions import is_awaitable
from ..job import Job
from ..signals.receivers import discard
from ..task import Task
from .state import PoolState


class Body:
    """Runs the user's function in the asyncio task of its run.

    Only the function is ever cancelled, never the steps of the run before and after it. Errors of the
    function are returned as values.
    """

    __slots__ = (
        "_cancelled_for",
        "_state",
        "_task",
        "_was_called",
        "_within",
        "began",
        "has_begun",
        "is_async",
        "is_running",
        "reason",
        "trusted_until",
    )

    def __init__(
        self, state: PoolState, task: Task[..., Any] | None, within: asyncio.Task[None], trusted_until: float
    ) -> None:
        self.trusted_until: float = trusted_until
        """Until when the lease can be relied on, by ``time.monotonic()``; each renewal moves it."""
        self.began: float = 0.0
        self.has_begun: bool = False
        """The function was called, or its surroundings were entered."""
        self.is_running: bool = False
        """The function runs, or waits for a thread."""
        self.is_async: bool = task is not None and task.is_async
        self.reason: JobError | None = None
        """Why the body has to end."""
        self._state = state
        self._task = task
        self._was_called = False
        self._within = within
        self._cancelled_for: tuple[type[JobError], ...] = ()

    @property
    def is_lost(self) -> bool:
        """The store gave the job to another worker, or forgot it."""
        return isinstance(self.reason, LeaseLost)

    @property
    def is_stubborn(self) -> bool:
        """The body is async, and goes on although it was cancelled."""
        return self.is_running and self.reason is not None and self.is_async

    async def run(self, job: Job) -> tuple[Any, BaseException | None]:
        """Run the function. Returns its result, and its error or the reason for which it was ended."""
        self.began = time.perf_counter()
        task = self._task
        if self.reason is not None or task is None:
            return None, self.reason
        timer = None
        if task.timeout is not None:
            late = JobTimeout(f"task {task.name!r} took longer than {task.timeout:g} s")
            timer = self._state.loop.call_later(task.timeout, self.end, late)
        result, error = None, None
        self.is_running = True
        try:
            if (arounds := self._state.arounds) or task._arounds or task._injection is not None:
                result = await self._run_surrounded([*arounds, *task._arounds], task, job)
            elif not task.is_async:
                result = await self._state.threads.run(self.call, (task, job.args, job.kwargs), {})
            elif self._may_begin():
                result = await task.function(*job.args, **job.kwargs)
            if result is not None and is_awaitable(result):
                result = await self._await_result(result)
        except BaseException as raised:
            if type(raised) is GeneratorExit and asyncio._get_running_loop() is None:
                raise  # not an error of the body: its event loop has ended
            error = safe_exception(raised)
        finally:
            self.is_running = False
            if timer is not None:
                timer.cancel()
        if self._within.cancelling():
            await drop_pending_cancellations(self._within)
        if error is None and self.reason is None:
            return result, None
        if error is not None or self.is_lost or not self.has_begun:
            return None, self._error_of(error)
        return result, None

    def end(self, reason: JobError, *, cancels_as: type[JobError] | None = None) -> bool:
        """End the body for this reason, which becomes its error. Returns whether this reason counts.

        The first reason counts, but JobCancelled overrides Interrupted and JobTimeout. A body in a thread
        goes on, and the reason replaces the error if the body raises one. A body that returns in spite of the
        reason has succeeded. An async body is cancelled once for each class of reasons, or for the class
        ``cancels_as``.
        """
        kind = cancels_as or type(reason)
        # A cancelled job never runs again, whatever an earlier timeout or interruption would do with it.
        is_wish = isinstance(reason, JobCancelled) and isinstance(self.reason, (Interrupted, JobTimeout))
        counts = self.reason is None or is_wish
        if counts:
            self.reason = reason
        if self.is_async and kind not in self._cancelled_for:
            # Once for each class: a second cancellation would interrupt the body's cleanup.
            self._cancelled_for = (*self._cancelled_for, kind)
            # In the next turn of the loop: `end` may run within the task, and a direct cancellation would
            # arrive after the body.
            self._state.loop.call_soon(self._cancel_body)
        return counts

    def _may_begin(self) -> bool:
        """Decide whether the function may be called, right before the call."""
        if time.monotonic() >= self.trusted_until and self.reason is None:  # guard: trust before the body
            self.reason = Interrupted("the lease had ended before the body could begin")
        if self.reason is None:
            self.has_begun = True
        return self.reason is None

    async def _run_surrounded(self, arounds: Sequence[Around], task: Task[..., Any], job: Job) -> Any:
        """Run the function within context managers of users, and with its dependencies.

        They count as a part of the body. The job may be cancelled while the event loop enters and leaves
        them, but not while a plain function runs in its thread.
        """
        if not self._may_begin():
            return None
        self.is_async = True
        result = await call_surrounded(self, task, job, arounds, self._state.scope)
        if self.reason is not None and not self._was_called:  # guard: hidden end
            raise asyncio.CancelledError
        return result

    async def perform(self, body: Callable[[], Awaitable[Any]]) -> Any:
        """Await the body, unless the job was ended while its surroundings were entered."""
        if self.reason is not None:  # guard: ended while it was opened
            await asyncio.sleep(0)  # its cancellation arrives here, and not in the function
            raise asyncio.CancelledError
        result = await body()
        return await self._await_result(result) if is_awaitable(result) else result

    async def call_in_thread(self, call: Callable[[], Any]) -> Any:
        """Have a thread of the pool call a plain function."""
        self.is_async = False
        try:
            return await self._state.threads.run(call, (), {})
        finally:
            self.is_async = True

    def call(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function. Raises CancelledError if the job, or its lease, has ended by now."""
        if not self._may_begin():
            raise asyncio.CancelledError
        self._was_called = True
        return task.function(*args, **kwargs)

    async def _await_result(self, awaitable: Awaitable[Any]) -> Any:
        """Await the result of a function that returned an awaitable. From here on the body may be cancelled.

        The function is a plain wrapper of an async one, or lacks an ``await``.
        """
        if self.reason is None and time.monotonic() >= self.trusted_until:
            self.reason = Interrupted("the lease had ended when the function returned an awaitable")
        if self.reason is not None:  # guard: ended before it is awaited
            discard(awaitable)
            raise asyncio.CancelledError
        self.is_async = True
        return await awaitable

    def _cancel_body(self) -> None:
        if self.is_running:
            self._within.cancel()

    def _error_of(self, error: BaseException | None) -> BaseException | None:
        """The error of the body: the reason for which it was ended, or else the error that it raised."""
        if self.reason is None:
            if isinstance(error, asyncio.CancelledError) and self._state.is_ending_now:
                return Interrupted("the event loop ended while the job ran")
            return error
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self.reason.__cause__ = error
        return self.reason


async def drop_pending_cancellations(task: asyncio.Task[None]) -> None:
    """Drop cancellations of the current task that were meant for the function that it ran."""
    while task.cancelling():
        task.uncancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # before Python 3.13 one may still be pending
