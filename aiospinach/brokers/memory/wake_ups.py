"""The wake-ups of a broker in memory: those that wait, and those that no wait has taken yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from threading import RLock

from .waiter import Waiter, set_of


class WakeUps:
    """Gives each wake-up of a queue to one wait. ``lock`` is that of the broker, which calls ``wake_one`` and
    ``forget`` under it."""

    def __init__(self, lock: RLock) -> None:
        self._lock = lock
        self.waiters: list[Waiter] = []
        self._kept: dict[str, None] = {}
        """Queues whose wake-up no wait has taken yet, in their order."""

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        """Wait for a wake-up of one of the queues, and return the queue; None after ``timeout`` seconds or
        after a nudge. A cancelled wait loses no wake-up."""
        with self._lock:
            waiter = Waiter(queues)
            for queue in self._kept:
                if queue in waiter.queues:
                    del self._kept[queue]
                    return queue
            self.waiters.append(waiter)
        woken = None
        try:
            woken = await waiter.result(timeout)
            return woken
        finally:
            with self._lock:
                if waiter in self.waiters:
                    self.waiters.remove(waiter)
                elif woken is None and waiter.woken_for is not None:  # it was woken as it ended
                    self.wake_one(waiter.woken_for)

    def nudge(self, queues: Sequence[str]) -> None:
        """End the wait of this event loop for exactly these queues."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for waiter in list(self.waiters):
                if waiter.loop is loop and waiter.queues == set_of(tuple(queues)):
                    self.waiters.remove(waiter)
                    waiter.nudge()

    def wake_one(self, queue: str) -> None:
        """Give the wake-up of the queue to one waiter, or keep one for the next wait."""
        for waiter in list(self.waiters):
            if queue in waiter.queues and waiter.wake(queue):
                self.waiters.remove(waiter)
                return
        self._kept[queue] = None

    def forget(self, queue: str) -> None:
        """Forget a wake-up that no wait has taken."""
        self._kept.pop(queue, None)
