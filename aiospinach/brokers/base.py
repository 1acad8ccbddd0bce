"""What every broker can do, and the records that go in and out of it.

A broker stores jobs and leases them to workers. It holds no policy and sends no signals: what becomes of
a job is decided above it. Moments are milliseconds since 1970 on the broker's own clock, ids are unique
within a queue, and repeating any call after a lost answer changes nothing."""

from __future__ import annotations

import enum
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from ..exceptions import InvalidValue
from ..job import Job, JobStatus
from ..outcome import Action
from ..timing import from_milliseconds

DEFAULT_LEASE = 60.0
SHORTEST_LEASE = 0.1
DEFAULT_ENQUEUE_TIMEOUT = 10.0
SHORTEST_ENQUEUE_TIMEOUT = 0.001

DEAD_AT_MOST = 10_000
DEAD_FOR = 180 * 24 * 3600.0
"""How many dead jobs a queue keeps, and for how many seconds."""
REMEMBERED_FOR = 600.0
"""For how many seconds, at least, the id that a user gave is known as used."""


class Envelope(msgspec.Struct, gc=False):
    """A job as it is stored: a header, and a body that no broker looks into.

    The garbage collector leaves it out: it is in no cycle, and there may be millions."""

    id: str
    task: str
    body: bytes
    at: int = 0
    """When it is due; what is due already is queued at once."""
    max_retries: int = 0
    retries: int = 0
    crashes: int = 0
    parked_at: int = 0
    """Since when no worker knew its task; 0 if it never was parked."""
    at_once: bool = False
    """It may run as soon as it is stored, whatever the clocks of the store and its clients say of ``at``.
    Said when it is stored."""
    named: bool = False
    """The id was given by the user, so the broker remembers it after the job has ended. Said when it is
    stored; what comes back need not tell."""

    def as_job(
        self,
        namespace: str,
        queue: str,
        status: JobStatus,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Job:
        """The snapshot for people, with arguments that somebody else has read from the body."""
        return Job(
            id=self.id,
            task_name=self.task,
            queue=queue,
            namespace=namespace,
            at=from_milliseconds(self.at),
            status=status,
            retries=self.retries,
            max_retries=self.max_retries,
            args=args,
            kwargs=kwargs or {},
            crashes=self.crashes,
            parked_at=from_milliseconds(self.parked_at) if self.parked_at else None,
        )


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The right to run a job, and to say what became of it, until it is lost."""

    id: str
    job: Envelope
    trusted_until: float
    """Where ``time.monotonic()`` says that the holder must no longer rely on it, unless renewed."""


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What became of a leased job."""

    lease: Lease
    action: Action
    delay: float = 0.0
    """Seconds until it is due again, for RETRY and PARK."""
    detail: bytes = b""
    """A DeadJob's ``detail``, for FAIL."""


class Exchanged(msgspec.Struct, frozen=True):
    """The answer to an exchange."""

    leases: Sequence[Lease]
    fenced: Collection[str]
    """The leases among the settled that were gone: what they said changed nothing."""
    cancelled: Collection[str] = ()
    """The leases that would have put their job back, which somebody had cancelled: it was ended instead."""
    is_something_left: bool = False
    """The caller could lease more at once: an exchange looks at so many jobs, and may bring fewer than it was
    asked for."""
    is_due_sooner: bool = False
    """The wake-up before this exchange said that something is due earlier than the last tick told."""


class Renewed(msgspec.Struct, frozen=True):
    """The answer to a renewal."""

    lost: Collection[str]
    cancelled: Collection[str]
    """Leases that live, and whose job somebody wants cancelled."""
    trusted_until: float


class Ticked(msgspec.Struct, frozen=True):
    """The answer to a tick."""

    next_due: float | None
    """Seconds until something of the queue is due, or None if nothing is scheduled; 0 if this tick could not
    do all that there was to do, and another has to follow at once."""
    expired: Sequence[Lease]
    """Jobs whose worker disappeared, leased to the caller: to be judged and settled, never run."""
    periodic: Sequence[tuple[str, int]]
    """Periodic tasks that are due, and since when."""
    now: int
    """The clock of the store that answered: in a Cluster, those of other queues may differ."""
    is_forgetful: bool = False
    """The store was emptied, and must be told again what is due when."""


class Swept(msgspec.Struct, frozen=True):
    """What a sweep saw of one queue."""

    is_something_to_run: bool
    """An exchange may bring something, or has to be made for another reason."""
    next_due: float | None
    """Seconds until the next tick has something to do, 0 if it has now; None if nothing is scheduled."""


class Firing(msgspec.Struct, frozen=True):
    """A tick of a periodic task, to be fired."""

    task: str
    due: int
    next_due: int
    job: Envelope | None = None
    """None if the tick is skipped, and only its due is to be moved."""


class Fired(enum.Enum):
    """What became of a tick that was to be fired."""

    MOVED = enum.auto()
    """The task's due was moved, and the job of the tick stored, if there is one."""
    REFUSED = enum.auto()
    """The due was moved, but the store is full and took no job."""
    TAKEN = enum.auto()
    """Somebody else had moved the due, so nothing was done."""


class Cancelled(msgspec.Struct, frozen=True):
    """Where a cancelled job was: WAITING or QUEUED, and now it is gone; RUNNING, and its worker will
    hear of it with the next renewal; or NOT_SET, and no such job lives."""

    status: JobStatus
    job: Envelope | None = None


class DeadJob(msgspec.Struct, frozen=True, gc=False):
    """A job that failed for ever."""

    job: Envelope
    died_at: int
    detail: bytes
    """JSON of reason, error type, message and traceback."""


class Counts(msgspec.Struct, frozen=True):
    """How many jobs of a queue are where."""

    ready: int
    """May start now: queued, in a lane, or waiting and due."""
    running: int
    waiting: int
    """Not due yet."""
    dead: int


class Broker(ABC):
    """Where jobs are stored. A broker belongs to one engine, and survives many event loops."""

    lease: float = DEFAULT_LEASE
    """Seconds that a worker may be silent before its jobs are given to others."""

    enqueue_timeout: float = DEFAULT_ENQUEUE_TIMEOUT
    """Seconds that somebody who schedules tries to reach the store."""

    _owner: Callable[[], object | None] | None = None

    def belong_to(self, owner: object) -> None:
        """Be the broker of one engine; InvalidValue if it is another's already."""
        if self._owner is not None and self._owner() not in (None, owner):
            raise InvalidValue(
                f"this {type(self).__name__} belongs to another engine: give each engine a broker of its own"
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

    @abstractmethod
    async def aclose(self) -> None:
        """Disconnect; what is stored stays stored. The broker can be opened again."""

    @abstractmethod
    def now(self) -> int:
        """The broker's clock."""

    @abstractmethod
    async def register(self, queue: str, limits: Mapping[str, int], periodic: Mapping[str, int]) -> None:
        """Make tasks known: how many of each may run at once (0: any number), and when periodic ones
        are due next. An earlier due that is stored already is kept."""

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
    async def exchange(self, queue: str, settled: Sequence[Settlement], want: int) -> Exchanged:
        """Give back and take in one trip: settle leased jobs, and lease up to ``want`` others.

        First in, first out, but for tasks that run as often as they may. With ``want=0`` it still
        wakes another worker if something is left to run. If it raises BrokerUnavailable, the caller
        repeats it with the same arguments.
        """

    @abstractmethod
    async def renew(self, queue: str, leases: Collection[str]) -> Renewed:
        """Keep these leases for another while."""

    @abstractmethod
    async def tick(self, queue: str) -> Ticked:
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
    async def sweep(self, queues: Sequence[str]) -> list[Swept]:
        """Look at the queues of one span in one call: what is there to run, and when is the next tick due?"""

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
    async def cancel(self, queue: str, job_id: str) -> Cancelled:
        """Cancel a job wherever it is."""

    @abstractmethod
    async def dead(self, queue: str, *, offset: int = 0, limit: int = 100) -> list[DeadJob]:
        """Dead jobs, the latest first."""

    @abstractmethod
    async def requeue(self, queue: str, job_id: str) -> bool:
        """Queue a dead job again, as if it never had run; False if there is none."""

    @abstractmethod
    async def discard(self, queue: str, job_id: str) -> bool:
        """Forget a dead job; False if there is none."""

    @abstractmethod
    async def counts(self, queue: str) -> Counts:
        """How many jobs are where."""

    @abstractmethod
    async def flush(self, queue: str) -> None:
        """Forget everything about a queue."""
