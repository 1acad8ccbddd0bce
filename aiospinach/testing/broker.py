"""The broker of a test: a MemoryBroker that keeps its jobs back until the test runs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import msgspec

from ..brokers import MemoryBroker
from ..brokers.overview import QueueSeen
from ..brokers.progress import Step
from ..brokers.questions import Act, LookWorkers, Question
from ..brokers.records import (
    NO_PARKING,
    Envelope,
    ExchangeResult,
    Fired,
    Firing,
    Parking,
    RenewResult,
    Settlement,
    SweepResult,
    TickResult,
)
from ..brokers.reports import NO_QUEUE_REPORT, NO_REPORTS, QueueReport, WorkerReport
from ..exceptions import BrokerUnavailable, EnqueueUncertain
from .clock import MovableClock
from .lost_workers import LostWorkers
from .outage import Outage

T = TypeVar("T")


class KeepingBroker(MemoryBroker):
    """Leases jobs only while the test runs them. It loses workers and answers as the test asks for."""

    def __init__(self, clock: MovableClock, is_exempt: Callable[[], bool], events: int) -> None:
        super().__init__(clock=clock, events=events)
        self.clock: MovableClock = clock
        self.is_leasing: bool = False
        self.lost_workers: LostWorkers = LostWorkers()
        self.outage: Outage | None = None
        self.on_exchange: Callable[[], None] | None = None
        """Called after each exchange, in the event loop of the workers."""
        self._to_tick: set[str] = set()
        """Queues with leases of lost workers, which may have ended: the next tick finds them."""
        self._is_exempt = is_exempt
        """Returns whether the workers run jobs although the test drives nothing."""

    def __repr__(self) -> str:
        return "MemoryBroker() of a test"

    def _count_jobs(self) -> int:
        return 0  # the jobs of a test are not lost with the process

    # What the test asks.

    @property
    def is_away(self) -> bool:
        """The broker answers no call."""
        outage = self.outage
        return outage is not None and not outage.loses_answers and not outage.is_over

    def begin_leasing(self, queues: Sequence[str]) -> None:
        """Lease jobs from now on."""
        self._to_tick = {queue for queue in queues if self._has_lost_leases(queue)}
        self.is_leasing = True

    def is_idle(self, queues: Sequence[str], tasks: Collection[str]) -> bool:
        """Nothing of these queues is ready or due, for workers that have these tasks."""
        with self._lock:
            now = self.now()
            if self._to_tick:
                return False
            for state in map(self._queues.__getitem__, queues):
                seconds = state.seconds_to_next(now)
                is_due = seconds is not None and seconds <= 0
                if is_due or state.something_to_run() or state.wanted_to_run(tasks):
                    return False
        return True

    def next_moment(self, queues: Sequence[str]) -> int | None:
        """When something of these queues is due next, in milliseconds since 1970; None if nothing is.

        While a lost worker has leases, the next moment comes with the next tick at the latest.
        """
        with self._lock:
            now = self.now()
            states = [self._queues[queue] for queue in queues]
            dues = [seconds for state in states if (seconds := state.seconds_to_next(now)) is not None]
            if any(map(self._has_lost_leases, queues)):
                dues.append(self.tick_period)
        return None if not dues else now + round(min(dues) * 1000)

    def remove(self, queue: str, job_id: str) -> bool:
        """Remove a job that is ready. Returns False if there is none of this id."""
        with self._lock:
            state = self._queues[queue]
            if job_id not in state.ready:
                return False
            state.ready.remove(job_id)
            del state.jobs[job_id]
            return True

    # The contract, with outages.

    async def open(self, namespace: str, *, until: float | None = None) -> None:
        self._check_reachable()

    async def register(
        self, queue: str, limits: Mapping[str, int], periodic: Mapping[str, int], worker: str = "-"
    ) -> Mapping[str, int]:
        self._check_reachable()
        return await super().register(queue, limits, periodic, worker)

    async def enqueue(
        self,
        queue: str,
        jobs: Sequence[Envelope],
        *,
        token: str | None = None,
        until: float | None = None,
    ) -> list[bool]:
        self._check_reachable()
        stored = await super().enqueue(queue, jobs, token=token, until=until)
        return self._answer_of_enqueue(stored)

    async def look(self, queue: str, question: Question[T]) -> T:
        self._check_reachable()
        if _is_about_workers(question):
            self._note_the_test(queue)
        return await super().look(queue, question)

    async def overview(self, queues: Sequence[str], minutes: Sequence[int] = ()) -> list[QueueSeen]:
        self._check_reachable()
        for queue in queues:
            self._note_the_test(queue)
        return await super().overview(queues, minutes)

    async def steer(self, queue: str, act: Act[T]) -> T:
        self._check_reachable()
        return await super().steer(queue, act)

    # What workers call.

    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        self._check_reachable_by_worker()
        may_lease = self.is_leasing or self._is_exempt()
        arrived, lost = self.lost_workers.take_settlements(settled)
        result = await super().exchange(queue, arrived, want if may_lease else 0, parking)
        leases = self.lost_workers.take_leases(result.leases)
        if (on_exchange := self.on_exchange) is not None:  # another thread may unset it
            on_exchange()
        return msgspec.structs.replace(
            result,
            leases=leases,
            fenced=[*result.fenced, *lost],
            is_something_left=result.is_something_left and may_lease,
        )

    async def renew(self, queue: str, leases: Collection[str]) -> RenewResult:
        self._check_reachable_by_worker()
        return await super().renew(queue, leases)

    async def tick(self, queue: str) -> TickResult:
        self._check_reachable_by_worker()
        if self.is_leasing or self._is_exempt():
            self._to_tick.discard(queue)
            return await super().tick(queue)
        return TickResult(None, [], [], self.now())

    async def fire(self, queue: str, firings: Sequence[Firing]) -> list[Fired]:
        self._check_reachable_by_worker()
        return await super().fire(queue, firings)

    async def sweep(
        self,
        queues: Sequence[str],
        worker: WorkerReport,
        reports: Mapping[str, QueueReport] = NO_REPORTS,
        *,
        is_last: bool = False,
    ) -> list[SweepResult]:
        self._check_reachable_by_worker()
        return await super().sweep(queues, worker, reports, is_last=is_last)

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        self._check_reachable_by_worker()
        return await super().wait(queues, timeout)

    async def note_progress(self, queue: str, steps: Mapping[str, tuple[str, Step]]) -> None:
        self._check_reachable_by_worker()
        await super().note_progress(queue, steps)

    # Within.

    def _note_the_test(self, queue: str) -> None:
        """Count the test as a worker: the engine would warn that no worker looks at the queue."""
        self._queues[queue].workers.note(
            "the test", WorkerReport("the test"), NO_QUEUE_REPORT, self.now(), self.lease, is_last=False
        )

    def _has_lost_leases(self, queue: str) -> bool:
        return not self.lost_workers.leases.isdisjoint(self._queues[queue].leases.jobs)

    def _check_reachable(self) -> None:
        if self.is_away:
            raise BrokerUnavailable("the broker is away: the test has made an outage")

    def _check_reachable_by_worker(self) -> None:
        """As above. Time passes while workers try again, so a refused call ends an outage of some seconds.

        No lease grows older meanwhile: workers renew their leases as soon as the broker is back.
        """
        outage = self.outage
        try:
            self._check_reachable()
        except BrokerUnavailable:
            if self.is_leasing and outage is not None and outage.until is not None:
                self.clock.set(outage.until)
            raise

    def _answer_of_enqueue(self, stored: list[bool]) -> list[bool]:
        """Return the answer of the store, or raise EnqueueUncertain if it is lost."""
        outage = self.outage
        if outage is None or not outage.loses_answers or outage.is_over:
            return stored

        async def retry() -> list[bool]:
            self._check_reachable()
            return self._answer_of_enqueue(stored)

        raise EnqueueUncertain("the answer of the broker was lost: the test has made an outage", retry=retry)


def _is_about_workers(question: object) -> bool:
    return isinstance(question, LookWorkers)
