"""Taking jobs from this pool whose leases it may no longer rely on."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ..exceptions import LeaseLost

if TYPE_CHECKING:
    from .pool import Pool

SHORTEST_SLEEP = 0.005


class LeaseWatchdog:
    """Cancels bodies whose lease could not be renewed in time, even while a renewal hangs at the broker."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def work(self) -> None:
        """Watch until cancelled."""
        broker = self._pool.broker
        while True:
            now = time.monotonic()
            soonest = now + broker.lease - broker.margin
            for run in self._pool.runs:
                if run.trusted_until <= now:
                    run.cancel(LeaseLost("the lease could not be renewed in time"))
                else:
                    soonest = min(soonest, run.trusted_until)
            await asyncio.sleep(max(soonest - now, SHORTEST_SLEEP))
