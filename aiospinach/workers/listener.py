"""Sleeping while there is nothing to run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..exceptions import BrokerError

if TYPE_CHECKING:
    from .consumer import Consumer
    from .pool import Pool
    from .sweeper import Sweeper

WAITING = "waiting for jobs"
LISTEN_FOR = 5.0
"""Seconds that an idle worker waits for the broker to wake it, before it waits anew."""
PAUSE = 1.0
"""Seconds before it listens again to a broker that is away; the consumers say what is wrong."""


class Listener:
    """Waits at the broker for the queues of one span, while slots are free and nothing is there to run.

    A wait is never broken: that would cost a connection, and could lose a wake-up. It is nudged to begin anew
    when more queues are to be waited for, and to end when the pool stops.
    """

    def __init__(self, pool: Pool, consumers: Sequence[Consumer], sweeper: Sweeper) -> None:
        self._pool = pool
        self._consumers = consumers
        self._sweeper = sweeper
        self._queues = tuple(consumer.queue for consumer in consumers)
        self._waits_for: tuple[str, ...] = ()
        self._bell = asyncio.Event()
        self._is_nudged = False
        """The wait that is under way was nudged, once for all that it may have to end for."""
        self._nudges: set[asyncio.Task[None]] = set()
        self.asking: int = 0
        """Queues that were woken and not yet asked for jobs: which are worth waiting for shows after that."""
        self.has_ended: bool = False
        for consumer in consumers:
            consumer.listener = self

    def ring(self) -> None:
        """A slot is free, a queue is empty, or the pool stops."""
        self._bell.set()
        if self._waits_for and not self._is_nudged and self._is_worth_a_nudge():  # guard: nudge
            self._is_nudged = True
            nudge = self._pool.loop.create_task(self._end_wait(self._waits_for))
            self._nudges.add(nudge)
            nudge.add_done_callback(self._nudges.discard)

    async def work(self) -> None:
        """Listen until cancelled, or until the pool stops."""
        self.has_ended = False  # it may begin again after a stray cancellation
        try:
            await self._listen()
        finally:
            self.has_ended = True
            for nudge in self._nudges:
                nudge.cancel()
            self._pool.note_change()

    async def _listen(self) -> None:
        while not self._pool.is_stopping:
            self._bell.clear()
            queues = self._worth_waiting_for()
            if queues is self._queues:
                self._pool.attentive.discard(self)
            else:
                self._pool.attentive.add(self)
            if not queues:
                await self._bell.wait()
            elif (woken := await self._wait(queues)) is not None:
                self._consumers[self._queues.index(woken)].wake()

    async def _wait(self, queues: tuple[str, ...]) -> str | None:
        self._waits_for, self._is_nudged = queues, False
        outage = self._sweeper.outage
        try:
            # A short wait after a failure tells soon that the broker is back.
            seconds = PAUSE if outage.is_of(WAITING) else LISTEN_FOR
            woken = await self._pool.broker.wait(queues, seconds)
            outage.end(WAITING)
            return woken
        except BrokerError as error:
            outage.begin(WAITING, error)
        finally:
            self._waits_for = ()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                await self._bell.wait()
        self._sweeper.ring()
        return None

    def _is_worth_a_nudge(self) -> bool:
        if self._pool.is_stopping:
            return not self._pool.loop.is_closed()
        return not set(self._worth_waiting_for()) <= set(self._waits_for)

    def _worth_waiting_for(self) -> tuple[str, ...]:
        """The empty queues: all while a slot is free, and else those that come before one that may have jobs,
        since their jobs would have the next slot. None before it is known whether a slot stays free."""
        if self.asking:
            return ()
        turns = self._pool.turns
        if self._pool.slots.free:
            if turns.last is None:
                return self._queues
            end = len(self._pool.consumers)
        else:
            end = turns.last or 0
        return tuple(
            consumer.queue for consumer in self._consumers if consumer.is_empty and consumer.place < end
        )

    async def _end_wait(self, queues: tuple[str, ...]) -> None:
        try:
            await self._pool.broker.nudge(queues)
        except BrokerError:
            if self._waits_for is queues:
                self._is_nudged = False  # the next ring tries again
        except Exception as error:
            self._pool.crash(error)
