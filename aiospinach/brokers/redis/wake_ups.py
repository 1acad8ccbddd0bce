"""Waits for wake-ups of queues in Redis, and ends these waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...exceptions import BrokerError
from . import scripts
from .calls import ScriptCalls

END_OF_WAIT = 1.0
"""Seconds within which a nudged wait ends."""


class WakeUps:
    """``wait`` and ``nudge`` of one broker. A wait pops from the wake-ups of its queues and the list of
    nudges."""

    def __init__(self, calls: ScriptCalls) -> None:
        self._calls = calls

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        here, first = self._calls.here(), self._calls.queue(queues[0])
        first.is_nudged = False
        if here.waits_for is not queues:
            here.waits_for = queues
            here.by_wake_key = {self._calls.queue(queue).keys.wake: queue for queue in queues}
        by_key = here.by_wake_key
        until = time.monotonic() + timeout
        while True:
            left = max(0.0, until - time.monotonic())
            popping = asyncio.ensure_future(here.transport.blocking_pop([first.keys.nudge, *by_key], left))
            try:
                popped = await asyncio.shield(popping)
            except asyncio.CancelledError:
                await self._end_wait(queues, by_key, popping)
                raise
            if popped is None or popped[0] in by_key or first.is_nudged:
                return self._note_wake_up(by_key, popped)
            # The nudge was meant for an earlier wait.

    async def nudge(self, queues: Sequence[str]) -> None:
        state = self._calls.queue(queues[0])
        state.is_nudged = True
        await self._calls.work(scripts.NUDGE, state, [])

    def _note_wake_up(self, by_key: Mapping[str, str], popped: tuple[str, bytes] | None) -> str | None:
        queue = None if popped is None else by_key.get(popped[0])
        if popped is not None and queue is not None and popped[1] != b"run":
            self._calls.queue(queue).has_earlier_due = True
        return queue

    async def _end_wait(
        self, queues: Sequence[str], by_key: Mapping[str, str], popping: asyncio.Future[Any]
    ) -> None:
        """End a cancelled wait by a nudge, and wake another worker if a wake-up came meanwhile.

        Closing the connection could lose a wake-up: the server may send the wake-up to the closing
        connection.
        """
        try:
            async with asyncio.timeout(END_OF_WAIT):
                if not popping.done():
                    await self.nudge(queues)
                queue = self._note_wake_up(by_key, await asyncio.shield(popping))
                if queue is not None:
                    await self._calls.work(scripts.WAKE_ANOTHER, self._calls.queue(queue), [])
        except (BrokerError, TimeoutError, asyncio.CancelledError):
            popping.cancel()
