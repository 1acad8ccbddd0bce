"""A portal: an event loop in a thread of its own, through which threads without one call coroutines."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import Any, ParamSpec, TypeVar

from .. import forks

P = ParamSpec("P")
R = TypeVar("R")


class Portal:
    """Calls coroutines from threads that have no event loop.

    The first call starts the thread, and later calls share it. ``close`` ends the thread, and the end of the
    interpreter closes a portal that is still open. A forked child starts a thread of its own.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._thread: _LoopThread | None = None
        self._calls: set[Future[Any]] = set()
        """Calls under way."""
        forks.forget_in_child(self)

    def call(self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a coroutine in the portal's loop, in a copy of the caller's context, and return its result."""
        with self._lock:  # a portal that closes takes no call
            if self._thread is None:
                self._thread = self._start()
            call = asyncio.run_coroutine_threadsafe(function(*args, **kwargs), self._thread.loop)
            self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            return call.result()
        finally:
            call.cancel()  # guard: interrupted call
            del call  # its error refers to this frame

    def close(self) -> None:
        """Wait for the calls under way, and end the thread. The next call starts another."""
        with self._lock:
            thread, self._thread = self._thread, None
            calls, self._calls = self._calls, set()
        if thread is not None:
            atexit.unregister(self.close)
            wait(list(calls))  # guard: calls under way
            thread.end()

    def _start(self) -> _LoopThread:
        thread = _LoopThread()
        try:
            thread.start()
        except RuntimeError:  # the system has no room for a thread
            thread.give_up()
            raise
        atexit.register(self.close)  # guard: calls at the exit
        return thread

    def _forget_parent(self) -> object:
        """Start anew in a forked child: the thread runs in the parent, and may hold the lock."""
        inherited = self._thread, self._calls
        self._lock, self._thread, self._calls = Lock(), None, set()
        return inherited


class _LoopThread(Thread):
    """A thread that runs an event loop until it is told to end."""

    def __init__(self) -> None:
        super().__init__(name="aiospinach-blocking", daemon=True)  # the interpreter's end closes the portal
        self._may_end = asyncio.Event()
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.loop: asyncio.AbstractEventLoop = self._runner.get_loop()

    def run(self) -> None:
        with self._runner:
            self._runner.run(self._may_end.wait())

    def give_up(self) -> None:
        """Close the loop of a thread that could not be started."""
        self._runner.close()

    def end(self) -> None:
        """Close the loop and its connections, and return when the thread has ended."""
        self.loop.call_soon_threadsafe(self._may_end.set)
        self.join()
