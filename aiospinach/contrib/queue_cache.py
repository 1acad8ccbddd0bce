"""The last known counts of an engine's queues, for readers that cannot wait for the store."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping
from contextvars import Context
from typing import Any

from aiospinach import AiospinachError, Engine, QueueCounts

STATES = ("ready", "running", "waiting", "dead", "parked")
"""Attributes of QueueCounts that count jobs."""
REFRESHED_EVERY = 5.0
WANTED_FOR = 120.0
"""Seconds after a read within an event loop for which the counts are refreshed."""
KEPT_FOR = 60.0
"""Seconds after which counts that could not be refreshed are not returned any more."""
WAIT_AT_MOST = 0.5
"""Seconds that a read in a thread without an event loop waits for fresh counts."""
REFRESHED_WITHIN = 5.0


class QueueCache:
    """The last known counts of an engine's queues, which its event loop refreshes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._counts: Mapping[str, QueueCounts] = {}
        self._asked_at = float("-inf")
        self._refreshed_at = float("-inf")
        self._wanted_until = float("-inf")
        self._refreshed = threading.Event()
        self._is_closed = False
        self._note_loop()

    @property
    def namespace(self) -> str:
        return self._engine.namespace

    def on_signal(self, namespace: str, **kwargs: Any) -> None:
        """A signal of the engine was sent: the engine works in this event loop."""
        self._note_loop()

    def read(self) -> Mapping[str, QueueCounts]:
        """The counts by queue; none if they are too old. It never raises.

        In a thread without an event loop it waits a moment for fresh counts. Within an event loop it cannot
        wait. So from then on the counts are refreshed until nothing has read them for a while.
        """
        loop, is_in_thread = self._loop, asyncio._get_running_loop() is None
        if not is_in_thread:
            self._wanted_until = time.monotonic() + WANTED_FOR
        is_wanted = not is_in_thread or self._age() >= REFRESHED_EVERY
        if is_wanted and loop is not None and not loop.is_closed():
            self._refreshed.clear()
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._begin, loop, context=Context())
                if is_in_thread and loop.is_running():
                    self._refreshed.wait(WAIT_AT_MOST)
        return self._counts if self._age() < KEPT_FOR else {}

    def close(self) -> None:
        """Refresh no more."""
        self._is_closed = True
        task, loop = self._task, self._loop
        if task is not None and loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

    def _age(self) -> float:
        return time.monotonic() - self._refreshed_at

    def _note_loop(self) -> None:
        loop = asyncio._get_running_loop()
        if loop is not None and (self._loop is None or not self._loop.is_running()):
            self._loop = loop

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        is_refreshing = self._task is not None and not self._task.done() and self._task.get_loop() is loop
        if not is_refreshing and not self._is_closed:
            self._task = loop.create_task(self._refresh())

    async def _refresh(self) -> None:
        """Refresh the counts once, and then as long as they are wanted, while the engine is in use."""
        while True:
            await asyncio.sleep(max(0.0, self._asked_at + REFRESHED_EVERY - time.monotonic()))
            if self._engine.has_ended:
                return
            self._asked_at = time.monotonic()
            with contextlib.suppress(AiospinachError, TimeoutError):  # the workers log an outage
                async with asyncio.timeout(REFRESHED_WITHIN):
                    self._counts = await self._engine.counts()
                self._refreshed_at = time.monotonic()
            self._refreshed.set()
            if time.monotonic() >= self._wanted_until:
                return
