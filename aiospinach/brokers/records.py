"""The arguments and results of a broker's methods."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from ..arguments.meta import meta_of, without_meta
from ..job import Job, JobStatus
from ..outcome import Action
from ..timing import from_milliseconds


class Envelope(msgspec.Struct, gc=False):
    """A job as it is stored: a header, and a body that no broker reads.

    The garbage collector leaves envelopes out: they are in no cycle, and there may be millions.
    """

    id: str
    task: str
    body: bytes
    at: int = 0
    """When the job is due, in milliseconds since 1970; 0 is at once."""
    max_retries: int = 0
    retries: int = 0
    crashes: int = 0
    parked_at: int = 0
    """Since when the job has waited for a worker that knows its task, in milliseconds since 1970, or 0."""
    at_once: bool = False
    """The job is queued as soon as it is stored, even if ``at`` is later by the clock of the store. Only
    ``enqueue`` and successors use it."""
    named: bool = False
    """The user gave the id, so the broker remembers it after the job has ended. Only ``enqueue`` uses it."""
    created: int = 0
    """When the job was scheduled, in milliseconds since 1970; 0: at the moment ``at``."""
    has_meta: bool = False
    """The body has meta beside the arguments."""
    result_ttl: int = 0
    """For how many milliseconds the result of the job is kept; 0: not at all."""
    error: str = ""
    """The class of the last error, with its module, if the job was tried again. No caller of ``enqueue`` sets
    it."""

    @property
    def arguments(self) -> bytes:
        """The body without its meta."""
        return without_meta(self.body) if self.has_meta else self.body

    def due_at(self, at: int, **changes: Any) -> Envelope:
        """Return the job with another moment, and other changes. The moment of its creation stays."""
        return msgspec.structs.replace(self, at=at, created=self.created or self.at, **changes)

    def as_job(
        self,
        namespace: str,
        queue: str,
        status: JobStatus,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Job:
        """Return the snapshot for users; the caller has read the arguments from the body."""
        at = from_milliseconds(self.at)
        job = Job(
            id=self.id,
            task_name=self.task,
            queue=queue,
            namespace=namespace,
            at=at,
            status=status,
            created_at=from_milliseconds(self.created) if self.created else at,
            retries=self.retries,
            max_retries=self.max_retries,
            args=args,
            kwargs=kwargs or {},
            crashes=self.crashes,
            parked_at=from_milliseconds(self.parked_at) if self.parked_at else None,
        )
        if self.error:
            job = msgspec.structs.replace(job, error=self.error)
        if not self.has_meta:
            return job
        meta = meta_of(self.body)
        return msgspec.structs.replace(job, headers=meta.headers, key=meta.key)


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The right to run a job and to settle it. It ends unless it is renewed."""

    id: str
    job: Envelope
    trusted_until: float
    """The moment of ``time.monotonic()`` after which the worker must not trust the lease, unless renewed."""


