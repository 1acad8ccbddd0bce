"""Rows of events as they are stored; ``lua/events.lua`` describes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from ...outcome import Action
from ..events import EVENTS_AT_ONCE, EventLine, StoredEvent, events_of
from ..progress import decode_step
from ..records import Envelope, Settlement

MICROSECONDS = 1_000_000
NOBODY = "-"
"""The first line of a row that no worker has written."""


class Line(NamedTuple):
    """A line of a row, and how many jobs it has."""

    size: int
    text: str


def scheduled_lines(jobs: Sequence[Envelope]) -> list[Line]:
    """Return the events of jobs that are to be stored."""
    lines: list[Line] = []
    for (task, at, at_once), group in groupby(jobs, _due_of):
        alike = list(group)
        words = f"scheduled {task} {0 if at_once else at} "
        for first in range(0, len(alike), EVENTS_AT_ONCE):
            some = alike[first : first + EVENTS_AT_ONCE]
            lines.append(Line(len(some), words + " ".join([job.id for job in some])))
    return lines


def settled_lines(settled: Iterable[Settlement]) -> Iterator[Line]:
    """The events of settlements, in their order: the script counts the ids."""
    for (task, is_done), group in groupby(settled, _kind_of):
        alike = list(group)
        if not is_done:
            yield from map(_settled_line, alike)
            continue
        for first in range(0, len(alike), EVENTS_AT_ONCE):
            some = alike[first : first + EVENTS_AT_ONCE]
            durations = ",".join([str(int(settlement.duration * MICROSECONDS)) for settlement in some])
            ids = " ".join([settlement.lease.job.id for settlement in some])
            yield Line(len(some), f"done {task} {durations} {ids}")


def rows_of(worker: str, lines: Iterable[Line]) -> list[str]:
    """Return rows of these lines, with a hundred jobs each at most."""
    rows: list[str] = []
    count = EVENTS_AT_ONCE
    for line in lines:
        if count + line.size > EVENTS_AT_ONCE:
            rows.append(worker)
            count = 0
        rows[-1] += "\n" + line.text
        count += line.size
    return rows


def decode_row(at: int, row: bytes) -> list[StoredEvent]:
    """Return the events of a row that was stored at this moment. Words that this release cannot read are
    left out."""
    worker, *lines = row.decode(errors="replace").split("\n")
    worker = "" if worker == NOBODY else worker
    events: list[StoredEvent] = []
    for line in lines:
        try:
            if line.startswith("progress "):
                _, task, job_id, step = line.split(" ", 3)
                events.append(StoredEvent("job_progress", job_id, task, at, worker, decode_step(step).data))
                continue
            parsed = _parse(line.split(" "), at)
        except (ValueError, IndexError, OverflowError):
            continue  # another program wrote it
        events += events_of(parsed, at, worker)
    return events


_due_of = attrgetter("task", "at", "at_once")


def _kind_of(settlement: Settlement) -> tuple[str, bool]:
    is_done = settlement.action is Action.DONE and settlement.successor is None
    return settlement.lease.job.task, is_done


def _settled_line(settlement: Settlement) -> Line:
    job = settlement.lease.job
    duration = int(settlement.duration * MICROSECONDS) if settlement.duration >= 0 else NOBODY
    if settlement.action is Action.DONE:
        text = f"done {job.task} {duration} {job.id}"
    else:
        is_retry = settlement.action is Action.RETRY and settlement.pause is None
        delay = round(settlement.delay * 1000) if is_retry else NOBODY
        text = (
            f"{settlement.action.value} {job.task} {duration} {settlement.error or NOBODY} {delay} {job.id}"
        )
    if (successor := settlement.successor) is not None and not settlement.action.puts_back:
        text += f"\nsuccessor {job.task} {0 if successor.at_once else successor.at} {job.id}"
    return Line(1, text)


def _parse(words: Sequence[str], at: int) -> EventLine:
    kind, task = words[0], words[1]
    if kind in ("scheduled", "successor"):
        due = int(words[2])
        return EventLine("scheduled", task, words[3:], due=due if due > at else 0)
    if kind == "started":
        return EventLine(kind, task, words[2:])
    if kind == "done":
        return EventLine(kind, task, words[3:], [int(word) / MICROSECONDS for word in words[2].split(",")])
    duration, error, delay = words[2:5]
    return EventLine(
        kind,
        task,
        words[5:],
        [] if duration == NOBODY else [int(duration) / MICROSECONDS],
        "" if error == NOBODY else error,
        0 if delay == NOBODY else at + int(delay),
    )
