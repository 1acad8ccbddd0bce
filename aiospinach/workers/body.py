"""The body of one job: a user's function that runs, and may be made to end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from typing import Any

from ..exceptions import Interrupted, JobCancelled, JobError, JobTimeout, LeaseLost
from ..failures import safe_exception
from ..functions import is_awaitable
from ..job import Job
from ..signals.receivers import discard
from ..task import Task
from .state import PoolState


class Body:
    """Runs the user's function in the asyncio task of its run.

    Only the function is ever cancelled, not what the run does before and after it. What the function raises
    is returned as a value.
    """

    __slots__ = (
        "_cancelled_for",
        "_state",
        "_task",
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
        """Until when its lease may be relied on, by ``time.monotonic()``, unless that is renewed."""
        self.began: float = 0.0
        self.has_begun: bool = False
        """The function was called."""
        self.is_running: bool = False
        """It runs, or waits for a thread to run in."""
        self.is_async: bool = task is not None and task.is_async
        self.reason: JobError | None = None
        """Why it is made to end."""
        self._state = state
        self._task = task
        self._within = within
        self._cancelled_for: tuple[type[JobError], ...] = ()

    @property
    def is_lost(self) -> bool:
        """The store said that its job is not this run's any more."""
        return isinstance(self.reason, LeaseLost)

    @property
    def is_stubborn(self) -> bool:
        """It is asynchronous, and goes on although it was cancelled."""
        return self.is_running and self.reason is not None and self.is_async

    async def run(self, job: Job) -> tuple[Any, BaseException | None]:
        """What it returned, and what it raised or was ended for."""
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
            if not task.is_async:
                result = await self._state.threads.run(self._call, (task, job), {})
            elif self._may_begin():
                result = await task.function(*job.args, **job.kwargs)
            if result is not None and is_awaitable(result):
                result = await self._await_result(result)
        except BaseException as raised:
            if type(raised) is GeneratorExit and asyncio._get_running_loop() is None:
                raise  # not the body's: its loop ended before it did
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
        """Have it end for this reason, which becomes its error; the first one counts. Tells whether this
        one does.

        A body in a thread goes on, and what it raises in the end is replaced by the reason. A body that
        returns all the same has succeeded. For each class of reason it is cancelled once;
        ``cancels_as`` is that class, if it is another than the reason's own.
        """
        kind = cancels_as or type(reason)
        # A cancelled job never runs again: that counts more than an earlier time-out or interruption.
        is_wish = isinstance(reason, JobCancelled) and isinstance(self.reason, (Interrupted, JobTimeout))
        counts = self.reason is None or is_wish
        if counts:
            self.reason = reason
        if self.is_async and kind not in self._cancelled_for:
            # Once for each class: a second cancellation would interrupt the cleanup of the body.
            self._cancelled_for = (*self._cancelled_for, kind)
            # In the next step of the loop: a task that cancelled itself would be cancelled after its body.
            self._state.loop.call_soon(self._cancel_body)
        return counts

    def _may_begin(self) -> bool:
        """Decide whether the function may be called, right before it is."""
        if time.monotonic() >= self.trusted_until and self.reason is None:  # guard: trust before the body
            self.reason = Interrupted("the lease had ended before the body could begin")
        self.has_begun = self.reason is None
        return self.has_begun

    def _call(self, task: Task[..., Any], job: Job) -> Any:
        """Call a plain function; a thread does, which may have come late."""
        return task.function(*job.args, **job.kwargs) if self._may_begin() else None

    async def _await_result(self, awaitable: Awaitable[Any]) -> Any:
        """Await what the function returned: it was a plain one around an async one, or forgot an 'await'.
        From here on it may be cancelled."""
        if self.reason is None and time.monotonic() >= self.trusted_until:
            self.reason = Interrupted("the lease had ended when the function returned what is to be awaited")
        if self.reason is not None:  # guard: ended before it is awaited
            discard(awaitable)
            raise asyncio.CancelledError
        self.is_async = True
        return await awaitable

    def _cancel_body(self) -> None:
        if self.is_running:
            self._within.cancel()

    def _error_of(self, error: BaseException | None) -> BaseException | None:
        """Why it ended: what it raised, unless it was made to."""
        if self.reason is None:
            if isinstance(error, asyncio.CancelledError) and self._state.is_ending_now:
                return Interrupted("the event loop ended while the job ran")
            return error
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self.reason.__cause__ = error
        return self.reason


async def drop_pending_cancellations(task: asyncio.Task[None]) -> None:
    """Forget cancellations of this task, the current one, that are left from what it ran."""
    while task.cancelling():
        task.uncancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # before Python 3.13 one may still be on its way
