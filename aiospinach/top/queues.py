"""The queues of an overview as a table, and the words about one of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from textual.content import Content

from aiospinach import Pause
from aiospinach.views import Overview, QueueRow, age, moment, number, printable, rate, short_number

from .bars import chart, sparkline
from .cell import BAD, CAREFUL, EMPTY, GOOD, MUTED, STRONG, Cell, cell, cut
from .table import Column, Row, Table

COLUMNS = (
    Column("queue", 10, 40),
    Column("ready", 5, is_right=True),
    Column("running", 7, is_right=True),
    Column("waiting", 7, is_right=True, rank=2),
    Column("dead", 4, is_right=True),
    Column("parked", 6, is_right=True, rank=6),
    Column("oldest", 6, is_right=True, rank=1),
    Column("slots", 5, is_right=True, rank=5),
    Column("rate", 5, is_right=True, rank=3),
    Column("last hour", 9, 60, rank=4, grows=1),
    Column("state", 9, 24),
)
LATE = 300.0
"""Seconds from which on the first job in line has waited for long."""
CHART_LINES = 4
PAUSES_AT_MOST = 2
"""So many pauses of a queue are described."""


def queue_table(overview: Overview) -> Table:
    """Return a row for each queue."""
    return Table(COLUMNS, [_row_of(queue) for queue in overview.queues])


def _row_of(queue: QueueRow) -> Row:
    is_late = queue.oldest is not None and queue.oldest >= LATE
    return Row(
        queue.name,
        (
            cell(queue.name, STRONG),
            _count(queue.ready),
            _count(queue.running, GOOD),
            _count(queue.waiting),
            _count(queue.dead, BAD),
            _count(queue.parked, CAREFUL),
            EMPTY if queue.oldest is None else Cell(age(queue.oldest), CAREFUL if is_late else ""),
            Cell(short_number(queue.slots), "" if queue.slots else MUTED),
            Cell(rate(queue.rate), "" if queue.rate >= 0.05 else MUTED),
            Cell("", "", partial(sparkline, queue.per_minute, queue.failed_per_minute)),
            _state(queue),
        ),
    )


def _count(count: int, style: str = "") -> Cell:
    return Cell(short_number(count), style if count else MUTED)


def _state(queue: QueueRow) -> Cell:
    if queue.pause is not None:
        return Cell("paused", CAREFUL)
    if queue.paused_tasks:
        tasks = "task" if len(queue.paused_tasks) == 1 else "tasks"
        return Cell(f"{number(len(queue.paused_tasks))} {tasks} paused", CAREFUL)
    if not queue.workers:
        return Cell("no worker", CAREFUL if queue.ready or queue.parked else MUTED)
    return EMPTY


def queue_detail(overview: Overview, name: str | None) -> Content:
    """Return what there is to know of one queue beside its row: its pauses, or its workers. Without jobs, it
    is how to schedule one."""
    if overview.queues and not has_jobs(overview):
        return Content.styled(NO_JOBS.format(namespace=printable(overview.namespace)), MUTED)
    queue = next((each for each in overview.queues if each.name == name), None)
    if queue is None:
        return Content("")
    pauses = [*([] if queue.pause is None else [queue.pause]), *queue.paused_tasks]
    if pauses:
        return Content("\n").join(pause_lines(pauses, overview.at))
    if not queue.workers:
        return Content.styled(
            f"no live worker consumes the queue {printable(queue.name)}: its jobs wait", MUTED
        )
    workers = "1 worker consumes" if queue.workers == 1 else f"{number(queue.workers)} workers consume"
    return Content.styled(
        f"{workers} the queue {printable(queue.name)}, with {number(queue.slots)} slots", MUTED
    )


def pause_lines(pauses: Sequence[Pause], now: datetime) -> list[Content]:
    """Return a line for each pause; if there are many, the last line counts those that are left out."""
    shown = pauses[: PAUSES_AT_MOST - 1] if len(pauses) > PAUSES_AT_MOST else pauses
    lines = [_pause_words(pause, now) for pause in shown]
    if len(shown) < len(pauses):
        lines.append(f"{number(len(pauses) - len(shown))} other tasks are paused")
    return [Content.styled(printable(line), CAREFUL) for line in lines]


def _pause_words(pause: Pause, now: datetime) -> str:
    what = f"task {pause.task}" if pause.task else f"the queue {pause.queue}"
    since = age((now - pause.since).total_seconds())
    until = f"until {moment(pause.until)}" if pause.until else "until it is resumed"
    why = f": {pause.reason}" if pause.reason else ""
    return f"{what} has been paused for {since} by {pause.by}, {until}{why}"


def summary(overview: Overview) -> Content:
    """Return one line on all queues and workers."""
    workers = f"{number(len(overview.workers))} worker{'' if len(overview.workers) == 1 else 's'}"
    busy = f"{number(overview.busy)} of {number(overview.slots)} slots busy"
    return Content.assemble(
        (rate(overview.rate), STRONG), (f"  {busy}  {workers}  {overview.at:%H:%M:%S} UTC", MUTED)
    )


def history(overview: Overview, width: int) -> Content:
    """Return a chart of the last hour of all queues, under a line that has its scale."""
    highest = number(max(overview.per_minute))
    caption = f"tries that ended in each minute of the last hour, {highest} at most"
    lines = chart(overview.per_minute, overview.failed_per_minute, width, CHART_LINES)
    return Content("\n").join([Content.styled(cut(caption, width), MUTED), *lines])


NO_QUEUES = (
    "No queue to show: this engine has no tasks.\n\n"
    "Give top the engine of your application, as in: aiospinach top app:engine\n\n"
    "An engine has the tasks of a registry after engine.attach_tasks(tasks)."
)
NO_JOBS = (
    "No job has been scheduled in the namespace {namespace!r}, or all have ended for more than an hour."
    " await task.schedule(...) schedules one, and await engine.start_workers() runs it."
)


def has_jobs(overview: Overview) -> bool:
    """Return whether there are jobs, or were some within the last hour."""
    counts = ((q.ready, q.running, q.waiting, q.dead, q.parked, *q.per_minute) for q in overview.queues)
    return any(map(any, counts))
