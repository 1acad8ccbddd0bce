"""The contract of all brokers.

A broker stores jobs and leases them to workers. It holds no policy and sends no signals. Moments are
milliseconds since 1970 on the broker's own clock. Ids are unique within a queue. A call whose answer was lost
may be repeated, and the repeat changes nothing.
"""

from __future__ import annotations

import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from ..exceptions import InvalidValue
from .events import EventPlace
from .overview import QueueSeen
from .progress import Step
from .questions import Act, Question
from .records import (
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
from .reports import NO_REPORTS, QueueReport, WorkerReport
from .subscriptions import Subscription

T = TypeVar("T")

DEFAULT_LEASE = 60.0
SHORTEST_LEASE = 0.1
DEFAULT_ENQUEUE_TIMEOUT = 3.0
SHORTEST_ENQUEUE_TIMEOUT = 0.001

DEAD_AT_MOST = 10_000
DEAD_FOR = 180 * 24 * 3600.0
"""How many dead jobs a queue keeps, and for how many seconds."""
MOST_EVENTS = 1_000_000
"""How many rows of events a queue keeps, at most."""
REMEMBERED_FOR = 600.0
"""For how many seconds at least an id that a user gave stays used after the job was stored."""


class Broker(ABC):
    """Stores jobs. A broker belongs to one engine, and outlives event loops.

    A call raises BrokerUnavailable if the store does not answer, and another BrokerError if the store refuses
    it. A caller that is cancelled abandons the answer: the call may still be carried out.
    """

    lease: float = DEFAULT_LEASE
    """Seconds without a renewal after which the lease of a job ends."""

    enqueue_timeout: float = DEFAULT_ENQUEUE_TIMEOUT
    """Seconds for which ``enqueue``, ``look``, ``steer`` and ``open_in_time`` try to reach the store."""

    events: int = 0
    """How many rows of events each queue keeps; 0: none."""

    _owner: Callable[[], object | None] | None = None

    def _belong_to(self, owner: object) -> None:
        """Give the broker to one engine. Raises InvalidValue if it belongs to another that has not ended."""
        other = None if self._owner is None else self._owner()
        if other not in (None, owner) and not getattr(other, "has_ended", False):
            raise InvalidValue(
                f"this {type(self).__name__} belongs to another engine, {other!r}: give each engine a broker"
                " of its own, or end the other first, by leaving 'async with engine'"
            )
        self._owner = weakref.ref(owner)

    @property
    def margin(self) -> float:
        """Seconds before the end of a lease at which its worker stops trusting it."""
        return self.lease / 12

    @property
    def grace(self) -> float:
        """Seconds after the end of a lease at which its job counts as lost."""
        return self.lease / 6

    @property
    def tick_period(self) -> float:
        """Seconds between two ticks of a worker, at most."""
        return min(5.0, self.lease / 12)

    @abstractmethod
    async def open(self, namespace: str, *, until: float | None = None) -> None:
        """Connect, for jobs of this namespace. A second call does nothing.

        Tries once, or until this moment of ``time.monotonic()``.
        """

    async def open_in_time(self, namespace: str) -> None:
        """Connect; tries for ``enqueue_timeout`` seconds."""
        await self.open(namespace, until=time.monotonic() + self.enqueue_timeout)

    @abstractmethod
    async def aclose(self) -> None:
        """Disconnect. Jobs stay stored, and the broker can be opened again."""

    @abstractmethod
    def now(self) -> int:
        """Return the time of the broker's clock, in milliseconds since 1970."""

    @abstractmethod
    async def ping(self) -> StoreInfo:
        """Ask the store to answer. Returns what it says of itself."""

    @abstractmethod
    async def queues(self) -> list[str]:
        """Return the queues of the namespace in which jobs were stored or tasks registered, sorted."""

    @abstractmethod
    async def register(
        self, queue: str, limits: Mapping[str, int], periodic: Mapping[str, int], worker: str = "-"
    ) -> Mapping[str, int]:
        """Make the tasks of ``worker`` known: ``limits`` has how many jobs of a task may run at once (0: any
        number), and ``periodic`` when a periodic task is due next. A stored due that is earlier is kept.

        Returns the old limit of each task whose limit has changed.
        """

    @abstractmethod
    async def enqueue(
        self,
        queue: str,
        jobs: Sequence[Envelope],
        *,
        token: str | None = None,
        until: float | None = None,
    ) -> list[bool]:
        """Store all jobs or none. Returns for each job True if it was stored, False if it is a duplicate.

        A repeat with the same token, in the same event loop and within 10 minutes, stores nothing and returns
        the same. Tries until this moment of ``time.monotonic()``, or for ``enqueue_timeout`` seconds. Raises
        EnqueueUncertain if the jobs may have been stored.
        """

    @abstractmethod
    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        """Settle leased jobs, and lease up to ``want`` others, in one call.

        Jobs are leased in the order in which they were queued, except parked jobs and jobs of tasks that have
        reached their limit. With ``want=0`` the call still wakes another worker if something is left to run.
        After BrokerUnavailable the caller repeats the call with the same arguments.
        """

    @abstractmethod
    async def renew(self, queue: str, leases: Collection[str]) -> RenewResult:
        """Prolong these leases to ``lease`` seconds from now."""

    @abstractmethod
    async def tick(self, queue: str) -> TickResult:
        """Queue due jobs, and find lost jobs and due periodic tasks; if there are many, only some."""

    @abstractmethod
    async def fire(self, queue: str, firings: Sequence[Firing]) -> list[Fired]:
        """Move periodic tasks from ``due`` to ``next_due``, and store the jobs of these ticks.

        Returns the outcome of each tick. Only one caller fires a tick.
        """

    def spans(self, queues: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the queues in groups that one call of ``wait`` or ``sweep`` can name."""
        return [tuple(queues)]

    @abstractmethod
    async def sweep(
        self,
        queues: Sequence[str],
        worker: WorkerReport,
        reports: Mapping[str, QueueReport] = NO_REPORTS,
        *,
        is_last: bool = False,
    ) -> list[SweepResult]:
        """Return for each queue of a span whether there is something to run, and when the next tick is due.

        The call stores what ``worker`` says about itself, and to each queue. ``look(LookWorkers())`` returns
        it for three leases, or until a call that ``is_last``. An event loop has one worker in a queue.
        """

    @abstractmethod
    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        """Wait for a wake-up of one of the queues of a span.

        Returns that queue; None after ``timeout`` seconds or after a nudge. An event loop has one wait at a
        time for the queues of a span. A cancelled wait loses no wake-up.
        """

    @abstractmethod
    async def nudge(self, queues: Sequence[str]) -> None:
        """End the wait of this event loop for exactly these queues. If there is none, the next one may end at
        once."""

    @abstractmethod
    async def note_progress(self, queue: str, steps: Mapping[str, tuple[str, Step]]) -> None:
        """Store how far running jobs have come: the task and the step, by lease.

        A lease that is gone stores nothing. The steps of a lease go with it.
        """

    @abstractmethod
    async def wait_for_events(self, places: Mapping[str, EventPlace], timeout: float) -> None:
        """Wait until one of the queues of a span has events or steps behind its place in ``places``.

        Returns after ``timeout`` seconds at the latest, and may return earlier.
        """

    @abstractmethod
    def subscribe(self, queue: str) -> Subscription:
        """Return a new subscription to messages about a queue, without channels yet."""

    @abstractmethod
    async def publish(self, queue: str, channel: str, data: bytes) -> None:
        """Send a message to all subscriptions to a channel of a queue. Sent, it may be lost."""

    @abstractmethod
    async def look(self, queue: str, question: Question[T]) -> T:
        """Return the answer to a question about a queue."""

    @abstractmethod
    async def overview(self, queues: Sequence[str], minutes: Sequence[int] = ()) -> list[QueueSeen]:
        """Return the state of each of these queues, with one call for the queues of a span.

        ``rows`` of each has what its live workers did in ``minutes``, in minutes since 1970.
        """

    @abstractmethod
    async def steer(self, queue: str, act: Act[T]) -> T:
        """Carry out an order about a queue or its jobs. Returns its result."""

    @abstractmethod
    async def flush(self, queue: str) -> None:
        """Delete everything that is stored of a queue. Results may stay until their time is over."""
