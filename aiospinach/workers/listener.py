"""The listener of a span: waits for wake-ups of the broker while there is nothing to run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..exceptions import BrokerError
from .bell import Bell
from .consumer import Consumer
from .slots import Slots
from .span import Span
from .state import PoolState

WAITING = "waiting for jobs"
LISTEN_FOR = 5.0
"""Seconds of one wait for a wake-up; then the listener waits again."""
PAUSE = 1.0
"""Seconds between two waits while the broker is away."""


class Listener:
    """Waits for wake-ups of the queues of one span, while slots are free and there is nothing to run.

    A wait is never cancelled: that would cost a connection, and could lose a wake-up. A nudge ends the wait
    if the listener has to wait for more queues, or if the pool stops.
    """

    def __init__(
        self,
        state: PoolState,
        slots: Slots,
        span: Span,
        consumers: Sequence[Consumer],
        partial_listeners: set[Listener],
    ) -> None:
        self._state = state
        self._slots = slots
        self._span = span
        self._consumers = consumers
        self._partial_listeners = partial_listeners
        """The listeners that do not wait for all of their queues; shared by all listeners of the pool."""
        self._waits_for: tuple[str, ...] = ()
        self._bell = Bell()
        self._is_nudged = False
        """The wait under way was nudged: one nudge is enough."""
        self._nudges: set[asyncio.Task[None]] = set()
        self.has_ended: bool = False
        self.on_return: Callable[[], None]
        """Called after a pause that followed a failure: wake-ups may have been missed."""

    def ring(self) -> None:
        """Decide again which queues to wait for: a slot is free, a queue is empty, or the pool stops."""
        self._bell.ring()
        if self._waits_for and not self._is_nudged and self._is_worth_a_nudge():  # guard: nudge
            self._is_nudged = True
            nudge = self._state.loop.create_task(self._end_wait(self._waits_for))
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
            self._state.on_change()

    async def _listen(self) -> None:
        all_queues = self._span.queues
        while self._state.is_working:
            self._bell.clear()
            queues = self._worth_waiting_for()
            if queues is all_queues:
                self._partial_listeners.discard(self)
            else:
                self._partial_listeners.add(self)
            if not queues:
                await self._bell.wait()
            elif (woken := await self._wait(queues)) is not None:
                self._consumers[all_queues.index(woken)].wake()

    async def _wait(self, queues: tuple[str, ...]) -> str | None:
        self._waits_for, self._is_nudged = queues, False
        outage = self._span.outage
        try:
            # After a failure a short wait shows soon that the broker is back.
            seconds = PAUSE if outage.is_of(WAITING) else LISTEN_FOR
            woken = await self._state.broker.wait(queues, seconds)
            outage.end(WAITING)
            return woken
        except BrokerError as error:
            outage.begin(WAITING, error)
        finally:
            self._waits_for = ()
        await self._bell.wait(PAUSE)
        self.on_return()
        return None

    def _is_worth_a_nudge(self) -> bool:
        if not self._state.is_working:
            return not self._state.loop.is_closed()
        return not set(self._worth_waiting_for()) <= set(self._waits_for)

    def _worth_waiting_for(self) -> tuple[str, ...]:
        """The empty queues that are worth waiting for. There are none while an exchange of the span asks for
        jobs: this exchange may fill the free slots."""
        if self._span.asking:
            return ()
        end = self._slots.worth_waiting_for()
        if end is None and self._slots.turns.first is None:
            return self._span.queues
        return tuple(
            consumer.queue
            for consumer in self._consumers
            if consumer.is_empty and (end is None or consumer.place < end)
        )

    async def _end_wait(self, queues: tuple[str, ...]) -> None:
        try:
            await self._state.broker.nudge(queues)
        except BrokerError:
            if self._waits_for is queues:
                self._is_nudged = False  # the next ring tries again
        except Exception as error:
            self._state.crash(error)
