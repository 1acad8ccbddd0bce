"""Bodies that are plain functions run in threads, which nothing can stop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from threading import Lock
from typing import Any

from anyio import CapacityLimiter, to_thread

from ..exceptions import InvalidValue
from ..receivers import discard


class Threads:
    """Threads for as many plain functions as there are slots; not those that web frameworks share."""

    def __init__(self, number: int) -> None:
        self._limiter = CapacityLimiter(number)

    async def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function in a thread, in a copy of the caller's context; returns and raises what it does.

        Being cancelled does not end it: the function could not be stopped, and its job must not start
        again beside it. An awaitable that it returns is refused with InvalidValue.
        """
        call = _Call(function, args, kwargs)
        thread = asyncio.ensure_future(to_thread.run_sync(call.run, limiter=self._limiter))
        while not (thread.done() and call.is_over()):
            try:
                await asyncio.wait([call.ended] if thread.done() else [thread])
            except asyncio.CancelledError:
                continue
        error = call.error if thread.cancelled() else thread.exception() or call.error
        if error is not None:
            raise error
        if inspect.isawaitable(call.result):
            discard(call.result)
            raise InvalidValue(
                "the task is a plain function, and it returned an awaitable: make it an 'async def' function"
            )
        return call.result


class _Call:
    """One call in a thread. What it returns or raises is kept as a value: a SystemExit or StopIteration
    that is raised through a future would harm the event loop."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._lock = Lock()
        self._has_begun = False
        self._is_dropped = False

    def run(self) -> None:
        """Call the function; the thread does."""
        with self._lock:
            if self._is_dropped:
                return
            self._has_begun = True
        try:
            self.result = self._function(*self._args, **self._kwargs)
        except BaseException as error:
            self.error = error
        finally:
            self._loop.call_soon_threadsafe(self._end)

    def is_over(self) -> bool:
        """Whether the function has ended; one that has not begun, and that the end of the event loop has
        cancelled, never will begin."""
        with self._lock:
            if not self._has_begun:
                self._is_dropped = True
                self.error = asyncio.CancelledError()
                return True
        return self.ended.done()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
