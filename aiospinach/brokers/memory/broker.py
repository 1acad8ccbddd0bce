"""The broker in the memory of one process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import compress
from threading import RLock
from typing import TypeVar

from ... import forks
from ...job import JobStatus
from ...release import __version__
from ...timing import to_seconds
from ...validation import check_number
from ..base import DEFAULT_LEASE, MOST_EVENTS, SHORTEST_LEASE, Broker
from ..events import EventPlace
from ..orders import ORDERS, cancel_order
from ..overview import QueueSeen
from ..progress import Step
from ..questions import Act, Cancel, Question, SteerResult
from ..records import (
    NO_PARKING,
    Envelope,
    ExchangeResult,
    Fired,
    Firing,
    Parking,
    RenewResult,
    Settlement,
    StoreInfo,
    SweepResult,
    TickResult,
)
from ..reports import NO_QUEUE_REPORT, NO_REPORTS, QueueReport, WorkerReport
from ..results import channel_of
from ..subscriptions import Subscription
from .channels import Channels, MemorySubscription
from .clock import Clock
from .event_waits import EventWaits
from .inspection import answer, overview_of
from .lost_jobs import warn_at_exit
from .orders import carry_out
from .progress import note_steps
from .queue import QueueState
from .sessions import Sessions
from .wake_ups import WakeUps

T = TypeVar("T")


class MemoryBroker(Broker):
    """Keeps jobs in the memory of this process. They outlive event loops, and end with the process.

    ``lease``: seconds after which the lease of a job ends, unless it is renewed. Here leases end if the event
    loop ended while jobs ran. ``events``: how many rows of events each queue keeps, as in RedisBroker.
    ``clock``: the clock that the broker reads. Several threads, each with its own event loop, may use one
    broker. In a forked child the broker is empty: the jobs are its parent's. Raises InvalidValue for a wrong
    argument.
    """

    def __init__(self, *, lease: float = DEFAULT_LEASE, events: int = 0, clock: Clock = time) -> None:
        self.lease: float = to_seconds(lease, what="MemoryBroker(lease=)", least=SHORTEST_LEASE)
        self.events: int = check_number(events, what="MemoryBroker(events=)", least=0, most=MOST_EVENTS)
        self._clock = clock
        self._queues: defaultdict[str, QueueState] = defaultdict(partial(QueueState, self.events))
        self._channels = Channels()
        self._sessions = Sessions()
        self._event_waits = EventWaits()
        # For threads: coroutines of one loop never meet within a method, which awaits nothing. Reentrant: the
        # garbage collector may end a forgotten wait in the middle of a call.
        self._lock = RLock()
        self._waits = WakeUps(self._lock)
        warn_at_exit(self._count_jobs)
        forks.forget_in_child(self)

    def _forget_parent(self) -> object:
        """Empty the broker in a forked child. A thread of the parent may hold the old lock."""
        inherited = self._queues, self._waits
        self._queues = defaultdict(partial(QueueState, self.events))
        self._lock, self._event_waits = RLock(), EventWaits()
        self._waits = WakeUps(self._lock)
        return inherited

    def _belong_to(self, owner: object) -> None:
        is_new = self._owner is None or self._owner() is not owner
        super()._belong_to(owner)
        if is_new:
            with self._lock:
                for state in self._queues.values():
                    state.known.clear()

    async def open(self, namespace: str, *, until: float | None = None) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def now(self) -> int:
        return int(self._clock.time() * 1000)

    async def ping(self) -> StoreInfo:
        return StoreInfo("memory", __version__, self.now())

    async def queues(self) -> list[str]:
        with self._lock:
            return sorted(queue for queue, state in self._queues.items() if state.is_used)

    async def register(
        self, queue: str, limits: Mapping[str, int], periodic: Mapping[str, int], worker: str = "-"
    ) -> Mapping[str, int]:
        with self._lock:
            state = self._queues[queue]
            replaced = state.leases.limit(limits)
            state.owners.update(dict.fromkeys(limits, worker))
            state.names[self._sessions.here()] = worker
            for task, due in periodic.items():
                state.periodic[task] = min(due, state.periodic.get(task, due))
                state.known.add(task)
            self._notify(queue, state)
        return replaced

    async def enqueue(
        self,
        queue: str,
        jobs: Sequence[Envelope],
        *,
        token: str | None = None,
        until: float | None = None,
    ) -> list[bool]:
        with self._lock:
            state = self._queues[queue]
            now = self.now()
            if token is not None:
                known = state.answers.get(token, now)
                if known is not None:
                    return list(known)
            stored = [state.add(job, now) for job in jobs]
            if self.events:
                state.events.note_scheduled(compress(jobs, stored), now)
            if token is not None:
                state.answers.put(token, tuple(stored), now)
            self._notify(queue, state)
            return stored

    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        with self._lock:
            state = self._queues[queue]
            now = self.now()
            expiry, session = self._clock.monotonic() + self.lease, self._sessions.here()
            fenced, cancelled = state.settle(settled, now)
            leases = state.take(want, now, expiry, self.margin, parking, session)
            if self.events:
                state.events.note_started(leases)
            has_earlier_due, state.earlier_due_pending = state.earlier_due_pending, False
            self._notify(queue, state, state.names.get(session, ""))
            is_something_left = state.something_to_run() or state.wanted_to_run(parking.wanted)
            return ExchangeResult(leases, fenced, cancelled, is_something_left, has_earlier_due)

    async def renew(self, queue: str, leases: Collection[str]) -> RenewResult:
        with self._lock:
            state = self._queues[queue]
            expiry = self._clock.monotonic() + self.lease
            for lease in leases:
                if lease in state.leases.jobs:
                    state.leases.expiry[lease] = expiry
            return RenewResult(
                lost=[lease for lease in leases if lease not in state.leases.jobs],
                cancelled=state.leases.cancels.intersection(leases),
                trusted_until=expiry - self.margin,
            )

    async def tick(self, queue: str) -> TickResult:
        with self._lock:
            state = self._queues[queue]
            now = self.now()
            state.promote(now)
            expired, is_more = state.take_expired(
                self._clock.monotonic(), self.grace, self.lease, self.margin
            )
            self._notify(queue, state)
            return TickResult(
                next_due=0.0 if is_more else state.seconds_to_next(now),
                expired=expired,
                periodic=[(task, due) for task in state.known if (due := state.periodic[task]) <= now],
                now=now,
            )

    async def fire(self, queue: str, firings: Sequence[Firing]) -> list[Fired]:
        with self._lock:
            state = self._queues[queue]
            now = self.now()
            fired = [state.fire(firing, now) for firing in firings]
            self._notify(queue, state)
            return fired

    async def sweep(
        self,
        queues: Sequence[str],
        worker: WorkerReport,
        reports: Mapping[str, QueueReport] = NO_REPORTS,
        *,
        is_last: bool = False,
    ) -> list[SweepResult]:
        with self._lock:
            now, moment, session = self.now(), self._clock.monotonic(), self._sessions.here()
            for queue in queues:
                report = reports.get(queue, NO_QUEUE_REPORT)
                self._queues[queue].workers.note(session, worker, report, now, self.lease, is_last=is_last)
            return [self._queues[queue].look(now, moment, self.grace, self.lease) for queue in queues]

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        return await self._waits.wait(queues, timeout)

    async def nudge(self, queues: Sequence[str]) -> None:
        self._waits.nudge(queues)

    async def note_progress(self, queue: str, steps: Mapping[str, tuple[str, Step]]) -> None:
        with self._lock:
            if note_steps(self._queues[queue], steps, self.now(), self._sessions.here()):
                self._event_waits.wake(queue)

    async def wait_for_events(self, places: Mapping[str, EventPlace], timeout: float) -> None:
        with self._lock:
            if any(self._queues[queue].events.has_more(place) for queue, place in places.items()):
                return
            waiter = self._event_waits.begin(list(places))
        await self._event_waits.end(waiter, timeout)

    def subscribe(self, queue: str) -> Subscription:
        return MemorySubscription(self._channels, queue)

    async def publish(self, queue: str, channel: str, data: bytes) -> None:
        self._channels.publish(queue, channel, data)

    async def look(self, queue: str, question: Question[T]) -> T:
        with self._lock:
            clocks = self._clock.time() - self._clock.monotonic()
            found: T = answer(self._queues[queue], question, self.now(), clocks, self.lease)
            return found

    async def overview(self, queues: Sequence[str], minutes: Sequence[int] = ()) -> list[QueueSeen]:
        with self._lock:
            now = self.now()
            return [overview_of(self._queues[queue], minutes, now, self.lease) for queue in queues]

    async def steer(self, queue: str, act: Act[T]) -> T:
        with self._lock:
            state = self._queues[queue]
            result: T = carry_out(state, act, self.now())
            self._notify(queue, state)
        if isinstance(act, Cancel) and isinstance(result, SteerResult) and result.status is JobStatus.RUNNING:
            self._channels.publish(queue, ORDERS, cancel_order(act.job_id))
        return result

    async def flush(self, queue: str) -> None:
        with self._lock:
            self._queues.pop(queue, None)
            self._waits.forget(queue)

    def __repr__(self) -> str:
        return "MemoryBroker()"

    def _count_jobs(self) -> int:
        """How many jobs it has, those that are due later included."""
        with self._lock:
            return sum(len(state.jobs) for state in self._queues.values())

    def _notify(self, queue: str, state: QueueState, worker: str = "") -> None:
        """Report ends and events of jobs, and wake one waiter if there is a job to run, or something is due
        earlier than was known."""
        for job_id, message in state.ends.take_reports() if state.ends.reports else ():
            self._channels.publish(queue, channel_of(job_id), message)
        if state.events.lines:
            state.events.write(self.now(), worker)
            self._event_waits.wake(queue)
        if state.something_to_run() or state.has_earlier_due:
            state.earlier_due_pending = state.earlier_due_pending or state.has_earlier_due
            state.has_earlier_due = False
            self._waits.wake_one(queue)
