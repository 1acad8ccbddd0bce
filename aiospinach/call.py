"""A call of a task's function: within context managers of users, and with its dependencies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from .around import Around, await_within, call_within
from .dependencies import SharedScope
from .job import Job
from .task import Task


class CallHost(Protocol):
    """The owner of a call, which the call asks for its steps."""

    def call(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function of a task."""

    async def call_in_thread(self, call: Callable[[], Any]) -> Any:
        """Have a thread call a plain function, and return its result."""

    async def perform(self, body: Callable[[], Awaitable[Any]]) -> Any:
        """Await the body. If its result is awaitable, await that as well."""


async def call_surrounded(
    host: CallHost, task: Task[..., Any], job: Job, arounds: Sequence[Around], scope: SharedScope
) -> Any:
    """Call the function of a task within the context managers, with the dependencies that it declares.

    Dependencies are opened within the context managers, and in the event loop, also for a plain function.
    Returns the result of the function, and raises the errors of all three.
    """
    args, kwargs, injection = job.args, job.kwargs, task._injection

    def call() -> Any:
        return host.call(task, args, kwargs)

    async def perform(body: Callable[[], Awaitable[Any]]) -> Any:
        nonlocal args, kwargs
        if injection is None:
            return await host.perform(body)
        async with injection.opened(scope) as values:
            args, kwargs = injection.add(values, job.args, job.kwargs)
            return await host.perform(body)

    if task.is_async:
        return await await_within(arounds, job, lambda: perform(call))
    return await call_within(arounds, job, call, lambda plain: perform(lambda: host.call_in_thread(plain)))
