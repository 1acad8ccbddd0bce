"""Renewing leases: the sign of life of a worker."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import anyio

from ..exceptions import BrokerError, JobCancelled, LeaseLost

if TYPE_CHECKING:
    from .feed import Feed
    from .pool import Pool
    from .run import Run

RENEWING = "renewing leases"
LONGEST_PAUSE = 1.0
"""Seconds between two tries to renew the leases of a queue, at most."""


class Heartbeat:
    """Renews all leases of a pool every quarter of a lease.

    A renewal waits for nothing else, and the renewal of one queue does not wait for that of another.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._broker = pool.broker
        self._beat_at = 0.0
        self.next_answer: float = 0.0
        """Until when the next renewal is answered at the latest: a lease that ends before needs another."""
        self._again: set[Feed] = set()
        """Queues that got a job while their leases were being renewed."""
        self._renewals: dict[Feed, asyncio.Task[None]] = {}
        self.answered_at: float | None = None
        """When no lease was left to renew, by time.monotonic()."""

    @property
    def is_failing(self) -> bool:
        """The leases of a queue could not be renewed."""
        return any(feed.outage.is_of(RENEWING) for feed in self._pool.feeds)

    async def work(self) -> None:
        """Renew until cancelled."""
        try:
            while True:
                self._beat()
                await asyncio.sleep(max(0.0, self._beat_at - time.monotonic()))
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self._end()
            raise

    def renew(self, feed: Feed) -> None:
        """Renew the leases of a queue now, and once more if that is under way: it does not know new ones."""
        if feed in self._renewals:
            self._again.add(feed)
        else:
            # Constructed, since an eager task would end before it stands in the table.
            self._renewals[feed] = asyncio.Task(self._renew(feed), loop=self._pool.loop)

    async def catch_up(self, feed: Feed) -> None:
        """Renew the leases of a queue before something else is done, if that is overdue.

        A worker that was held up would find its own jobs lost otherwise.
        """
        if time.monotonic() >= self._beat_at:
            self._beat()
        if (renewal := self._renewals.get(feed)) is not None:
            await asyncio.wait([renewal])

    def _beat(self) -> None:
        self._beat_at = time.monotonic() + self._broker.lease / 4
        self.next_answer = self._beat_at + self._broker.lease / 4
        for feed in {run.feed for run in self._pool.runs}:
            if feed not in self._renewals:
                self.renew(feed)
        self._note_answers()

    async def _renew(self, feed: Feed) -> None:
        """Renew the leases of one queue; try on while the broker is away."""
        try:
            while runs := {run.lease.id: run for run in self._pool.runs if run.feed is feed}:
                try:
                    self._again.discard(feed)
                    await self._renew_once(feed, runs)
                    feed.outage.end(RENEWING)
                    if feed in self._again:  # guard: renewal under way
                        continue
                    break
                except BrokerError as error:
                    feed.outage.begin(RENEWING, error)
                    await asyncio.sleep(min(LONGEST_PAUSE, self._broker.tick_period))
        except Exception as error:
            self._pool.crash(error)
        finally:
            feed.outage.leave(RENEWING)
            del self._renewals[feed]
            self._note_answers()

    async def _renew_once(self, feed: Feed, runs: dict[str, Run]) -> None:
        renewed = await self._broker.renew(feed.queue, runs.keys())
        for run in runs.values():
            run.body.trusted_until = renewed.trusted_until
        for lease in renewed.lost:
            runs[lease].cancel(LeaseLost("the store gave the job to another worker, or forgot it"))
        for lease in renewed.cancelled:
            runs[lease].cancel(JobCancelled("the job was cancelled"))

    def _note_answers(self) -> None:
        if not self._renewals:
            self.answered_at = time.monotonic()

    async def _end(self) -> None:
        renewals = list(self._renewals.values())
        for renewal in renewals:
            renewal.cancel()
        if renewals:
            await asyncio.wait(renewals)
