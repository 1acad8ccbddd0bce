"""The watchdog of leases: ends bodies whose lease was not renewed in time, whatever else hangs."""

from __future__ import annotations

import time

from .bell import Bell
from .heartbeat import Heartbeat
from .run import Run
from .runs import Runs
from .state import PoolState

SHORTEST_SLEEP = 0.005


class LeaseWatchdog:
    """Sleeps until the first lease of a run would end unless it is renewed.

    It never calls the broker, so a broker that hangs does not hold it up.
    """

    def __init__(self, state: PoolState, runs: Runs, heartbeat: Heartbeat) -> None:
        self._runs = runs
        self._heartbeat = heartbeat
        self._trust = state.broker.lease - state.broker.margin
        self._bell = Bell()

    def on_early_end(self, run: Run) -> None:
        """Wake up for a new run whose lease ends early. If little of the lease is left, renew it at once."""
        self._bell.ring()
        if run.body.trusted_until - time.monotonic() < self._trust / 2:  # guard: early renewal
            self._heartbeat.renew(run.outbox)

    async def work(self) -> None:
        """Watch until cancelled."""
        runs = self._runs
        while True:
            self._bell.clear()
            now = time.monotonic()
            alarm = now + self._trust
            for run in runs:
                until = run.body.trusted_until
                if until <= now:  # guard: suspected lease
                    run.suspect()
                elif until < alarm:
                    alarm = until
            runs.watched_until = alarm
            await self._bell.wait(max(alarm - now, SHORTEST_SLEEP))
