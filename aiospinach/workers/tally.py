"""The tally of one queue: how many jobs ended in each minute, and how long their bodies took."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from ..brokers.records import Settlement
from ..brokers.reports import HOUR, MINUTE, TaskRow, WorkerRow
from ..outcome import SUCCESS, Action

DONE, FAILED, RETRIED, SECONDS = range(4)
WELL = SUCCESS.action
TASKS_AT_MOST = 500
"""Tasks in one row. The jobs of other tasks are counted together, under an empty name."""
MINUTES_PER_HOUR = HOUR // MINUTE


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

    def add(self, settled: Iterable[tuple[Settlement, object]], refused: Container[str]) -> None:
        """Count the jobs that the broker has settled, but for those whose lease is in ``refused``.

        Jobs that were put back for another reason than an error do not count.
        """
        self.turn()
        task, action, count, seconds = "", WELL, 0, 0.0
        for settlement, _ in settled:
            lease = settlement.lease
            if refused and lease.id in refused:
                continue
            if lease.job.task != task or settlement.action is not action:
                self._count_alike(task, action, count, seconds)
                task, action, count, seconds = lease.job.task, settlement.action, 0, 0.0
            count += 1
            if settlement.duration > 0:
                seconds += settlement.duration
        self._count_alike(task, action, count, seconds)

    def _count_alike(self, task: str, action: Action, count: int, seconds: float) -> None:
        """Count jobs of one task that have ended in the same way."""
        column = _column_of(action)
        if count == 0 or column is None:
            return
        key = task if task in self._row or len(self._row) < TASKS_AT_MOST else ""
        row = self._row.setdefault(key, [0, 0, 0, 0.0])
        row[column] += count
        row[SECONDS] += seconds
        self._count += count

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
    if action is WELL:
        return DONE
    if action is Action.FAIL:
        return FAILED
    return RETRIED if action is Action.RETRY else None


def _count(by_task: dict[str, list[float]]) -> int:
    return int(sum(sum(row[:SECONDS]) for row in by_task.values()))


def _task_row(row: list[float]) -> TaskRow:
    return TaskRow(int(row[DONE]), int(row[FAILED]), int(row[RETRIED]), round(row[SECONDS], 6))
