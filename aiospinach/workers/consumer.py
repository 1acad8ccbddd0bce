"""The traffic of one queue: what ended goes to the broker, what is next comes back, in one trip."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .. import signals
from ..brokers.records import NO_PARKING, ExchangeResult, ParkedTask, Parking, Settlement
from ..exceptions import BrokerError
from ..job import JobStatus
from ..logs import Log
from ..outcome import RELEASED, is_parked_too_long
from .maintenance import Maintenance
from .outage import Outage
from .run import Run, SettleResult

if TYPE_CHECKING:
    from .listener import Listener
    from .pool import Pool

logger: Log = Log("aiospinach")

UNKNOWN_AT_MOST = 50
"""How many tasks a worker names that it does not know."""
EXCHANGING = "exchanging"
SHORTEST_PAUSE = 0.05
"""Seconds between the first two tries to reach a broker that is away; at most it is a tick period."""


class Consumer:
    """Exchanges with the broker, one at a time. While one is under way, jobs that end gather for the
    next: no timer, and no delay where nothing is to be waited for."""

    def __init__(self, pool: Pool, queue: str, place: int) -> None:
        self.pool: Pool = pool
        self.queue: str = queue
        self.place: int = place
        """Its place in the order of the pool's queues."""
        self.is_empty: bool = True
        """Nothing is known to be there to run: the last exchange left nothing, and no wake-up came since."""
        self.is_asking: bool = False
        """It was woken, and the exchange that asks for jobs has not been answered."""
        self.maintenance: Maintenance = Maintenance(pool, self)
        self.listener: Listener | None = None
        self.gave_up: bool = False
        self._outbox: list[tuple[Settlement, Run | None]] = []
        self._bell = asyncio.Event()
        self._must_pass_on = False
        self.outage: Outage = Outage(f"queue {queue}")
        self.answered_at: float | None = None
        """When the broker answered last, by time.monotonic()."""
        self._sent: list[tuple[Settlement, Run | None]] = []
        """What the exchange under way settles."""
        self._asked_at: float | None = None
        """When the exchange under way was sent for the first time, by time.monotonic()."""
        self._claimed = 0
        self._unknown: dict[str, None] = {}  # a set that keeps its order
        self._wanted: tuple[str, ...] = ()

    @property
    def is_failing(self) -> bool:
        """The broker has not answered the last exchange."""
        return self.outage.is_of(EXCHANGING)

    @property
    def owes(self) -> bool:
        """It has settlements that the broker has not answered."""
        return bool(self._sent or self._outbox)

    @property
    def is_busy(self) -> bool:
        """It talks with the broker, or has to."""
        return not self.gave_up and (self._asked_at is not None or self._must_pass_on or bool(self._outbox))

    @property
    def is_idle(self) -> bool:
        """It has nothing to give back, and knows of nothing to run."""
        return self.is_empty and not self._outbox

    def ring(self) -> None:
        """Have it look whether there is something to exchange."""
        self._bell.set()

    def wake(self) -> None:
        """There may be something to run. If no slot is free, another worker is woken instead."""
        if not (self.gave_up or self.is_failing):  # guard: wake of a queue that is away
            self._take_turns()
            if not self.is_asking and self.listener is not None:
                self.is_asking = True
                self.listener.asking += 1
        self.pass_on()

    def pass_on(self) -> None:
        """Have the broker wake another worker, if something is left to run."""
        self._must_pass_on = not self.gave_up
        self._bell.set()

    def note_unknown(self, task: str) -> None:
        """A job of this task was parked: have the broker park all others, and not lease them to us."""
        self._unknown[task] = None
        if len(self._unknown) > UNKNOWN_AT_MOST:
            del self._unknown[next(iter(self._unknown))]

    def note_parked(self, parked: Mapping[str, ParkedTask]) -> None:
        """Jobs of these tasks are parked: ask for those that can run here, and for those that have waited too
        long."""
        now = self.pool.broker.now()
        self._wanted = tuple(
            task
            for task, jobs in parked.items()
            if task in self.pool.tasks or is_parked_too_long(jobs.since, now)
        )
        self.pool.unknown_tasks.note(self.queue, parked)
        if self._wanted and self.is_empty:
            self.wake()

    def settle(self, settlement: Settlement, run: Run | None) -> None:
        """Give a job back with the next exchange; its run hears whether it still was its own."""
        if self.gave_up:
            if run is not None:
                run.hear(SettleResult.FENCED)
            return
        self._outbox.append((settlement, run))
        self._bell.set()

    def give_up(self) -> None:
        """The broker is not going to answer, not even an exchange under way: nobody waits for it."""
        self.gave_up = True
        self._must_pass_on = False
        owed = [*self._sent, *self._outbox]
        self._sent, self._outbox = [], []
        for _, run in owed:
            if run is not None and run.answer is None:
                with contextlib.suppress(
                    Exception
                ):  # such as a log handler's: the others are to hear as well
                    run.hear(SettleResult.FENCED)

    def give_up_if_away(self, since: float) -> None:
        """The pool ends: give up if the broker fails, has not answered what was sent before this moment of
        time.monotonic(), or is owed nothing."""
        if self.is_failing or not self.owes or (self._asked_at is not None and self._asked_at < since):
            self.give_up()

    async def work(self) -> None:
        """Exchange until cancelled, once the pool is closing."""
        while True:
            try:
                await self._bell.wait()
            except asyncio.CancelledError:
                if self.pool.is_closing:
                    raise
                self.pool.notice_cancellation()
                continue
            self._bell.clear()
            self._sent, self._outbox = self._outbox, []
            want = self.pool.claim(self, len(self._sent))
            if self._sent or want or self._must_pass_on:
                self._must_pass_on = False
                try:
                    await self._trip(want)
                except BaseException:
                    self.give_up()
                    raise

    async def _trip(self, want: int) -> None:
        self._asked_at, self._claimed = time.monotonic(), want
        try:
            settled = [settlement for settlement, _ in self._sent]
            exchanged = await self._exchange(settled, want, self._parking())
        finally:
            self._asked_at = None
            room = self._claimed if self._claimed else self.pool.slots.free
            self._let_go()
        self._tell(exchanged)
        self._sent = []
        if exchanged.has_earlier_due:
            self.maintenance.ring()
        if self.pool.is_stopping:
            room = 0
        elif self._is_late(exchanged):  # guard: late answer
            room = 0
            logger.warning(
                "queue %s: %d jobs came after their leases had ended, and are released",
                self.queue,
                len(exchanged.leases),
            )
        for lease in exchanged.leases[:room]:
            self.pool.start(Run(self.pool, self, lease))
        for lease in exchanged.leases[room:]:
            self.settle(Settlement(lease, RELEASED.action), None)
        self._note_what_is_left(want, exchanged)
        if self.pool.is_stopping:
            self.pool.note_change()
        elif self.pool.slots.free:  # guard: slots that an exchange left
            self.pool.use_free_slots()

    def _parking(self) -> Parking:
        if not (self._unknown or self._wanted):
            return NO_PARKING
        known = {*self.pool.tasks, *self._wanted}
        return Parking([task for task in self._unknown if task not in known], self._wanted)

    def _tell(self, exchanged: ExchangeResult) -> None:
        """Have each run hear what the broker made of its settlement."""
        answers = dict.fromkeys(exchanged.cancelled, SettleResult.CANCELLED)
        answers |= dict.fromkeys(exchanged.fenced, SettleResult.FENCED)
        for settlement, run in self._sent:
            answer = answers.get(settlement.lease.id, SettleResult.APPLIED)
            if run is not None:
                run.hear(answer)
            elif answer is SettleResult.CANCELLED:  # it was given back before it began
                job = settlement.lease.job.as_job(self.pool.namespace, self.queue, JobStatus.CANCELLED)
                self.pool.announce(signals.job_cancelled, {"job": job})

    def _is_late(self, exchanged: ExchangeResult) -> bool:
        """The answer to an exchange took so long that no job of it may begin."""
        leases = exchanged.leases  # all were taken at the same moment
        return bool(leases) and time.monotonic() >= leases[0].trusted_until

    def _let_go(self) -> None:
        """Leave the slots that were claimed for an exchange to others."""
        self.pool.slots.unclaim(self._claimed)
        self._claimed = 0

    def _note_what_is_left(self, want: int, exchanged: ExchangeResult) -> None:
        """After an exchange: may the queue have more jobs, and which queues are worth waiting for now?"""
        if self._must_pass_on:
            return  # it was woken meanwhile: the next exchange knows
        was_asking = self._end_asking()
        is_short = len(exchanged.leases) < want
        if is_short and exchanged.is_something_left:  # guard: something left
            self._take_turns()
        elif is_short:
            self._note_empty()
            return
        elif want:
            self._take_turns()
        if was_asking:
            self.pool.note_turns()

    def _take_turns(self) -> None:
        if self.is_empty:
            self.is_empty = False
            self.pool.turns.join(self.place)

    def _note_empty(self) -> None:
        self._end_asking()
        if not self.is_empty:
            self.is_empty = True
            self.pool.turns.leave(self.place)
        self.pool.note_empty()

    def _end_asking(self) -> bool:
        was_asking, self.is_asking = self.is_asking, False
        if was_asking and self.listener is not None:
            self.listener.asking -= 1
        return was_asking

    async def _exchange(self, settled: list[Settlement], want: int, parking: Parking) -> ExchangeResult:
        pause = SHORTEST_PAUSE
        while True:
            try:
                exchanged = await self.pool.broker.exchange(self.queue, settled, want, parking)
                self.answered_at = time.monotonic()
                self.outage.end(EXCHANGING, repeated=len(settled))
                return exchanged
            except BrokerError as error:
                self.outage.begin(EXCHANGING, error)
                self._let_go()  # one queue that is away must not starve the others
                self._note_empty()
                if self.gave_up:
                    return ExchangeResult([], [])
                pause = await self._rest(pause)
            except asyncio.CancelledError:
                # Repeating it is harmless, and abandoning it would strand what it leased.
                if self.pool.is_closing:
                    raise
                self.pool.notice_cancellation()

    async def _rest(self, pause: float) -> float:
        try:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        except asyncio.CancelledError:
            if self.pool.is_closing:
                raise
            self.pool.notice_cancellation()
        # A quarter of a lease after the broker is back, others find what this exchange may have leased.
        return max(SHORTEST_PAUSE, min(pause * 2, self.pool.broker.tick_period))
