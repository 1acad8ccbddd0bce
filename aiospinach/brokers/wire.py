"""How a queue's keys are called and what lies in them: the stored format, which only a new prefix changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .base import DeadJob, Envelope

PREFIX = "ais1"
VERSION = 1

_FIXED = (
    "ready",
    "jobs",
    "leases",
    "slots",
    "future",
    "cancels",
    "dead",
    "deadjobs",
    "bad",
    "limits",
    "dedup:0",
    "dedup:1",
    "periodic",
    "wake",
)


class Keys:
    """The keys of one queue. They share a hash tag, and so a slot of a Cluster."""

    def __init__(self, namespace: str, queue: str, session: str) -> None:
        self.prefix: str = f"{PREFIX}:{{{namespace}:{queue}}}:"
        self.fixed: list[str] = [self.prefix + name for name in _FIXED] + [f"{self.prefix}sess:{session}"]
        self.wake: str = self.prefix + "wake"
        self.limits: str = self.prefix + "limits"

    def with_lanes(self, tasks: Iterable[str]) -> list[str]:
        """What a script gets that is told the limits of these tasks."""
        return [*self.fixed, *(f"{self.prefix}lane:{task}" for task in tasks)]


def queues_key(namespace: str) -> str:
    """The set of a namespace's queues, for people who look around; nothing relies on it."""
    return f"{PREFIX}:{{{namespace}}}:queues"


def write(job: Envelope) -> bytes:
    """The envelope: version retries max_retries crashes parked_at limit_key task at, newline, body.

    Scripts rewrite the header and keep what follows the fields that they know; none looks into the body.
    """
    header = (
        f"{VERSION} {job.retries} {job.max_retries} {job.crashes} {job.parked_at} - {job.task} {job.at}\n"
    )
    return header.encode() + job.body


def read(job_id: bytes, envelope: bytes) -> Envelope:
    """The job in an envelope."""
    header, _, body = envelope.partition(b"\n")
    _, retries, max_retries, crashes, parked_at, _, task, at = header.split(b" ")[:8]
    return Envelope(
        id=job_id.decode(),
        task=task.decode(),
        body=body,
        at=int(at),
        max_retries=int(max_retries),
        retries=int(retries),
        crashes=int(crashes),
        parked_at=int(parked_at),
    )


def read_dead(job_id: bytes, record: bytes) -> DeadJob:
    """The dead job in a record: time of death, length of the envelope, newline, envelope, detail."""
    header, _, rest = record.partition(b"\n")
    died_at, length = header.split(b" ")
    return DeadJob(read(job_id, rest[: int(length)]), int(died_at), rest[int(length) :])


def pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """``a b a b`` as pairs."""
    return list(zip(flat[::2], flat[1::2], strict=True))
