"""The question whether the stored parts of a queue fit together."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from .questions import Question


class FindingKind(enum.Enum):
    """What does not fit."""

    NO_JOB = "no job"
    """An id is in a line or has a lease, and no such job is stored."""
    NO_PLACE = "no place"
    """A job is in no line and has no lease. Workers find it within two leases."""
    TWO_PLACES = "two places"
    """A job is in more than one place, or twice in line: it may run twice."""
    SLOT_WITHOUT_LEASE = "slot without lease"
    """A slot of a task with max_concurrency is taken, and nothing runs in it."""
    LEASE_WITHOUT_SLOT = "lease without slot"
    """A job of a task with max_concurrency runs without a slot: too many may run."""
    CLOSED_GATE = "closed gate"
    """Jobs of a task are held back, although its limit has room."""
    UNRECORDED = "unrecorded"
    """Scripts skip a part of the queue, since it is not recorded that there is something in it."""
    DEAD_WITHOUT_RECORD = "dead without record"
    """A dead job has no record, or a record has no dead job."""
    STRAY_MARK = "stray mark"
    """A mark that a job was cancelled or moved is left, and the job has gone."""


class Found(msgspec.Struct, frozen=True):
    """Something that does not fit."""

    kind: FindingKind
    item: str
    """The id of a job, the name of a task, or of a part."""


class LookFindings(Question[Sequence[Found]], frozen=True):
    """What of the queue does not fit together?

    The broker looks twice at all ids, some a call, and then at what seemed wrong both times, at one moment: a
    queue in motion is not wrong. Of each kind it returns a thousand at most.
    """
