"""The reports of workers as they are stored in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..reports import HOUR, MINUTE, QueueReport, TaskRow, WorkerReport, WorkerRow

MORE_TASKS = "*"
"""Stands among the tasks of a report for tasks that it does not name. No task has such a name."""
_MINUTES_PER_HOUR = HOUR // MINUTE


def encode_report(worker: bytes, report: QueueReport) -> bytes:
    """Return the report of a worker to a queue: a line of JSON, and the names of its tasks with spaces around
    them, which scripts search."""
    tasks = [*report.tasks, MORE_TASKS] if report.has_more_tasks else report.tasks
    return worker + f"\n {' '.join(tasks)} ".encode()


def decode_worker(session: bytes, report: bytes | None) -> WorkerReport:
    """Return what a worker says about itself. If it cannot be read, only the name of its session is known."""
    try:
        return msgspec.json.decode((report or b"").partition(b"\n")[0], type=WorkerReport)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return WorkerReport(session.decode(errors="replace"), level=0)


def hours_of(report: QueueReport, now: int) -> tuple[int, int]:
    """Return the two hours that the rows of a report are of."""
    hours = {row.minute // _MINUTES_PER_HOUR for row in report.rows} or {now // HOUR}
    return min(hours), max(hours)


def encode_rows(name: str, report: QueueReport, hours: tuple[int, int]) -> list[Any]:
    """Return the rows of a report as arguments of the script ``sweep``: how many there are, and for each row
    which of the two hours it is of, its field and its contents."""
    rows = [row for row in report.rows if row.minute // _MINUTES_PER_HOUR in hours]
    arguments: list[Any] = [len(rows)]
    for row in rows:
        place = 1 + hours.index(row.minute // _MINUTES_PER_HOUR)
        arguments += (place, f"{row.minute}:{name}", msgspec.json.encode(row.by_task))
    return arguments


def decode_rows(flat: Sequence[bytes]) -> dict[str, WorkerRow]:
    """Return rows by their fields; without those that cannot be read."""
    rows: dict[str, WorkerRow] = {}
    for field, row in zip(flat[::2], flat[1::2], strict=True):
        minute, _, name = field.partition(b":")
        try:
            by_task = msgspec.json.decode(row, type=dict[str, TaskRow])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if name and minute.isdigit() and len(minute) < 10:
            rows[field.decode(errors="replace")] = WorkerRow(int(minute), by_task)
    return rows
