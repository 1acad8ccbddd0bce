"""Runs of async receivers: awaits them together, in the sender's context, and keeps errors as values."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Final, TypeVar

from ..cancellation import shielded_if
from ..failures import safe_exception
from ..logs import Log
from ..redaction import REDACT_NOTHING, Redaction

logger: Log = Log("aiospinach.signals")

GRACE: Final = 0.1
"""Seconds that a receiver has to end after its cancellation; then it is left behind."""

Receiver = Callable[..., Any]
T = TypeVar("T")


class ReceiverRun:
    """The awaitable of one receiver, and its result or error. It raises nothing."""

    __slots__ = (
        "_awaitable",
        "_handled",
        "abandoned",
        "began",
        "ended",
        "error",
        "kwargs",
        "receiver",
        "result",
        "succeeded",
        "task",
    )

    task: asyncio.Task[None]

    def __init__(
        self, receiver: Receiver, kwargs: dict[str, Any], awaitable: Awaitable[Any], began: float
    ) -> None:
        self.receiver: Receiver = receiver
        self.kwargs: dict[str, Any] = kwargs
        self.result: Any = None
        self.error: BaseException | None = None
        self.succeeded: bool = False
        self.abandoned: bool = False
        self.began: float = began
        """When the receiver was called, by ``time.perf_counter()``."""
        self.ended: float | None = None
        self._awaitable = awaitable
        self._handled: BaseException | None = sys.exception()
        """The error that the sender handles; ``sys.exc_info()`` returns it in the receiver."""

    def discard(self) -> None:
        """Close the awaitable, which will not be awaited."""
        discard(self._awaitable)

    async def main(self, gathering: Gathering) -> None:
        try:
            self.result = await (self._awaitable if self._handled is None else self._handle())
            self.succeeded = True
        except BaseException as error:
            if type(error) is GeneratorExit and asyncio._get_running_loop() is None:
                raise  # not an error of the receiver: its event loop has ended
            if not (self.abandoned and type(error) is asyncio.CancelledError):
                self.error = error
        self.ended = time.perf_counter()
        gathering.on_run_ended()

    async def _handle(self) -> Any:
        assert self._handled is not None
        try:
            raise self._handled
        except BaseException:
            _drop_own_traceback()
            return await self._awaitable


class Gathering:
    """Waits for the runs of one sending, with a countdown and one timer."""

    def __init__(self, runs: list[ReceiverRun], context: Context) -> None:
        self.overdue: list[ReceiverRun] = []
        self._runs = runs
        self._left = len(runs)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] | None = None
        for run in runs:
            # Not create_task: an eager task factory would enter the context, in which this code runs already.
            run.task = asyncio.Task(run.main(self), loop=self._loop, context=context)

    def on_run_ended(self) -> None:
        self._left -= 1
        if not self._left:
            self._wake()

    async def wait(self, limit: float) -> asyncio.CancelledError | None:
        """Wait for the runs, for ``limit`` seconds and a grace.

        Returns a cancellation of the sender that arrived meanwhile: the caller raises it.
        """
        cancellation = None
        try:
            await asyncio.sleep(0)  # then all have begun, and most have ended: no timer is needed
        except asyncio.CancelledError as error:
            cancellation = error
            self._count_left()
        if not self._left:
            return cancellation
        cancellation = await self._wait(limit, cancellation is not None) or cancellation
        if self._left:
            self.overdue = [run for run in self._runs if not run.task.done()]
            for run in self.overdue:
                run.abandoned = True
                run.task.cancel()
            cancellation = await self._wait(GRACE, cancellation is not None) or cancellation
        return cancellation

    async def _wait(self, limit: float, was_cancelled: bool) -> asyncio.CancelledError | None:
        cancellation = None
        deadline = self._loop.time() + limit
        while self._left:
            left = deadline - self._loop.time()
            if left <= 0:
                break
            self._ended = self._loop.create_future()
            timer = self._loop.call_later(left, self._wake)
            try:
                with shielded_if(was_cancelled or cancellation is not None):
                    await self._ended
            except asyncio.CancelledError as error:
                cancellation = error
                self._count_left()
            finally:
                timer.cancel()
        return cancellation

    def _count_left(self) -> None:
        """Count again: a run that the end of the loop cancelled before its first step never counts down."""
        for run in self._runs:
            if run.task.cancelled():
                run.discard()
        self._left = sum(not run.task.done() for run in self._runs)

    def _wake(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


if sys.version_info >= (3, 12):

    def share_context(task: asyncio.Task[Any], context: Context) -> None:
        """Do nothing: Python 3.12 and later know the context of a task."""

    def own_context() -> Context:
        task = asyncio.current_task()
        return task.get_context() if task is not None else copy_context()

else:

    def share_context(task: asyncio.Task[Any], context: Context) -> None:
        """Remember the context of a task, which Python 3.11 does not know."""
        task._aiospinach_context = context  # type: ignore[attr-defined]

    def own_context() -> Context:
        known: Context | None = getattr(asyncio.current_task(), "_aiospinach_context", None)
        return copy_context() if known is None else known


def while_handling(error: BaseException, call: Callable[..., T], /, *args: Any) -> T:
    """Call a function as if within ``except``: ``sys.exc_info()`` returns the error there."""
    try:
        raise error
    except BaseException:
        _drop_own_traceback()
        return call(*args)


def _drop_own_traceback() -> None:
    """Restore the traceback that the handled error had: with this frame in it, it keeps itself alive."""
    _, error, traceback = sys.exc_info()
    assert error is not None
    assert traceback is not None
    BaseException.with_traceback(error, traceback.tb_next)  # a user's class may override the method


def discard(awaitable: Any) -> None:
    """Close a coroutine, or cancel a future, that will not be awaited."""
    try:
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        elif isinstance(awaitable, asyncio.Future):
            awaitable.cancel()
    except BaseException as error:
        logger.error("closing what a receiver returned raised %s", type(error).__name__)


def identity_of(receiver: Receiver) -> object:
    if inspect.ismethod(receiver):
        return id(receiver.__self__), id(receiver.__func__)
    return id(receiver)


def name_of(receiver: Receiver) -> str:
    """A name for logs. The repr of a receiver is never used: it may raise, or show a secret."""
    with contextlib.suppress(BaseException):  # attributes may be code of users
        for named in (receiver, getattr(receiver, "func", None), type(receiver)):
            name = getattr(named, "__qualname__", None)
            if isinstance(name, str):
                return f"{getattr(named, '__module__', None)}.{name}"
    return type(receiver).__name__


def safe_exc_info(
    error: BaseException, redaction: Redaction = REDACT_NOTHING
) -> tuple[type[BaseException], BaseException, TracebackType | None] | None:
    """``exc_info`` for a log record, of any error, however it behaves; None if tracebacks are left out."""
    if redaction.tracebacks:
        return None
    error = redaction.shown(safe_exception(error))
    return type(error), error, error.__traceback__
