"""Around: context managers that the bodies of jobs run in."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

from .exceptions import InvalidValue
from .functions import label_of, takes_arguments, underlying_function
from .job import Job

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Manager = AbstractAsyncContextManager[Any] | AbstractContextManager[Any]
Around = Callable[[Job], Manager]
"""Returns the context manager for the body of a job. It is called for each try."""


def check_around(around: Around) -> Around:
    """Return a function that makes context managers. Raises InvalidValue for another thing."""
    if not callable(around):
        raise InvalidValue(
            f"around takes a function of a job that returns a context manager, not a {type(around).__name__}"
        )
    inner = underlying_function(around)
    for is_undecorated, decorator in (
        (inspect.isasyncgenfunction(inner), "@asynccontextmanager"),
        (inspect.isgeneratorfunction(inner), "@contextmanager"),
    ):
        if is_undecorated:
            raise InvalidValue(
                f"around: {label_of(around)!r} is a generator: decorate it with {decorator}, below @around"
            )
    if inspect.iscoroutinefunction(inner):
        raise InvalidValue(
            f"around: {label_of(around)!r} has to return a context manager: let it yield once, and decorate"
            " it with @asynccontextmanager, below @around"
        )
    if not takes_arguments(around, 1):
        raise InvalidValue(
            f"around: {label_of(around)!r} is called with the job as its only argument: give it one parameter"
        )
    return around


async def await_within(arounds: Iterable[Around], job: Job, body: Callable[[], Awaitable[Any]]) -> Any:
    """Await an async body within context managers, of which the first is the outermost."""
    async with AsyncExitStack() as stack:
        for around in arounds:
            manager = around(job)
            if _is_async(manager, around):
                await stack.enter_async_context(manager)
            else:
                stack.enter_context(manager)
        return await body()


async def call_within(
    arounds: Iterable[Around],
    job: Job,
    body: Callable[[], Any],
    run: Callable[[Callable[[], Any]], Awaitable[Any]],
) -> Any:
    """Have ``run`` call a plain body in a thread, within context managers.

    Plain context managers are entered in the thread of the body: some keep one connection for each thread.
    So they are within the async ones, which are entered in the event loop. Among each of the two kinds the
    first is the outermost.
    """
    plain: list[AbstractContextManager[Any]] = []

    def call() -> Any:
        with ExitStack() as stack:
            for manager in plain:
                stack.enter_context(manager)
            return body()

    async with AsyncExitStack() as stack:
        for around in arounds:
            manager = around(job)
            if _is_async(manager, around):
                await stack.enter_async_context(manager)
            else:
                plain.append(manager)
        return await run(call)


def _is_async(manager: Manager, around: Around) -> TypeIs[AbstractAsyncContextManager[Any]]:
    """Return whether a context manager is async. Raises InvalidValue for another object."""
    kind = type(manager)
    if hasattr(kind, "__aenter__"):
        return True
    if hasattr(kind, "__enter__"):
        return False
    raise InvalidValue(
        f"around: {label_of(around)!r} returned {kind.__name__}, which is no context manager: decorate it"
        " with @asynccontextmanager or @contextmanager"
    )
