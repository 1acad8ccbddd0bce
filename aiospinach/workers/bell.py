"""A bell: wakes the one loop of a service that waits for work."""

from __future__ import annotations

import asyncio


class Bell:
    """Wakes the one loop that waits for it. A ring that comes before the wait is not lost.

    A loop finds its work in its own state, and waits only if there is none. So several rings before a wait
    count as one.
    """

    __slots__ = ("_is_rung", "_waiter")

    def __init__(self) -> None:
        self._is_rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """End the wait, or the next one."""
        if not self._is_rung:
            self._is_rung = True
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def clear(self) -> None:
        """Forget earlier rings: the caller is about to look at its state."""
        self._is_rung = False

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for a ring, and forget it. Returns False if none came within ``seconds``.

        If the wait is cancelled, a ring is kept for the next wait.
        """
        if not self._is_rung:
            if seconds is None:
                await self._wait()
            else:
                try:
                    async with asyncio.timeout(seconds):
                        await self._wait()
                except TimeoutError:
                    return False
        self._is_rung = False
        return True

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
