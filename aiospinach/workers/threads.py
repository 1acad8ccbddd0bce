"""Threads for plain functions: calls them for one event loop, and reports their ends to it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import sys
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from threading import Lock, Thread
from types import FrameType
from typing import Any

from ..cancellation import shielded_if


class Threads:
    """At most ``number`` threads that call functions for one event loop.

    A thread is started when a call would have to wait without it, and lives until ``end``.

    Waking a thread, or the event loop, costs more than a short function. So one thread at a time is woken,
    and wakes the next if more calls wait. The thread that slept last is woken first. One callback reports all
    calls that have ended by then to the event loop. Deques and lists are shared without a lock: each
    operation on them is atomic, and a thread looks for calls once more after it is listed as idle.
    """

    def __init__(self, number: int, name: str) -> None:
        for left in tuple(_in_use):
            if left._loop.is_closed():
                left.abort()  # no loop is left to end them
        self._number = number
        self._name = name
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._threads: list[Thread] = []
        self._starting = Lock()
        self._idle: list[Lock] = []
        """A lock for each idle thread, which its release wakes."""
        self._is_one_waking: bool = False
        """A thread was woken, and has not looked for a call yet."""
        self._calls: deque[_Call] = deque()
        """Calls that have not begun."""
        self._ended: deque[_Call] = deque()
        """Calls that have ended, and are not collected by the event loop yet."""
        self._will_collect: bool = False
        """The event loop was woken to collect ended calls, and has not looked for them yet."""
        self._left: int = 0
        """The number of calls that are not collected: they wait, run or have ended."""
        self._is_over: bool = False

    async def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function in a thread, in a copy of the caller's context.

        Returns its result and raises its errors. If the wait is cancelled before the call has begun, the call
        never begins. A later cancellation is held back until the call has ended: a thread cannot be stopped,
        and the job must not start a second time meanwhile.
        """
        call = _Call(function, args, kwargs, self._loop.create_future())
        self._submit(call)
        was_cancelled = False
        while not call.is_over:
            try:
                with shielded_if(was_cancelled):
                    await call.ended
            except (asyncio.CancelledError, GeneratorExit) as error:
                if self._drop(call) or isinstance(error, GeneratorExit):  # guard: call that has not begun
                    raise
                call.ended = self._loop.create_future()
                was_cancelled = True
        if call.error is not None:
            try:
                raise call.error
            finally:
                # The error would keep itself alive through its traceback.
                call.error = None  # guard: error kept alive
        return call.result

    def end(self) -> None:
        """End each thread once all calls have ended. It never blocks: a garbage collector may call it."""
        self._is_over = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().release()
        _in_use.discard(self)

    def abort(self) -> None:
        """End each thread after the call that it has begun. Other calls never begin."""
        self._calls.clear()
        self.end()

    def join(self, *, also_calls: bool = False) -> None:
        """Block until the threads have ended, which takes no time.

        If calls are left, returns at once, or waits for these calls if ``also_calls`` is set.
        """
        if also_calls or not self._left:
            for thread in self._threads:
                thread.join()

    def idents(self) -> list[int]:
        """The identifiers of the threads, as ``threading.get_ident`` returns them."""
        return [thread.ident for thread in self._threads if thread.ident is not None]

    @staticmethod
    def context_in(frame: FrameType) -> Context | None:
        """The context of the call, if a frame is the beginning of a call in a thread."""
        if frame.f_code is not _Call.run.__code__:
            return None
        call: _Call = frame.f_locals["self"]
        return call._context

    # In the event loop.

    def _submit(self, call: _Call) -> None:
        self._left += 1
        self._calls.append(call)
        try:
            self._wake_one()
        except RuntimeError:  # the operating system has no more threads
            if not self._threads and self._drop(call):
                raise

    def _drop(self, call: _Call) -> bool:
        """Remove a call that has not begun. Returns False if it has begun."""
        try:
            self._calls.remove(call)
        except ValueError:
            return False
        self._left -= 1
        return True

    def _collect_ended(self) -> None:
        self._will_collect = False  # first: a call that ends from now on wakes the event loop again
        while self._ended:
            call = self._ended.popleft()
            self._left -= 1
            call.is_over = True
            if not call.ended.done():
                call.ended.set_result(None)

    # In any thread.

    def _wake_one(self) -> None:
        """Wake or start a thread, unless one is about to look for calls."""
        if self._is_one_waking:
            return
        try:
            bell = self._idle.pop()
        except IndexError:
            self._start_one()
        else:
            self._is_one_waking = True
            bell.release()

    def _start_one(self) -> None:
        with self._starting:
            # With fewer calls than threads, a thread that has just ended a call looks for the next.
            if len(self._threads) < min(self._left, self._number):
                name = f"{self._name} thread {len(self._threads) + 1}"
                # A daemon: at exit the interpreter waits for other threads before _abort_all ends them.
                thread = Thread(target=self._work, name=name, daemon=True)
                self._is_one_waking = True
                try:
                    thread.start()
                except BaseException:
                    self._is_one_waking = False
                    raise
                self._threads.append(thread)
                _in_use.add(self)

    def _work(self) -> None:
        """Call one function after the other."""
        bell = Lock()
        bell.acquire()
        self._is_one_waking = False
        while True:
            try:
                call = self._calls.popleft()
            except IndexError:
                if self._is_over:
                    return
                self._sleep(bell)
                continue
            if self._calls:  # guard: wakes the next thread
                with contextlib.suppress(RuntimeError):  # no more threads: this one takes the next call
                    self._wake_one()
            call.run()
            self._ended.append(call)
            # The arguments may be large, and this thread may sleep for long.
            del call  # guard: arguments kept alive
            if not self._will_collect:
                self._will_collect = True
                with contextlib.suppress(RuntimeError):  # the event loop is closed
                    self._loop.call_soon_threadsafe(self._collect_ended)

    def _sleep(self, bell: Lock) -> None:
        """Wait until there may be a call, or until ``end``."""
        self._idle.append(bell)
        # A call that came since this thread looked may have found no idle thread.
        if self._calls or self._is_over:  # guard: look before sleep
            try:
                self._idle.remove(bell)
            except ValueError:
                pass  # another thread releases it at this moment
            else:
                return
        bell.acquire()
        self._is_one_waking = False


class _Call:
    """One call in a thread. Its result or error is kept as a value.

    A SystemExit or StopIteration that is set on a future would harm the event loop.
    """

    __slots__ = ("_args", "_context", "_function", "_kwargs", "ended", "error", "is_over", "result")

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        ended: asyncio.Future[None],
    ) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_over: bool = False
        """The event loop has collected the call."""
        self.ended: asyncio.Future[None] = ended
        """The future that the caller awaits; a new one after each cancellation."""
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._context = copy_context()
        if (sniffio := sys.modules.get("sniffio")) is not None:
            # In the copy sniffio finds an event loop, and the function could not run one of its own.
            self._context.run(sniffio.current_async_library_cvar.set, None)

    def run(self) -> None:
        """Call the function."""
        try:
            self.result = self._context.run(self._function, *self._args, **self._kwargs)
        except BaseException as error:
            self.error = error


_in_use: set[Threads] = set()


@atexit.register
def _abort_all() -> None:
    """End the threads of workers that a program left running. Functions that run have time to end."""
    left = tuple(_in_use)
    for threads in left:
        threads.abort()
    for threads in left:
        threads.join(also_calls=True)
