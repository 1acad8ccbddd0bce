"""What must happen on time: renewing leases, queueing what is due, firing periodic tasks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from .. import signals
from ..brokers.base import Envelope, Ticked
from ..exceptions import BrokerError, JobCancelled, LeaseLost
from ..job import JobStatus
from ..timing import from_milliseconds
from .run import Run

if TYPE_CHECKING:
    from .feed import Feed
    from .pool import Pool

logger: logging.Logger = logging.getLogger("aiospinach")

MISSED_AFTER = 60.0
"""Seconds after which a tick that nobody fired is skipped."""
SHORTEST_SLEEP = 0.005


class Keeper:
    """One loop for all queues of a pool. Leases are renewed before the next tick, so that a worker which
    was held up does not declare its own jobs lost."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._broker = pool.broker
        self._bell = asyncio.Event()
        self._renew_at = 0.0
        self._must_register = False
        self._is_talking = False
        self.is_failing: bool = False
        self.answered_at: float | None = None
        self.loop_lag: float = 0.0

    @property
    def is_busy(self) -> bool:
        """It talks with the broker, and what it hears may be something to run."""
        return self._is_talking and not self.is_failing

    def ring(self) -> None:
        """Something may be due earlier than was known."""
        self._bell.set()

    def register_again(self) -> None:
        """Tasks were attached meanwhile."""
        self._must_register = True
        self._bell.set()

    async def register(self) -> None:
        """Tell the broker the limits and periods of every task."""
        self._must_register = True  # until it has been told of all that are known now
        known = len(self._pool.tasks)
        now = self._broker.now()
        limits: defaultdict[str, dict[str, int]] = defaultdict(dict)
        periodic: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for task in list(self._pool.tasks.values()):
            limits[task.queue][task.name] = task.max_concurrency or 0
            if task.calendar is not None:
                periodic[task.queue][task.name] = task.calendar.next_after(now)
        for feed in self._pool.feeds:
            await self._broker.register(feed.queue, limits[feed.queue], periodic[feed.queue])
        self._must_register = len(self._pool.tasks) > known

    async def work(self) -> None:
        """Renew and tick until cancelled."""
        while True:
            self._bell.clear()
            self._is_talking = True
            try:
                sleep = await self._round()
                self.is_failing, self.answered_at = False, time.monotonic()
            except BrokerError as error:
                if not self.is_failing:
                    logger.error("renewing and ticking: %s; trying on", error)
                self.is_failing = True
                sleep = min(1.0, self._broker.tick_period)
            finally:
                self._is_talking = False
                self._pool.note_change()
            alarm = time.monotonic() + max(sleep, SHORTEST_SLEEP)
            try:
                async with asyncio.timeout(max(sleep, SHORTEST_SLEEP)):
                    await self._bell.wait()
            except TimeoutError:
                self.loop_lag = max(0.0, time.monotonic() - alarm)

    async def watch(self) -> None:
        """Take jobs from this pool whose leases could not be renewed in time, until cancelled."""
        while True:
            now = time.monotonic()
            soonest = now + self._broker.lease - self._broker.margin
            for run in self._pool.runs:
                if run.trusted_until <= now:
                    run.cancel(LeaseLost("the lease could not be renewed in time"))
                else:
                    soonest = min(soonest, run.trusted_until)
            await asyncio.sleep(max(soonest - now, SHORTEST_SLEEP))

    async def _round(self) -> float:
        if self._must_register:
            await self.register()
        if time.monotonic() >= self._renew_at:
            self._renew_at = time.monotonic() + self._broker.lease / 4
            try:
                for feed in self._pool.feeds:
                    await self._renew(feed)
            except BrokerError:
                self._renew_at = 0.0  # tried again with the next round
                raise
        sleep = self._broker.tick_period
        # A pool that stops leaves what is due to others: it would never have told of its last tick.
        for feed in [] if self._pool.is_stopping else self._pool.feeds:
            ticked = await self._broker.tick(feed.queue)
            if ticked.next_due is not None:
                sleep = min(sleep, ticked.next_due)
            await self._serve(feed, ticked)
            if ticked.is_forgetful:
                self.register_again()
        return min(sleep, self._renew_at - time.monotonic())

    async def _renew(self, feed: Feed) -> None:
        runs = {run.lease.id: run for run in self._pool.runs if run.feed is feed}
        if not runs:
            return
        renewed = await self._broker.renew(feed.queue, runs.keys())
        for run in runs.values():
            run.trusted_until = renewed.trusted_until
        for lease in renewed.lost:
            runs[lease].cancel(LeaseLost("the store gave the job to another worker, or forgot it"))
        for lease in renewed.cancelled:
            runs[lease].cancel(JobCancelled("the job was cancelled"))

    async def _serve(self, feed: Feed, ticked: Ticked) -> None:
        for lease in ticked.expired:
            self._pool.start(Run(self._pool, feed, lease, is_recovery=True))
        for name, due in ticked.periodic:
            task = self._pool.tasks.get(name)
            if task is None or task.calendar is None:
                continue
            now = self._broker.now()
            job = Envelope(f"{name}@{due}", name, b"[[],{}]", due, task.max_retries)
            missed = now - due > MISSED_AFTER * 1000
            if missed:
                logger.warning(
                    "task %s: its tick of %s was missed and is skipped",
                    name,
                    from_milliseconds(due),
                )
            next_due = task.calendar.next_after(max(now, due))
            fired = await self._broker.fire(feed.queue, name, due, next_due, None if missed else job)
            self._bell.set()  # the tick's answer does not know of the new due yet
            if fired and not missed:
                queued = job.as_job(self._pool.namespace, feed.queue, JobStatus.QUEUED)
                self._pool.announce(signals.job_scheduled, {"job": queued})
