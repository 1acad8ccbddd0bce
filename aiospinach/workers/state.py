"""The state that all parts of a pool share: its phase, its context, its error, and its signals under way."""

from __future__ import annotations

import asyncio
import enum
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from typing import Any

from ..around import Around
from ..brokers.base import Broker
from ..dependencies import SharedScope
from ..logs import Log
from ..redaction import Redaction
from ..signals import SafeNamedSignal
from ..signals.receivers import safe_exc_info
from ..signals.sender import Sender
from ..surroundings import Surroundings
from ..task import Task
from .bell import Bell
from .known_errors import KnownErrors
from .threads import Threads

logger: Log = Log("aiospinach")


class Phase(enum.IntEnum):
    """The phase of a pool. A pool only goes on to later phases.

        WORKING ──stop──▶ DRAINING ──interrupt──▶ INTERRUPTED ──▶ CLOSING
           │                 │                        ▲              ▲
           └────interrupt────│────────────────────────┘              │
                             └───────── all jobs have ended ─────────┘

    - WORKING: it fetches jobs.
    - DRAINING: it fetches none, and waits for those that run.
    - INTERRUPTED: it has cancelled the bodies that still ran.
    - CLOSING: nothing runs, and its services are cancelled.
    """

    WORKING = 0
    DRAINING = 1
    INTERRUPTED = 2
    CLOSING = 3


class PoolState:
    """What all parts of a pool share. It knows no part of the pool."""

    def __init__(
        self,
        *,
        name: str,
        broker: Broker,
        sender: Sender,
        tasks: Mapping[str, Task[..., Any]],
        surroundings: Surroundings,
        context: Context,
        number: int,
    ) -> None:
        self.name: str = name
        self.broker: Broker = broker
        self.sender: Sender = sender
        self.namespace: str = sender.namespace
        self.tasks: Mapping[str, Task[..., Any]] = tasks
        self.surroundings: Surroundings = surroundings
        self.arounds: Sequence[Around] = surroundings.arounds
        self.redaction: Redaction = surroundings.redaction
        self.context: Context = context
        """The context of the supervisor, which jobs get copies of."""
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.threads: Threads = Threads(number, f"aiospinach {name}")
        self.known_errors: KnownErrors = KnownErrors()
        self.scope: SharedScope = SharedScope(surroundings.overrides, self._on_unclosed, context=context)
        """The values that all jobs share, within the lifespan of the workers."""
        self.phase: Phase = Phase.WORKING
        self.error: BaseException | None = None
        """The defect that ended the pool, if one did."""
        self.main: asyncio.Task[None] | None = None
        """The task of the supervisor. If it is cancelled, the event loop ends."""
        self.changed: Bell = Bell()
        """Rung when something has ended that the end of the pool may wait for."""
        self.on_interrupt: Callable[[], None] = _nothing
        """Called to cancel the bodies that run."""
        self.on_quiet: Callable[[], None] | None = None
        """Called while the pool works, when the last run, a signal or a tick has ended."""
        self.announcements: set[asyncio.Task[None]] = set()
        """Signals under way that belong to no run."""
        self._tasks_of: defaultdict[str, list[Task[..., Any]]] = defaultdict(list)
        self._grouped = 0

    @property
    def fields(self) -> dict[str, str]:
        """The fields of a log record about the worker."""
        return {"namespace": self.namespace, "worker": self.name}

    @property
    def is_working(self) -> bool:
        """The pool fetches jobs."""
        return self.phase is Phase.WORKING

    @property
    def is_closing(self) -> bool:
        """The services are to end."""
        return self.phase is Phase.CLOSING

    @property
    def is_ending_now(self) -> bool:
        """The bodies are cancelled, by the pool or by the end of the event loop."""
        return self.phase >= Phase.INTERRUPTED or (self.main is not None and self.main.cancelling() > 0)

    def tasks_of(self, queue: str) -> Sequence[Task[..., Any]]:
        """The tasks of a queue that are attached now."""
        for task in list(self.tasks.values())[self._grouped :]:
            self._tasks_of[task.queue].append(task)
            self._grouped += 1
        return self._tasks_of[queue]

    def advance(self, phase: Phase) -> bool:
        """Go on to a phase. Returns False if the pool is in it already, or in a later one."""
        if self.phase >= phase:
            return False
        self.phase = phase
        self.changed.ring()
        return True

    def on_change(self) -> None:
        """Called when something has ended that the end of the pool may wait for."""
        if self.phase is not Phase.WORKING:
            self.changed.ring()
        elif (on_quiet := self.on_quiet) is not None:  # another thread may unset it
            on_quiet()

    def on_cancellation(self) -> None:
        """Called when a task of the pool was cancelled. Interrupts the pool if the event loop ends.

        Other cancellations are stray, and are ignored.
        """
        if self.is_ending_now:
            self.on_interrupt()

    def crash(self, error: BaseException) -> None:
        """End the pool because of a defect of this package, and log it."""
        logger.critical("worker %s crashed and stops", self.name, exc_info=error, fields=self.fields)
        if self.error is None:
            self.error = error
        self.on_interrupt()

    async def wait_until(self, condition: Callable[[], bool], *, timeout: float | None = None) -> None:
        """Wait for a condition, which is checked after each ring of ``changed``.

        If the wait is cancelled, the pool is interrupted, and the wait goes on.
        """
        loop, changed = self.loop, self.changed
        deadline = None if timeout is None else loop.time() + timeout
        while not condition():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return
            changed.clear()
            try:
                await changed.wait(left)
            except asyncio.CancelledError:
                self.on_interrupt()

    def announce(self, signal: SafeNamedSignal, kwargs: dict[str, Any]) -> None:
        """Send a signal that belongs to no run, without waiting for its receivers."""
        if signal.receivers:
            self.send_beside(signal, kwargs)

    def send_beside(
        self, signal: SafeNamedSignal, kwargs: dict[str, Any], context: Context | None = None
    ) -> asyncio.Task[None]:
        """Send a signal in a task of its own, in a context. Returns the task."""
        task = asyncio.Task(self.send(signal, kwargs, context), loop=self.loop, context=context)
        self.announcements.add(task)
        task.add_done_callback(self._announced)
        return task

    async def send(
        self, signal: SafeNamedSignal, kwargs: dict[str, Any], context: Context | None = None
    ) -> None:
        """Send a signal of the pool, and wait for its receivers. A cancellation ends the wait."""
        try:
            await self.sender.send(signal, kwargs, context=context)
        except asyncio.CancelledError:
            self.on_cancellation()

    def _on_unclosed(self, name: str, error: BaseException) -> None:
        """Called when a context manager of the scope has raised an error while it was left."""
        logger.error(
            "worker %s: %s raised %s when it was closed%s",
            self.name,
            name,
            type(error).__name__,
            self.redaction.ending(error),
            exc_info=safe_exc_info(error, self.redaction),
            fields=self.fields,
        )

    def _announced(self, task: asyncio.Task[None]) -> None:
        self.announcements.discard(task)
        self.on_change()


def _nothing() -> None:
    """Do nothing."""
