"""One wait for wake-ups of queues in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache


class Waiter:
    """A call of ``wait``. Its event loop may be another thread's, or have ended."""

    def __init__(self, queues: Sequence[str]) -> None:
        self.queues: frozenset[str] = set_of(tuple(queues))
        self.woken_for: str | None = None
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._woken: asyncio.Future[str | None] = self.loop.create_future()

    def wake(self, queue: str) -> bool:
        """End the wait for this queue. Returns False if its event loop has ended."""
        if self.loop is asyncio._get_running_loop():  # no loop runs while the collector ends a wait
            self._set(queue)
        else:
            try:
                self.loop.call_soon_threadsafe(self._set, queue)
            except RuntimeError:  # the loop has ended
                return False
        self.woken_for = queue
        return True

    def nudge(self) -> None:
        """End the wait without a wake-up; only in its own event loop."""
        self._set(None)

    async def result(self, timeout: float) -> str | None:
        timer = self.loop.call_later(timeout, self._set, None)
        try:
            return await self._woken
        finally:
            timer.cancel()

    def _set(self, queue: str | None) -> None:
        if not self._woken.done():
            self._woken.set_result(queue)


@lru_cache(1024)  # a worker repeats its wait for the same queues
def set_of(queues: tuple[str, ...]) -> frozenset[str]:
    """The queues of a wait."""
    return frozenset(queues)
