"""The reporter of a pool: what its worker tells the broker about itself, in each sweep."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

from ..brokers.reports import TASKS_AT_MOST, QueueReport, WorkerReport
from ..release import __version__
from .outbox import Outbox
from .slots import Slots
from .state import PoolState

QUEUES_AT_MOST = 20
"""How many of its queues a worker names."""


class Reporter:
    """Makes the reports of a pool, and forgets what the broker has stored."""

    def __init__(self, state: PoolState, slots: Slots, outboxes: Sequence[Outbox]) -> None:
        self._state = state
        self._slots = slots
        self._outbox_of = {outbox.queue: outbox for outbox in outboxes}
        self._started = state.broker.now()
        self._tasks: dict[str, tuple[str, ...]] = {}

    def report(self, lag: float) -> WorkerReport:
        """Return what the worker says about itself. ``lag`` is how late its event loop was, in seconds."""
        return WorkerReport(
            self._state.name,
            socket.gethostname(),
            os.getpid(),
            number=self._slots.number,
            running=self._slots.running,
            started=self._started,
            version=__version__,
            lag=round(lag, 6),
            queues=list(self._outbox_of)[:QUEUES_AT_MOST],
        )

    def of_queues(self, queues: Sequence[str]) -> Mapping[str, QueueReport]:
        """Return what the worker says to each of these queues."""
        return {queue: self._of_queue(queue) for queue in queues}

    def is_unsent(self, queues: Sequence[str]) -> bool:
        """Some numbers of these queues are not stored yet."""
        return any(self._outbox_of[queue].tally.is_unsent for queue in queues)

    def on_sent(self, reports: Mapping[str, QueueReport]) -> None:
        """Note that the broker has stored these reports."""
        for queue, report in reports.items():
            self._outbox_of[queue].tally.on_sent(report.rows)

    def _of_queue(self, queue: str) -> QueueReport:
        tasks = self._state.tasks_of(queue)
        names = self._tasks.get(queue, ())
        if len(names) < min(len(tasks), TASKS_AT_MOST):
            names = self._tasks[queue] = tuple(task.name for task in tasks[:TASKS_AT_MOST])
        return QueueReport(names, len(tasks) > TASKS_AT_MOST, self._outbox_of[queue].tally.unsent())
