"""Waking one loop."""

from __future__ import annotations

import asyncio


class Bell:
    """Wakes the one loop that waits for it. A ring that comes before the wait is not lost.

    A loop takes what it has to do from its own state, and waits only if there is nothing: several rings are
    worth as much as one.
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
        """Forget the rings until now: their reasons are known."""
        self._is_rung = False

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for a ring, and forget it; False if none came within ``seconds``. Being cancelled keeps it."""
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
