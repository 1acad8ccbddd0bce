"""The events of one queue, in memory."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence

from ...outcome import Action
from ..events import (
    EVENTS_AT_ONCE,
    START,
    EventLine,
    EventPage,
    EventPlace,
    EventRow,
    LatestRows,
    LookEvents,
    LookLatestEvents,
    Position,
    StoredEvent,
    events_of,
)
from ..progress import STEPS_KEPT, Step
from ..records import Envelope, Lease, Settlement

_Row = tuple[Position, str, Sequence[EventLine]]
"""The place of a row, the name of the worker, and the events."""


class EventLog:
    """The latest rows of events. A row has the events of one call, or some of them. ``most`` is how many rows
    are kept; 0: none, and nothing is noted."""

    def __init__(self, most: int) -> None:
        self.most: int = most
        self.lines: list[EventLine] = []
        """Events of the call that goes on."""
        self._rows: deque[_Row] = deque(maxlen=most)
        self._end: Position = START
        self._has_dropped = False
        self._steps: deque[EventRow] = deque(maxlen=STEPS_KEPT)
        self._end_of_steps: Position = START

    def note_scheduled(self, jobs: Iterable[Envelope], now: int) -> None:
        """Note that jobs were stored."""
        for (task, due), alike in itertools.groupby(jobs, lambda job: (job.task, job.at)):
            ids = [job.id for job in alike]
            self._add(EventLine("scheduled", task, ids, due=due if due > now else 0))

    def note_started(self, leases: Iterable[Lease]) -> None:
        """Note that a worker took jobs."""
        for task, alike in itertools.groupby(leases, lambda lease: lease.job.task):
            self._add(EventLine("started", task, [lease.job.id for lease in alike]))

    def note_settled(self, settlement: Settlement, now: int, *, is_unwanted: bool) -> None:
        """Note that a run has ended, or that the worker of a job was lost."""
        job, action = settlement.lease.job, settlement.action
        kind = "cancelled" if is_unwanted else action.value
        durations = [settlement.duration] if settlement.duration >= 0 else []
        is_put_off = action is Action.RETRY and settlement.pause is None and not is_unwanted
        due = now + int(settlement.delay * 1000) if is_put_off else 0
        self._add(EventLine(kind, job.task, [job.id], durations, settlement.error, due))

    def note_cancelled(self, job: Envelope) -> None:
        """Note that a job was cancelled before it ran."""
        self._add(EventLine("cancelled", job.task, [job.id]))

    def write(self, now: int, worker: str) -> None:
        """Write the noted events, at the end of their call."""
        lines: list[EventLine] = []
        count = 0
        for line in self.lines:
            if lines and count + len(line.ids) > EVENTS_AT_ONCE:
                self._append(lines, now, worker)
                lines, count = [], 0
            lines.append(line)
            count += len(line.ids)
        self._append(lines, now, worker)
        self.lines = []

    def note_steps(self, jobs: Iterable[tuple[Envelope, Step]], now: int, worker: str) -> None:
        """Tell readers that wait how far jobs have come."""
        self._end_of_steps = _next(self._end_of_steps, now)
        events = [StoredEvent("job_progress", job.id, job.task, now, worker, step.data) for job, step in jobs]
        self._steps.append(EventRow(self._end_of_steps, events, is_step=True))

    def page(self, question: LookEvents) -> EventPage:
        """Return rows behind a place."""
        after, first = question.after, self._rows[0][0] if self._rows else None
        if after is None:
            after = START
        elif first is not None and after < first and self._has_dropped:  # guard: dropped rows in memory
            return EventPage([], self._end, is_lost=True)
        elif (before := self._last_before(after)) != after:
            return EventPage([], before, is_lost=True, has_gone_back=True)
        wanted = (row for row in self._rows if row[0] > after or (question.with_first and row[0] == after))
        rows = [_decoded(row) for row in itertools.islice(wanted, question.limit)]
        return EventPage(rows, self._end, self._steps_after(question.steps_after), self._end_of_steps)

    def latest(self, question: LookLatestEvents) -> LatestRows:
        """Return rows up to a place, the latest first."""
        up_to = question.up_to
        wanted = (row for row in reversed(self._rows) if up_to is None or row[0] <= up_to)
        rows = [_decoded(row) for row in itertools.islice(wanted, question.limit)]
        return LatestRows(rows, self._rows[0][0] if self._has_dropped else None)

    def has_more(self, place: EventPlace) -> bool:
        """Whether there are rows or steps behind a place."""
        return place != (self._end, self._end_of_steps)

    def _last_before(self, place: Position) -> Position:
        """This place if a reader may have come to it; otherwise the place of the last row before it."""
        if place in (START, self._end):
            return place
        return max((position for position, _, _ in self._rows if position <= place), default=START)

    def _steps_after(self, after: Position | None) -> Sequence[EventRow]:
        return () if after is None else [row for row in self._steps if row.position > after]

    def _add(self, line: EventLine) -> None:
        for first in range(0, len(line.ids), EVENTS_AT_ONCE):
            part = slice(first, first + EVENTS_AT_ONCE)
            self.lines.append(line._replace(ids=line.ids[part], durations=line.durations[part]))

    def _append(self, lines: Sequence[EventLine], now: int, worker: str) -> None:
        self._end = _next(self._end, now)
        self._has_dropped = self._has_dropped or len(self._rows) == self.most
        self._rows.append((self._end, worker, lines))


def _decoded(row: _Row) -> EventRow:
    position, worker, lines = row
    return EventRow(position, [event for line in lines for event in events_of(line, position[0], worker)])


def _next(last: Position, now: int) -> Position:
    """Return the place of a new row. The clock may be set back."""
    return (now, 0) if now > last[0] else (last[0], last[1] + 1)
