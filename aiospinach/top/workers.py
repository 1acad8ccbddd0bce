"""The live workers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from aiospinach import WorkerInfo
from aiospinach.views import age, number

from .cell import BAD, CAREFUL, EMPTY, GOOD, MUTED, STRONG, Cell, cell
from .table import Column, Row, Table

COLUMNS = (
    Column("worker", 16, 48),
    Column("running", 7, is_right=True),
    Column("queues", 24, 60),
    Column("lag", 6, is_right=True, rank=1),
    Column("seen", 6, is_right=True),
    Column("up", 6, is_right=True, rank=2),
    Column("host", 8, 32, rank=5),
    Column("pid", 5, is_right=True, rank=4),
    Column("version", 7, rank=3),
)
LATE = 0.1
VERY_LATE = 1.0
"""Seconds by which an event loop is late: jobs, and the renewals of their leases, suffer."""
SILENT = 15.0
"""Seconds after which a worker that reports nothing may be gone."""
NO_WORKERS = (
    "No worker is alive: nobody runs the jobs of this namespace.\n"
    "await engine.start_workers() starts workers, in any process that has the tasks."
)


def worker_table(workers: Sequence[WorkerInfo], now: datetime) -> Table:
    """Return a row for each worker."""
    return Table(COLUMNS, [_row_of(worker, now) for worker in workers])


def _row_of(worker: WorkerInfo, now: datetime) -> Row:
    seen = (now - worker.seen_at).total_seconds()
    started = worker.started_at
    return Row(
        worker.name,
        (
            cell(worker.name, STRONG),
            Cell(f"{number(worker.running)}/{number(worker.number)}", GOOD if worker.running else MUTED),
            cell(", ".join(worker.queues)),
            Cell(_lag(worker.loop_lag), _lag_style(worker.loop_lag)),
            Cell(age(seen), CAREFUL if seen > SILENT else ""),
            EMPTY if started is None else Cell(age((now - started).total_seconds())),
            cell(worker.host),
            Cell(str(worker.pid)),
            cell(worker.version or "?", MUTED),
        ),
    )


def _lag(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 9.9995 else age(seconds)


def _lag_style(seconds: float) -> str:
    if seconds < LATE:
        return ""
    return CAREFUL if seconds < VERY_LATE else BAD
