"""Stopping a pool that has nothing left to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..brokers.records import LookCounts
from ..exceptions import BrokerError

if TYPE_CHECKING:
    from .pool import Pool
    from .run import Run

LOOK_AGAIN = 0.5
"""Seconds between two looks at queues on which other workers are busy still."""


class StopWhenEmpty:
    """Stops the pool when nothing is ready or running, and no retry that it put back waits."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._quiet = asyncio.Event()
        self._retries: dict[tuple[str, str], float] = {}

    def ring(self) -> None:
        """The last job has ended, or a queue is is_empty."""
        self._quiet.set()

    def note_retry(self, run: Run, delay: float) -> None:
        """The job of a run was put back, to be tried again in ``delay`` seconds."""
        due = self._pool.broker.now() + delay * 1000 + 2  # the broker counts from a little before now
        self._retries[run.consumer.queue, run.lease.job.id] = due

    def forget_retry(self, queue: str, job_id: str) -> None:
        """A job runs again, or never will."""
        if self._retries:
            self._retries.pop((queue, job_id), None)

    async def work(self) -> None:
        """Watch until cancelled, or until the pool stops."""
        pool = self._pool
        while not pool.is_stopping:
            await self._quiet.wait()
            self._quiet.clear()
            while self._is_quiet() and not pool.is_stopping:
                left = (max(self._retries.values(), default=0.0) - pool.broker.now()) / 1000
                if left < 0 and await self._is_nothing_left():
                    pool.stop()
                else:
                    await asyncio.sleep(min(max(left, 0.0) + 0.001, LOOK_AGAIN))

    def _is_quiet(self) -> bool:
        pool = self._pool
        has_seen_all = all(sweeper.answered_at is not None for sweeper in pool.sweepers)
        return has_seen_all and not pool.runs and all(consumer.is_idle for consumer in pool.consumers)

    async def _is_nothing_left(self) -> bool:
        for consumer in self._pool.consumers:
            try:
                counts = await self._pool.broker.look(consumer.queue, LookCounts())
            except BrokerError:
                return False
            if counts.ready or counts.running:
                return False
        return self._is_quiet()
