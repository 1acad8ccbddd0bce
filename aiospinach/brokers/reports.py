"""What a worker reports about itself and its jobs, in each sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

LEVEL = 1
"""Grows with each release whose workers can do more."""
TASKS_AT_MOST = 500
"""How many tasks of a queue a worker names, at most."""
MINUTE = 60_000
"""In milliseconds."""
HOUR = 60 * MINUTE
ROWS_FOR = 72 * HOUR
"""For how many milliseconds a queue keeps the rows of its minutes, at least."""


class TaskRow(msgspec.Struct, frozen=True, array_like=True):
    """How many jobs of a task ended in a minute, and how long their bodies took."""

    done: int = 0
    failed: int = 0
    retried: int = 0
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """How many tries ended."""
        return self.done + self.failed + self.retried


class WorkerRow(msgspec.Struct, frozen=True):
    """The numbers of one worker and one minute, so far. A later row of the same minute replaces this one."""

    minute: int
    """In minutes since 1970."""
    by_task: Mapping[str, TaskRow]


class QueueReport(msgspec.Struct, frozen=True):
    """What a worker reports to one queue."""

    tasks: Sequence[str] = ()
    """Tasks of the queue that the worker knows, at most TASKS_AT_MOST."""
    has_more_tasks: bool = False
    rows: Sequence[WorkerRow] = ()
    """Of two hours at most."""


NO_QUEUE_REPORT = QueueReport()
NO_REPORTS: Mapping[str, QueueReport] = {}


class WorkerReport(msgspec.Struct, frozen=True):
    """What a worker reports about itself."""

    name: str
    host: str = ""
    pid: int = 0
    level: int = LEVEL
    """A worker of an older release may have a lower one."""
    number: int = 0
    """How many jobs it runs at once, at most."""
    running: int = 0
    """How many jobs it runs."""
    started: int = 0
    """When it was started, in milliseconds since 1970."""
    version: str = ""
    """The release of the package."""
    lag: float = 0.0
    """Seconds by which its event loop was late with the last sweep."""
    queues: Sequence[str] = ()
    """Some of its queues."""
