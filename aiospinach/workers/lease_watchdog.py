"""Ending bodies whose lease is not trusted any more, whatever else hangs."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pool import Pool
    from .run import Run

SHORTEST_SLEEP = 0.005


class LeaseWatchdog:
    """Sleeps until the first lease of a run would end unless it is renewed. It never calls the broker, so a
    broker that hangs does not hold it up."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._trust = pool.broker.lease - pool.broker.margin
        self._bell = asyncio.Event()
        self.alarm: float = math.inf
        """Until when it sleeps, by ``time.monotonic()``."""

    def note_early_end(self, run: Run) -> None:
        """The lease of a new run ends before the alarm. If little of it is left, it is renewed at once."""
        self._bell.set()
        if run.body.trusted_until - time.monotonic() < self._trust / 2:  # guard: early renewal
            self._pool.heartbeat.renew(run.consumer)

    async def work(self) -> None:
        """Watch until cancelled."""
        while True:
            self._bell.clear()
            now = time.monotonic()
            self.alarm = now + self._trust
            for run in self._pool.runs:
                until = run.body.trusted_until
                if until <= now:  # guard: suspected lease
                    run.suspect()
                elif until < self.alarm:
                    self.alarm = until
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(self.alarm - now, SHORTEST_SLEEP)):
                    await self._bell.wait()
