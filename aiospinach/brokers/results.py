"""The stored ends of jobs that keep results, and the question that reads them."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from .questions import Question
from .records import DeadRecord, Envelope


class EndState(enum.Enum):
    """How a job with a stored end has ended. A failed job is among the dead jobs instead."""

    DONE = "done"
    CANCELLED = "cancelled"


class EndRecord(msgspec.Struct, frozen=True, gc=False):
    """The stored end of a job. It is kept for ``Envelope.result_ttl``."""

    state: EndState
    ended_at: int
    """In milliseconds since 1970."""
    created: int
    """When the job was scheduled, in ms since 1970. Another job of the same id has another moment."""
    task: str
    body: bytes = b""
    """The result as JSON, if the job is done."""


class FoundJob(msgspec.Struct, frozen=True):
    """What a queue knows of a job id."""

    live: Envelope | None = None
    """The live job of this id, without its body."""
    record: EndRecord | None = None
    """The stored end of a job of this id."""
    dead: DeadRecord | None = None
    """The dead job of this id, without its body."""

    def of(self, created: int | None) -> Envelope | EndRecord | DeadRecord | None:
        """The state of the job that was scheduled at ``created``, or its end; None if it is not known.

        If ``created`` is None, the live job counts, or else the later end. So the end of an earlier job is
        never taken for that of a later one.
        """
        if created is None:
            ends = [end for end in (self.record, self.dead) if end is not None]
            return self.live or max(ends, key=_ended_at, default=None)
        if self.record is not None and self.record.created == created:
            return self.record
        if self.live is not None and created_of(self.live) == created:
            return self.live
        if self.dead is not None and created_of(self.dead.job) in (created, 0):  # 0: it cannot be read
            return self.dead
        return None


class LookResults(Question[Sequence[FoundJob]], frozen=True):
    """What is known of these job ids?

    The answer may end early, after one at least, if many of them or large results are asked for.
    """

    job_ids: Sequence[str]


def created_of(job: Envelope) -> int:
    """When the job was scheduled, in milliseconds since 1970."""
    return job.created or job.at


def channel_of(job_id: str) -> str:
    """The channel of a queue on which the end of a job is reported, if the job keeps its result."""
    return f"done:{job_id}"


def encode_end(created: int, task: str, body: bytes) -> bytes:
    """Return the part of a record that does not depend on the moment of the end."""
    return f"{created} {task}\n".encode() + body


def encode_record(state: EndState, ended_at: int, end: bytes) -> bytes:
    """Return a record as it is stored and sent: state, moment, moment of creation, task, newline, result."""
    return f"{state.value} {ended_at} ".encode() + end


def decode_record(data: bytes) -> EndRecord | None:
    """Return the record in a stored value or a message; None if there is none, or it is malformed."""
    header, newline, body = data.partition(b"\n")
    try:
        state, ended_at, created, task = header.decode().split(" ")
        return EndRecord(EndState(state), int(ended_at), int(created), task, body) if newline else None
    except ValueError:
        return None


def _ended_at(end: EndRecord | DeadRecord) -> int:
    return end.ended_at if isinstance(end, EndRecord) else end.died_at
