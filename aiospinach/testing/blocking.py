"""``jobs.blocking``: the calls that run jobs, for tests that are plain functions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, overload

from ..engine.portal import Portal
from ..exceptions import WouldBlock
from ..task import Task
from .running import LIMIT, TIMEOUT, Running

P = ParamSpec("P")
T = TypeVar("T")


class BlockingJobs:
    """The blocking twins of the calls that run jobs: ``jobs.blocking.drain()``.

    They are for plain tests, such as those with the ``TestClient`` of FastAPI. Workers that the application
    has started run the jobs in its own event loop. Otherwise the jobs run in an event loop of the test. A
    twin has the arguments, the result and the errors of its original. It also raises WouldBlock in a thread
    whose event loop runs.
    """

    def __init__(self, jobs: Running, portal: Portal) -> None:
        self._jobs = jobs
        self._portal = portal

    def drain(self, *, raise_errors: bool = True, limit: int = LIMIT, timeout: float = TIMEOUT) -> int:
        """Run all jobs that are due, as ``Jobs.drain`` does. Returns how many bodies have run."""
        _refuse_in_loop("drain()")
        return self._portal.call(self._jobs.drain, raise_errors=raise_errors, limit=limit, timeout=timeout)

    def advance(
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
        """Move the clock, as ``Jobs.advance`` does. Returns how many bodies have run."""
        _refuse_in_loop("advance()")
        return self._portal.call(
            self._jobs.advance,
            by + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds),
            raise_errors=raise_errors,
            limit=limit,
            timeout=timeout,
        )

    @overload
    def repeat(self, task: Task[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> tuple[T, T]: ...
    @overload
    def repeat(self, task: Task[P, T], /, *args: P.args, **kwargs: P.kwargs) -> tuple[T, T]: ...
    def repeat(self, task: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Run a job twice, as ``Jobs.repeat`` does. Returns the results of both runs."""
        _refuse_in_loop("repeat(...)")
        return self._portal.call(self._jobs.repeat, task, *args, **kwargs)


def _refuse_in_loop(call: str) -> None:
    """Raise WouldBlock if an event loop runs in this thread."""
    if asyncio._get_running_loop() is not None:
        raise WouldBlock(
            f"jobs.blocking.{call} would block the event loop that runs in this thread: use 'await"
            f" jobs.{call}', in an 'async def' test"
        )
