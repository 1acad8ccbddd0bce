"""The workers of one queue, in memory, and the rows of their minutes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..questions import WorkerSeen
from ..reports import HOUR, MINUTE, ROWS_FOR, QueueReport, WorkerReport, WorkerRow


class LiveWorkers:
    """What workers have reported to one queue."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[WorkerSeen, QueueReport]] = {}
        """The last report of each event loop."""
        self._rows: dict[tuple[int, str], WorkerRow] = {}
        """The rows by minute and worker, the oldest first."""

    def note(
        self,
        session: str,
        worker: WorkerReport,
        report: QueueReport,
        now: int,
        lease: float,
        *,
        is_last: bool,
    ) -> None:
        """Note that a worker has looked at the queue. A worker that has not for three leases is forgotten."""
        self._seen.pop(session, None)
        if not is_last:
            self._seen[session] = WorkerSeen(worker, now), report
        self._seen = {each: seen for each, seen in self._seen.items() if _is_live(seen[0], now, lease)}
        for row in report.rows:
            self._rows[row.minute, worker.name] = row
        while self._rows and (next(iter(self._rows))[0] * MINUTE) < now - ROWS_FOR - HOUR:
            del self._rows[next(iter(self._rows))]

    def live(self, now: int, lease: float) -> list[WorkerSeen]:
        """Return the workers that have looked at the queue within three leases."""
        return [seen for seen, _ in self._seen.values() if _is_live(seen, now, lease)]

    def name_of(self, session: str) -> str:
        """Return the name of the worker of an event loop; "" if it is not known."""
        seen = self._seen.get(session)
        return seen[0].name if seen is not None else ""

    def know(self, task: str, now: int, lease: float) -> bool:
        """Return whether a live worker may know a task."""
        return any(
            task in report.tasks or report.has_more_tasks
            for seen, report in self._seen.values()
            if _is_live(seen, now, lease)
        )

    def rows(self, since: int) -> list[WorkerRow]:
        """Return the rows of the minutes from ``since`` on, in minutes since 1970."""
        return [row for (minute, _), row in self._rows.items() if minute >= since]

    def rows_of(self, names: Sequence[str], minutes: Sequence[int]) -> list[WorkerRow]:
        """Return the rows of these workers and minutes."""
        keys = itertools.product(minutes, names)
        return [row for key in keys if (row := self._rows.get(key)) is not None]


def _is_live(seen: WorkerSeen, now: int, lease: float) -> bool:
    return now - seen.at <= 3000 * lease
