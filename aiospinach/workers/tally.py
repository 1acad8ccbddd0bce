"""The tally of one queue: how many jobs ended in each minute, and how long their bodies took."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Protocol

from ..brokers.records import Settlement
from ..brokers.reports import HOUR, MINUTE, TaskRow, WorkerRow
from ..outcome import Action

DONE, FAILED, RETRIED, SECONDS = range(4)
WELL = Action.DONE
NO_ROW: list[float] = []
TASKS_AT_MOST = 500
"""Tasks in one row. The jobs of other tasks are counted together, under an empty name."""
MINUTES_PER_HOUR = HOUR // MINUTE


class Timed(Protocol):
    """A run that has ended."""

    duration: float
    """Seconds that the body took."""


class Tally:
    """Counts the settled jobs of a queue, by minute and task. A row has the numbers of the whole minute, so
    sending it twice changes nothing."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        """The clock of the broker, in milliseconds since 1970."""
        self._minute = 0
        self._row: dict[str, list[float]] = {}
        self._ended: dict[int, dict[str, list[float]]] = {}
        """Rows of earlier minutes that are not sent."""
        self._count = 0
        self._sent_count = 0
        """How many jobs of the minute were counted, and how many of them were sent."""

    @property
    def is_unsent(self) -> bool:
        """Some numbers are not stored yet."""
        return self._count > self._sent_count or bool(self._ended)

    def turn(self) -> None:
        """Begin a new row if the minute has ended."""
        minute = self._clock() // MINUTE
        if minute == self._minute:
            return
        if self._count > self._sent_count:
            self._ended[self._minute] = self._row
        self._minute, self._row, self._count, self._sent_count = minute, {}, 0, 0

    def add(self, settled: Iterable[tuple[Settlement, Timed | None]], refused: Container[str]) -> None:
        """Count the jobs that the broker has settled. Jobs that never began have no duration, and do not
        count; nor do those whose lease is in ``refused``."""
        self.turn()
        row, row_task = NO_ROW, None
        for settlement, timed in settled:
            lease = settlement.lease
            column = DONE if settlement.action is WELL else _column_of(settlement.action)
            if timed is None or column is None or (refused and lease.id in refused):
                continue
            task = lease.job.task
            if task != row_task:
                row, row_task = self._row.get(task) or self._new_row(task), task
            row[column] += 1
            row[SECONDS] += timed.duration
            self._count += 1

    def _new_row(self, task: str) -> list[float]:
        key = task if len(self._row) < TASKS_AT_MOST else ""
        return self._row.setdefault(key, [0, 0, 0, 0.0])

    def unsent(self) -> Sequence[WorkerRow]:
        """Return the rows that are not stored yet, those of the last two hours at most."""
        self.turn()
        rows = dict(self._ended)
        if self._count > self._sent_count:
            rows[self._minute] = self._row
        hour = self._minute // MINUTES_PER_HOUR
        return [
            WorkerRow(minute, {task: _task_row(row) for task, row in by_task.items()})
            for minute, by_task in rows.items()
            if minute // MINUTES_PER_HOUR >= hour - 1
        ]

    def on_sent(self, rows: Sequence[WorkerRow]) -> None:
        """Note that the broker has stored these rows. A row that has grown since then is sent again."""
        for row in rows:
            count = sum(task.count for task in row.by_task.values())
            if row.minute == self._minute:
                self._sent_count = count
            elif count == _count(self._ended.get(row.minute, {})):
                self._ended.pop(row.minute, None)


def _column_of(action: Action) -> int | None:
    if action is Action.FAIL:
        return FAILED
    return RETRIED if action is Action.RETRY else None


def _count(by_task: dict[str, list[float]]) -> int:
    return int(sum(sum(row[:SECONDS]) for row in by_task.values()))


def _task_row(row: list[float]) -> TaskRow:
    return TaskRow(int(row[DONE]), int(row[FAILED]), int(row[RETRIED]), round(row[SECONDS], 6))
