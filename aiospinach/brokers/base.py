"""What every broker can do.

A broker stores jobs and leases them to workers. It holds no policy and sends no signals: what becomes of
a job is decided above it. Moments are milliseconds since 1970 on the broker's own clock, ids are unique
within a queue, and repeating any call after a lost answer changes nothing."""

from __future__ import annotations

import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from ..exceptions import InvalidValue
from .records import (
    NO_PARKING,
    Act,
    Envelope,
    ExchangeResult,
    Fired,
    Firing,
    Parking,
    Question,
    RenewResult,
    Settlement,
    SteerResult,
    SweepResult,
    TickResult,
)

T = TypeVar("T")

LEVEL = 1
"""What the workers of this release can do; one that can do more has a higher one."""

DEFAULT_LEASE = 60.0
SHORTEST_LEASE = 0.1
DEFAULT_ENQUEUE_TIMEOUT = 3.0
SHORTEST_ENQUEUE_TIMEOUT = 0.001

DEAD_AT_MOST = 10_000
DEAD_FOR = 180 * 24 * 3600.0
"""How many dead jobs a queue keeps, and for how many seconds."""
REMEMBERED_FOR = 600.0
"""For how many seconds, at least, the id that a user gave is known as used."""


class Broker(ABC):
    """Where jobs are stored. A broker belongs to one engine, and survives many event loops."""

    lease: float = DEFAULT_LEASE
    """Seconds that a worker may be silent before its jobs are given to others."""

    enqueue_timeout: float = DEFAULT_ENQUEUE_TIMEOUT
    """Seconds that somebody who schedules, asks or orders tries to reach the store."""

    _owner: Callable[[], object | None] | None = None

    def _belong_to(self, owner: object) -> None:
        """Be the broker of one engine; InvalidValue if it is that of another, which has not ended."""
        other = None if self._owner is None else self._owner()
        if other not in (None, owner) and not getattr(other, "has_ended", False):
            raise InvalidValue(
                f"this {type(self).__name__} belongs to another engine, {other!r}: give each engine a broker"
                " of its own, or end the other first, by leaving 'async with engine'"
            )
        self._owner = weakref.ref(owner)

    @property
    def margin(self) -> float:
        """Seconds before a lease ends at which its holder stops trusting it."""
        return self.lease / 12

    @property
    def grace(self) -> float:
        """Seconds after a lease has ended before somebody else gets the job."""
        return self.lease / 6

    @property
    def tick_period(self) -> float:
        """Seconds between two ticks of a worker, at most."""
        return min(5.0, self.lease / 12)

    @abstractmethod
    async def open(self, namespace: str, *, until: float | None = None) -> None:
        """Connect, for jobs of this namespace. Repeating it does nothing.

        It is tried once, or until this moment of ``time.monotonic()``.
        """

    async def open_in_time(self, namespace: str) -> None:
        """Connect for a question or an order: this is tried for ``enqueue_timeout`` seconds."""
        await self.open(namespace, until=time.monotonic() + self.enqueue_timeout)

    @abstractmethod
    async def aclose(self) -> None:
        """Disconnect; what is stored stays stored. The broker can be opened again."""

    @abstractmethod
    def now(self) -> int:
        """The broker's clock."""

    @abstractmethod
    async def register(
        self, queue: str, limits: Mapping[str, int], periodic: Mapping[str, int], worker: str = "-"
    ) -> Mapping[str, int]:
        """Make tasks known: how many of each may run at once (0: any number), and when periodic ones
        are due next. An earlier due that is stored already is kept. ``worker`` has these tasks.

        Returns the tasks that had another limit, and that limit.
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
        """Store all jobs or none; tells of each whether it was stored or is a duplicate.

        A repeat with the same token, in the same event loop and within 10 minutes, stores nothing and answers
        the same. It is tried until this moment of ``time.monotonic()``, or for ``enqueue_timeout``. A caller
        that is cancelled abandons the answer, not the call.
        """

    @abstractmethod
    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        """Give back and take in one trip: settle leased jobs, and lease up to ``want`` others.

        First in, first out, but for tasks that run as often as they may, and for parked jobs. With
        ``want=0`` it still wakes another worker if something is left to run. If it raises
        BrokerUnavailable, the caller repeats it with the same arguments.
        """

    @abstractmethod
    async def renew(self, queue: str, leases: Collection[str]) -> RenewResult:
        """Keep these leases for another while."""

    @abstractmethod
    async def tick(self, queue: str) -> TickResult:
        """Queue what is due, and find what was lost; some of it, if it is much."""

    @abstractmethod
    async def fire(self, queue: str, firings: Sequence[Firing]) -> list[Fired]:
        """Move periodic tasks from ``due`` to ``next_due``, and store the jobs of these ticks.

        Returns what became of each. A tick is fired by one caller only.
        """

    def spans(self, queues: Sequence[str]) -> list[tuple[str, ...]]:
        """The queues in groups that one call of ``wait`` and of ``sweep`` can span."""
        return [tuple(queues)]

    @abstractmethod
    async def sweep(self, queues: Sequence[str], worker: str) -> list[SweepResult]:
        """Look at the queues of one span in one call: what is there to run, and when is the next tick due?

        ``worker`` is the name of the caller, which ``look(LookWorkers())`` tells.
        """

    @abstractmethod
    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        """Wait until one of the queues of a span has something to do for one worker.

        Returns that queue; None after ``timeout`` seconds, or after a nudge. In an event loop one at a time
        waits for the queues of a span. Being cancelled loses no wake-up.
        """

    @abstractmethod
    async def nudge(self, queues: Sequence[str]) -> None:
        """End the wait for exactly these queues that is under way in this event loop; if none is, the next
        one may end at once."""

    @abstractmethod
    async def look(self, queue: str, question: Question[T]) -> T:
        """Answer what people ask about a queue."""

    @abstractmethod
    async def steer(self, queue: str, act: Act) -> SteerResult:
        """Do what people order."""

    @abstractmethod
    async def flush(self, queue: str) -> None:
        """Forget everything about a queue."""