NO_ARGUMENTS = b"[[],{}]"
"""The body of a call without arguments."""


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a leased job."""

    lease: Lease
    action: Action
    delay: float = 0.0
    """Seconds until the job is due again, for RETRY."""
    detail: bytes = b""
    """The ``detail`` of the DeadRecord, for FAIL; the class of the error, for RETRY."""
    is_bare: bool = False
    """The dead job is kept without its arguments, for FAIL."""
    successor: Envelope | None = None
    """A job of the same id, stored in its place if the action ends the job and nobody cancelled it."""
    result: bytes = b""
    """The result as JSON, for DONE, if the job keeps it."""
    pause: str | None = None
    """By whom and why the task is paused for ``delay`` seconds, in two words or more. A retry is then the
    first job of the task when the pause ends. A pause that ends later, or has no end, stays."""
    duration: float = 0.0
    """Seconds that the body took, for events; negative if no run of the job has ended."""
    error: str = ""
    """The class of the error of the run, for events."""

    @property
    def drops_arguments(self) -> bool:
        """The dead job is kept without its arguments, and had some."""
        return self.is_bare and self.action is Action.FAIL and self.lease.job.arguments != NO_ARGUMENTS


class Parking(msgspec.Struct, frozen=True):
    """Which jobs an exchange parks, and which parked jobs it asks for."""

    unknown: Collection[str] = ()
    """Tasks that the worker does not know: their jobs are parked, and not leased."""
    wanted: Collection[str] = ()
    """Tasks whose parked jobs are leased, before all other jobs."""


NO_PARKING = Parking()


class ExchangeResult(msgspec.Struct, frozen=True):
    """The result of an exchange."""

    leases: Sequence[Lease]
    fenced: Collection[str]
    """Ids of settled leases that were gone: their settlements changed nothing."""
    cancelled: Collection[str] = ()
    """Ids of leases whose retry or release ended the job, because it had been cancelled."""
    is_something_left: bool = False
    """The caller may lease more at once: an exchange looks at a limited number of jobs, and may bring fewer
    than the caller wants."""
    has_earlier_due: bool = False
    """The wake-up before this exchange reported an earlier due than the last tick."""


class RenewResult(msgspec.Struct, frozen=True):
    """The result of a renewal."""

    lost: Collection[str]
    """Ids of leases that are gone."""
    cancelled: Collection[str]
    """Ids of live leases whose job is to be cancelled."""
    trusted_until: float
    """As ``Lease.trusted_until``, for all renewed leases."""


class TickResult(msgspec.Struct, frozen=True):
    """The result of a tick."""

    next_due: float | None
    """Seconds until something of the queue is due; None if nothing is scheduled; 0 if the tick left work, and
    another has to follow at once."""
    expired: Sequence[Lease]
    """Lost jobs, leased to the caller, which judges and settles them, and never runs them."""
    periodic: Sequence[tuple[str, int]]
    """Periodic tasks that are due, and since when, in milliseconds since 1970."""
    now: int
    """The clock of the server that has the queue; on a Cluster, other servers may differ."""
    is_forgetful: bool = False
    """The store has lost when periodic tasks are due: they must be registered again."""


class ParkedTask(msgspec.Struct, frozen=True):
    """The parked jobs of one task."""

    since: int
    """When the first of them was parked, in milliseconds since 1970."""
    count: int
    owner: str = ""
    """The name of the worker that registered the task last, within two weeks; else empty."""


class SweepResult(msgspec.Struct, frozen=True):
    """The result of a sweep for one queue."""

    is_something_to_run: bool
    """An exchange may bring jobs, or has to be made for another reason."""
    next_due: float | None
    """Seconds until the next tick has something to do; None if nothing is scheduled."""
    parked: Mapping[str, ParkedTask] = {}
    """Some of the tasks that have parked jobs."""


class Firing(msgspec.Struct, frozen=True):
    """A tick of a periodic task."""

    task: str
    due: int
    next_due: int
    job: Envelope | None = None
    """None if the tick is skipped: then only the due is moved."""
    may_overlap: bool = False
    """The job is stored even if the job of the tick before lives."""


class Fired(enum.Enum):
    """The outcome of a tick."""

    MOVED = enum.auto()
    """The due was moved, and the job stored, if the tick has one."""
    REFUSED = enum.auto()
    """The due was moved, but the store is full and refused the job."""
    OVERLAPPING = enum.auto()
    """The due was moved, and no job was stored: the job of the tick before lives."""
    TAKEN = enum.auto()
    """Another caller had moved the due: nothing was done."""
    PAUSED = enum.auto()
    """The due was moved, and no job was stored: the task or its queue is paused."""


class StoreInfo(msgspec.Struct, frozen=True):
    """What a store says of itself."""

    server: str
    """Its kind: redis, valkey or memory."""
    version: str
    clock: int
    """Its clock when it answered, in milliseconds since 1970."""


class DeadRecord(msgspec.Struct, frozen=True, gc=False):
    """A job that failed for ever."""

    job: Envelope
    """Its task is empty if the job cannot be read."""
    died_at: int
    detail: bytes
    """JSON of reason, error type, message and traceback."""
    is_bare: bool = False
    """The job was kept without its arguments. RedisBroker has this in the envelope, and leaves it False."""
