"""The consumer of one queue: settles jobs that have ended and leases new ones, in one call to the broker."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping

from .. import signals
from ..brokers.records import NO_PARKING, ExchangeResult, ParkedTask, Parking, Settlement
from ..exceptions import BrokerError
from ..job import JobStatus
from ..logs import Log
from ..outcome import is_parked_too_long
from .bell import Bell
from .outbox import Outbox
from .runs import Runs
from .slots import Slots
from .span import Span
from .state import PoolState
from .unknown_tasks import UnknownTasks

logger: Log = Log("aiospinach")

EXCHANGING = "exchanging"
SHORTEST_PAUSE = 0.05
"""Seconds between the first two tries to reach a broker that is away; later pauses grow to a tick period."""


class Consumer:
    """Exchanges with the broker, one call at a time.

    Jobs that end during a call are settled by the next call. There is no timer: the next call begins as soon
    as the last one has ended and there is something to send.
    """

    def __init__(
        self,
        state: PoolState,
        runs: Runs,
        slots: Slots,
        outbox: Outbox,
        span: Span,
        unknown_tasks: UnknownTasks,
        place: int,
    ) -> None:
        self._state = state
        self._runs = runs
        self._slots = slots
        self._outbox = outbox
        self._span = span
        self._unknown_tasks = unknown_tasks
        self.queue: str = outbox.queue
        self.bell: Bell = outbox.bell
        """Rung when there may be something to exchange."""
        self.place: int = place
        """The place of the queue in the order of the pool's queues."""
        self.is_empty: bool = True
        """The queue has no known job to run: the last exchange left none, and no wake-up came since."""
        self.is_asking: bool = False
        """The consumer was woken, and the exchange that asks for jobs is not answered yet."""
        self.answered_at: float | None = None
        """When the broker answered last, by ``time.monotonic()``."""
        self.on_earlier_due: Callable[[], None]
        """Called when something is due earlier than the last tick knew."""
        self.on_empty: Callable[[], None]
        """Called when the queue has nothing to run."""
        self._must_wake_another = False
        self._asked_at: float | None = None
        """When the exchange under way was sent for the first time, by ``time.monotonic()``."""
        self._claimed = 0
        self._wanted: tuple[str, ...] = ()

    @property
    def is_failing(self) -> bool:
        """The broker has not answered the last exchange."""
        return self._outbox.outage.is_of(EXCHANGING)

    @property
    def has_unanswered(self) -> bool:
        """The broker has not answered all settlements."""
        return self._outbox.has_unanswered

    @property
    def is_busy(self) -> bool:
        """A call to the broker is under way, or has to be made."""
        outbox = self._outbox
        return not outbox.is_closed and (
            self._asked_at is not None or self._must_wake_another or not outbox.is_empty
        )

    @property
    def is_idle(self) -> bool:
        """No settlement waits to be sent, and no job to run is known."""
        return self.is_empty and self._outbox.is_empty

    def wake(self) -> None:
        """Ask for jobs: there may be some to run. If no slot is free, another worker is woken instead."""
        if not (self._outbox.is_closed or self.is_failing):  # guard: wake of a queue that is away
            self._join_turns()
            if not self.is_asking:
                self.is_asking = True
                self._span.asking += 1
        self.wake_another()

    def wake_another(self) -> None:
        """Have the broker wake another worker, if a job is left to run."""
        self._must_wake_another = not self._outbox.is_closed
        self.bell.ring()

    def on_parked(self, parked: Mapping[str, ParkedTask]) -> None:
        """Ask for parked jobs whose task is attached here, and for those that were parked too long."""
        now = self._state.broker.now()
        self._wanted = tuple(
            task
            for task, jobs in parked.items()
            if task in self._state.tasks or is_parked_too_long(jobs.since, now)
        )
        self._unknown_tasks.update(self.queue, parked)
        if self._wanted and self.is_empty:
            self.wake()

    def give_up(self) -> None:
        """Stop waiting for the broker, also for the answer to an exchange under way."""
        self._must_wake_another = False
        self._outbox.close()

    def give_up_if_away(self, since: float) -> None:
        """Give up, as the pool ends, if the broker fails or every settlement is answered.

        Give up as well if a call that was sent before ``since``, by ``time.monotonic()``, is not answered.
        """
        is_late = self._asked_at is not None and self._asked_at < since
        if self.is_failing or is_late or not self.has_unanswered:
            self.give_up()

    async def work(self) -> None:
        """Exchange until cancelled by a pool that is closing. Other cancellations are ignored."""
        outbox = self._outbox
        while True:
            try:
                await outbox.bell.wait()
            except asyncio.CancelledError:
                if self._state.is_closing:
                    raise
                self._state.on_cancellation()
                continue
            settled = outbox.take()
            want = self._claim(len(settled))
            if settled or want or self._must_wake_another:
                self._must_wake_another = False
                try:
                    await self._exchange(settled, want)
                except BaseException:
                    self.give_up()
                    raise

    def _claim(self, given_back: int) -> int:
        """Claim free slots for an exchange; for an empty queue at most ``given_back`` slots."""
        if not self._state.is_working:
            return 0
        return self._slots.claim(self.place, given_back if self.is_empty else None)

    async def _exchange(self, settled: list[Settlement], want: int) -> None:
        self._asked_at, self._claimed = time.monotonic(), want
        try:
            result = await self._ask(settled, want, self._parking())
        finally:
            self._asked_at = None
            room = self._claimed if self._claimed else self._slots.free
            self._unclaim()
        for lease in self._outbox.on_answer(result):
            job = lease.job.as_job(self._state.namespace, self.queue, JobStatus.CANCELLED)
            self._state.announce(signals.job_cancelled, {"job": job})
        if result.has_earlier_due:
            self.on_earlier_due()
        self._start(result, room)
        is_known_empty = self._update_is_empty(want, result)
        if not self._state.is_working:
            self._state.on_change()
        elif self._slots.free and not is_known_empty:  # guard: slots that an exchange left
            self._slots.on_free()

    def _start(self, result: ExchangeResult, room: int) -> None:
        """Run as many leased jobs as slots are free, and release the others."""
        if not self._state.is_working:
            room = 0
        elif self._is_late(result):  # guard: late answer
            room = 0
            logger.warning(
                "queue %s: %d jobs arrived after their leases had ended, and are released",
                self.queue,
                len(result.leases),
                fields={**self._state.fields, "queue": self.queue},
            )
        started = result.leases[:room]
        self._slots.turns.serve(self.place, len(started))
        for lease in started:
            self._runs.start(self._outbox, lease)
        for lease in result.leases[room:]:
            self._outbox.release(lease)

    def _is_late(self, result: ExchangeResult) -> bool:
        """The answer took so long that the leases in it have ended."""
        leases = result.leases  # all were leased at the same moment
        return bool(leases) and time.monotonic() >= leases[0].trusted_until

    def _parking(self) -> Parking:
        unknown = self._outbox.unknown
        if not (unknown or self._wanted):
            return NO_PARKING
        known = {*self._state.tasks, *self._wanted}
        return Parking([task for task in unknown if task not in known], self._wanted)

    def _unclaim(self) -> None:
        """Leave the slots that were claimed for an exchange to other queues."""
        self._slots.unclaim(self.place, self._claimed)
        self._claimed = 0

    def _update_is_empty(self, want: int, result: ExchangeResult) -> bool:
        """Decide after an exchange whether the queue may have more jobs. Returns True if the queue has none;
        the caller then offers the free slots to other queues."""
        if self._must_wake_another:
            return False  # it was woken meanwhile: the next exchange decides
        was_asking = self._end_asking()
        is_short = len(result.leases) < want
        if is_short and result.is_something_left:  # guard: something left
            self._join_turns()
        elif is_short:
            self._on_empty()
            return True
        elif want:
            self._join_turns()
        if was_asking:
            self._slots.on_turn()
        return False

    def _join_turns(self) -> None:
        if self.is_empty:
            self.is_empty = False
            self._slots.turns.join(self.place)

    def _on_empty(self) -> None:
        self._end_asking()
        if not self.is_empty:
            self.is_empty = True
            self._slots.turns.leave(self.place)
        self.on_empty()

    def _end_asking(self) -> bool:
        was_asking, self.is_asking = self.is_asking, False
        if was_asking:
            self._span.asking -= 1
        return was_asking

    async def _ask(self, settled: list[Settlement], want: int, parking: Parking) -> ExchangeResult:
        pause = SHORTEST_PAUSE
        while True:
            try:
                result = await self._state.broker.exchange(self.queue, settled, want, parking)
                self.answered_at = time.monotonic()
                self._outbox.outage.end(EXCHANGING, repeated=len(settled))
                return result
            except BrokerError as error:
                self._outbox.outage.begin(EXCHANGING, error)
                self._unclaim()  # one queue that is away must not starve the others
                self._on_empty()
                if self._outbox.is_closed:
                    return ExchangeResult([], [])
                pause = await self._sleep_before_retry(pause)
            except asyncio.CancelledError:
                # A repeat is harmless. Without it, jobs that the call leased wait until their leases end.
                if self._state.is_closing:
                    raise
                self._state.on_cancellation()

    async def _sleep_before_retry(self, pause: float) -> float:
        try:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        except asyncio.CancelledError:
            if self._state.is_closing:
                raise
            self._state.on_cancellation()
        # A quarter of a lease after the broker is back, other workers find jobs that this call has leased.
        return max(SHORTEST_PAUSE, min(pause * 2, self._state.broker.tick_period))
