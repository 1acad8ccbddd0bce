"""Sleeping while there is nothing to run, and noticing when nothing will be."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from ..exceptions import BrokerError

if TYPE_CHECKING:
    from .pool import Pool
    from .run import Run

logger: logging.Logger = logging.getLogger("aiospinach")

LISTEN_FOR = 5.0
"""Seconds that an idle worker waits for the broker to wake it, before it looks by itself."""
PAUSE = 1.0
"""Seconds before it listens again to a broker that is away; the feeds say what is wrong."""
LOOK_AGAIN = 0.5
"""Seconds between two looks at queues on which other workers are busy still."""


class Listener:
    """Waits at the broker while there are free slots, and nothing to put in them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._hungry = asyncio.Event()
        self._sleep: asyncio.Timeout | None = None
        self._queues: list[str] = []
        self.has_ended: bool = False
        self._is_failing = False

    def ring(self) -> None:
        """A slot is free, or a queue is dry."""
        self._hungry.set()
        if self._sleep is not None and self._is_worth_waking():
            self._sleep.reschedule(0)  # being cancelled loses no wake-up
            self._sleep = None

    async def work(self) -> None:
        """Listen until cancelled, or until the pool stops."""
        try:
            await self._listen()
        finally:
            self.has_ended = True
            self._pool.note_change()

    async def _listen(self) -> None:
        pool = self._pool
        while not pool.is_stopping:
            self._queues = self._worth_waiting_for()
            if not self._queues:
                self._hungry.clear()
                await self._hungry.wait()
                continue
            try:
                woken = await self._wait()
            except TimeoutError:
                continue
            except BrokerError as error:
                if not self._is_failing:
                    logger.error("waiting for jobs: %s; trying on", error)
                self._is_failing = True
                self._hungry.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE):
                        await self._hungry.wait()
                woken = None
            for feed in pool.feeds:
                if feed.queue == woken or (woken is None and feed.dry):
                    feed.wake()

    async def _wait(self) -> str | None:
        try:
            async with asyncio.timeout(None) as self._sleep:
                woken = await self._pool.broker.wait(self._queues, LISTEN_FOR)
                self._is_failing = False
                return woken
        finally:
            self._sleep = None

    def _is_worth_waking(self) -> bool:
        if self._pool.is_stopping:
            return True
        if len(self._queues) == len(self._pool.feeds):
            return False
        return not set(self._worth_waiting_for()) <= set(self._queues)

    def _worth_waiting_for(self) -> list[str]:
        """The dry queues: all while a slot is free, and else those that come before one that is not dry,
        whose jobs would have the next slot."""
        feeds = self._pool.feeds
        if not self._pool.slots.free:
            last = max((place for place, feed in enumerate(feeds) if not feed.dry), default=0)
            feeds = feeds[:last]
        return [feed.queue for feed in feeds if feed.dry]


class EmptyWatch:
    """Stops the pool when nothing is ready or running, and no retry that it put back waits."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._quiet = asyncio.Event()
        self._retries: dict[tuple[str, str], float] = {}

    def ring(self) -> None:
        """The last job has ended, or a queue is dry."""
        self._quiet.set()

    def note_retry(self, run: Run, delay: float) -> None:
        """The job of a run was put back, to be tried again in ``delay`` seconds."""
        due = self._pool.broker.now() + delay * 1000 + 2  # the broker counts from a little before now
        self._retries[run.feed.queue, run.lease.job.id] = due

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
        return not self._pool.runs and all(feed.is_idle for feed in self._pool.feeds)

    async def _is_nothing_left(self) -> bool:
        for feed in self._pool.feeds:
            try:
                counts = await self._pool.broker.counts(feed.queue)
            except BrokerError:
                return False
            if counts.ready or counts.running:
                return False
        return self._is_quiet()
