"""Events: what has become of jobs, in the order in which the store has made it so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ..timing import from_milliseconds
from .questions import Question

Position = tuple[int, int]
"""The place of a row among those of its queue: a moment in milliseconds since 1970, and a number."""
START: Position = (0, 0)
"""The place before all rows."""
EVENTS_AT_ONCE = 100
"""How many jobs a row has at most."""
NO_DATA: Mapping[str, Any] = {}


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a job."""

    name: str
    """The name of the signal of the same transition."""
    job_id: str
    task: str
    at: int
    """In milliseconds since 1970."""
    worker: str
    """The name of the worker; empty if no worker did it."""
    data: Mapping[str, Any]


class EventRow(msgspec.Struct, frozen=True):
    """The events of one call, or some of them."""

    position: Position
    events: Sequence[StoredEvent]
    is_step: bool = False
    """It has ``job_progress`` alone, and is no place to go on from."""


class EventPlace(NamedTuple):
    """How far a queue was read."""

    events: Position = START
    steps: Position = START
    """The same for ``job_progress``, of which each queue keeps few rows."""


class EventPage(msgspec.Struct, frozen=True):
    """Some of the rows that a queue keeps, the oldest first."""

    rows: Sequence[EventRow]
    end: Position
    """The place of the latest row that the queue has ever had; START if it has lost them. If the store has
    gone back, it is the place to go on from."""
    steps: Sequence[EventRow] = ()
    """Rows of ``job_progress``."""
    end_of_steps: Position = START
    """The place of the latest one."""
    is_lost: bool = False
    """Rows behind the asked place may be lost, and ``rows`` is empty."""
    has_gone_back: bool = False
    """They are lost since the store has gone back to an earlier state, which does not have the asked row."""


class LookEvents(Question[EventPage], frozen=True):
    """Which events has the queue behind this place? No broker that writes none is asked."""

    after: Position | None
    """None: from the oldest row on."""
    limit: int
    """How many rows to return, at most."""
    with_first: bool = False
    """Return the row at this place as well: it was read in part."""
    steps_after: Position | None = None
    """Return the rows of ``job_progress`` behind this place; None: none."""


class LatestRows(msgspec.Struct, frozen=True):
    """Some of the rows that a queue keeps, the latest first."""

    rows: Sequence[EventRow]
    dropped_before: Position | None = None
    """The place of the oldest row that is kept, if there were others before it."""


class LookLatestEvents(Question[LatestRows], frozen=True):
    """Which events has the queue up to this place? No broker that writes none is asked."""

    up_to: Position | None
    """The place of the latest row that is wanted; None: the latest one that there is."""
    limit: int
    """How many rows to return, at most."""


class EventLine(NamedTuple):
    """Events that are alike: what one call has done with jobs of one task."""

    kind: str
    """scheduled, started, done, retry, fail, cancelled or release."""
    task: str
    ids: Sequence[str]
    durations: Sequence[float] = ()
    """The seconds of the bodies, in the order of the ids; empty if no body was run."""
    error: str = ""
    due: int = 0
    """When the jobs are due, in milliseconds since 1970; 0: at once."""


_NAMES = {
    "scheduled": "job_scheduled",
    "started": "job_started",
    "retry": "job_schedule_retry",
    "fail": "job_failed",
    "cancelled": "job_cancelled",
}
_ENDS_OF_RUNS = {"done", "retry", "fail", "cancelled", "release"}


def events_of(line: EventLine, at: int, worker: str) -> Iterator[StoredEvent]:
    """The events of a line. A run that has ended has ``job_finished`` as its last event. Kinds that this
    release does not know are left out."""
    name = _NAMES.get(line.kind)
    data = _data_of(line)
    for number, job_id in enumerate(line.ids):
        if name is not None:
            yield StoredEvent(name, job_id, line.task, at, worker, data)
        if line.kind in _ENDS_OF_RUNS and number < len(line.durations):
            finished: dict[str, Any] = {"duration": line.durations[number]}
            if line.error:
                finished |= {"error": line.error}
            yield StoredEvent("job_finished", job_id, line.task, at, worker, finished)


def _data_of(line: EventLine) -> Mapping[str, Any]:
    data: dict[str, Any] = {}
    if line.error and line.kind != "cancelled":
        data["error"] = line.error
    if line.due:
        data["due"] = from_milliseconds(line.due)
    return data or NO_DATA
