"""What goes into a broker and comes out of it."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from ..job import Job, JobStatus
from ..outcome import Action
from ..timing import from_milliseconds

T = TypeVar("T")


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


NO_ARGUMENTS = b"[[],{}]"
"""The body of a call without any."""


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What became of a leased job."""

    lease: Lease
    action: Action
    delay: float = 0.0
    """Seconds until it is due again, for RETRY."""
    detail: bytes = b""
    """A DeadRecord's ``detail``, for FAIL."""
    is_bare: bool = False
    """The dead job is kept without its arguments, for FAIL."""
    successor: Envelope | None = None
    """A job of the same id, which is stored in its place if the action ends it, unless it was cancelled."""

    @property
    def buries_bare(self) -> bool:
        """Arguments are to be left out, and there are some."""
        return self.is_bare and self.action is Action.FAIL and self.lease.job.body != NO_ARGUMENTS


class Parking(msgspec.Struct, frozen=True):
    """What a worker cannot run, and what it can that others could not."""

    unknown: Collection[str] = ()
    """Tasks that it does not know: their jobs are parked, and not leased."""
    wanted: Collection[str] = ()
    """Tasks of which it wants parked jobs, and asks for them before all others."""


NO_PARKING = Parking()


class ExchangeResult(msgspec.Struct, frozen=True):
    """The answer to an exchange."""

    leases: Sequence[Lease]
    fenced: Collection[str]
    """The leases among the settled that were gone: what they said changed nothing."""
    cancelled: Collection[str] = ()
    """The leases that would have put their job back, which somebody had cancelled: it was ended instead."""
    is_something_left: bool = False
    """The caller could lease more at once: an exchange looks at so many jobs, and may bring fewer than it was
    asked for."""
    has_earlier_due: bool = False
    """The wake-up before this exchange said that something is due earlier than the last tick told."""


class RenewResult(msgspec.Struct, frozen=True):
    """The answer to a renewal."""

    lost: Collection[str]
    cancelled: Collection[str]
    """Leases that live, and whose job somebody wants cancelled."""
    trusted_until: float


class TickResult(msgspec.Struct, frozen=True):
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


class ParkedTask(msgspec.Struct, frozen=True):
    """The parked jobs of one task."""

    since: int
    """When the first of them was parked."""
    count: int
    owner: str = ""
    """The worker that had the task last, if one had it within two weeks."""


class SweepResult(msgspec.Struct, frozen=True):
    """What a sweep saw of one queue."""

    is_something_to_run: bool
    """An exchange may bring something, or has to be made for another reason."""
    next_due: float | None
    """Seconds until the next tick has something to do, 0 if it has now; None if nothing is scheduled."""
    parked: Mapping[str, ParkedTask] = {}
    """Some tasks that have parked jobs, and these jobs."""


class Firing(msgspec.Struct, frozen=True):
    """A tick of a periodic task, to be fired."""

    task: str
    due: int
    next_due: int
    job: Envelope | None = None
    """None if the tick is skipped, and only its due is to be moved."""
    may_overlap: bool = False
    """The job is stored although that of the tick before still waits or runs."""


class Fired(enum.Enum):
    """What became of a tick that was to be fired."""

    MOVED = enum.auto()
    """The task's due was moved, and the job of the tick stored, if there is one."""
    REFUSED = enum.auto()
    """The due was moved, but the store is full and took no job."""
    OVERLAPPING = enum.auto()
    """The due was moved, and no job was stored: that of the tick before still waits or runs."""
    TAKEN = enum.auto()
    """Somebody else had moved the due, so nothing was done."""


class DeadRecord(msgspec.Struct, frozen=True, gc=False):
    """A job that failed for ever."""

    job: Envelope
    """Its task is empty if other hands have made it unreadable."""
    died_at: int
    detail: bytes
    """JSON of reason, error type, message and traceback."""
    is_bare: bool = False
    """It was kept without its arguments. A broker that writes that elsewhere does not tell."""


class Counts(msgspec.Struct, frozen=True):
    """How many jobs of a queue are where."""

    ready: int
    """May start now: queued, in a lane, or waiting and due."""
    running: int
    waiting: int
    """Not due yet."""
    dead: int
    parked: int = 0
    """Wait for a worker that knows their task, or for the release of the program that wrote them."""


class WorkerSeen(msgspec.Struct, frozen=True):
    """A worker that looked at the queue within the last three leases."""

    name: str
    level: int
    """What it can do: a worker of an older release has a lower one."""
    at: int


class Question(msgspec.Struct, Generic[T], frozen=True):
    """Something to look for in a queue; the answer is of type T."""


class LookCounts(Question[Counts], frozen=True):
    """How many jobs are where?"""


class LookDead(Question[Sequence[DeadRecord]], frozen=True):
    """Which jobs are dead? The latest come first."""

    offset: int = 0
    limit: int = 100


class LookJob(Question["Envelope | None"], frozen=True):
    """Which job of this id lives? None if none does, or it cannot be read."""

    job_id: str


class LookWorkers(Question[Sequence[WorkerSeen]], frozen=True):
    """Which workers are there?"""


class Cancel(msgspec.Struct, frozen=True):
    """Cancel a job wherever it is: it never runs, or its worker hears of it with the next renewal."""

    job_id: str


class Requeue(msgspec.Struct, frozen=True):
    """Queue a dead job again, as if it never had run."""

    job_id: str


class Discard(msgspec.Struct, frozen=True):
    """Forget a dead job."""

    job_id: str


Act = Cancel | Requeue | Discard


class SteerResult(msgspec.Struct, frozen=True):
    """What came of an act."""

    status: JobStatus
    """Where the job was; NOT_SET if it was nowhere where the act could find it, and nothing was done."""
    job: Envelope | None = None
    """What was cancelled, if it can be told."""
    is_bare: bool = False
    """It is dead, and cannot run again: it was kept without its arguments."""
