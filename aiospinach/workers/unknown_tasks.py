"""Unknown tasks, which jobs wait for and no worker here knows: logs them, and sends task_unknown."""

from __future__ import annotations

from collections.abc import Mapping

from .. import signals
from ..brokers.records import ParkedTask
from ..logs import Log, LogThrottle
from ..timing import from_milliseconds
from .state import PoolState

logger: Log = Log("aiospinach")

LOG_EVERY = 60.0
"""Seconds between two reports of the same task."""
NAMED_AT_MOST = 10


class UnknownTasks:
    """Reports the unknown tasks of a pool: in the log, by a signal, and in its health."""

    def __init__(self, state: PoolState) -> None:
        self._state = state
        self._of_queue: dict[str, Mapping[str, ParkedTask]] = {}
        self._throttle = LogThrottle()

    @property
    def names(self) -> tuple[str, ...]:
        """The unknown tasks, as of the last sweep of each queue."""
        waiting = {task for parked in self._of_queue.values() for task in parked}
        return tuple(sorted(waiting - self._state.tasks.keys()))

    def update(self, queue: str, parked: Mapping[str, ParkedTask]) -> None:
        """Take the parked jobs of a queue, by task, and report unknown tasks among them."""
        if not parked and not self._of_queue.get(queue):
            return
        self._of_queue[queue] = parked
        for task, jobs in parked.items():
            if task not in self._state.tasks and self._throttle.allows((queue, task), LOG_EVERY):
                self._warn(queue, task, jobs)

    def _warn(self, queue: str, task: str, jobs: ParkedTask) -> None:
        module = task.rpartition(".")[0]
        logger.warning(
            "queue %s: %d %s of the task %r %s since %s: no such task is attached to this engine. Import the"
            " module that declares it%s before the workers start, or attach its registry. %s Attached: %s",
            queue,
            jobs.count,
            "job" if jobs.count == 1 else "jobs",
            task,
            "has waited" if jobs.count == 1 else "have waited",
            from_milliseconds(jobs.since).isoformat(sep=" ", timespec="seconds"),
            f" (perhaps {module})" if module else "",
            f"Worker {jobs.owner} had it last." if jobs.owner else "No worker has had it lately.",
            self._attached(),
            fields={**self._state.fields, "task_name": task, "queue": queue},
        )
        arguments = {"task_name": task, "queue": queue, "count": jobs.count}
        self._state.announce(signals.task_unknown, arguments)

    def _attached(self) -> str:
        names = sorted(self._state.tasks)
        others = len(names) - NAMED_AT_MOST
        return ", ".join(names[:NAMED_AT_MOST]) + (f" and {others} more" if others > 0 else "") or "none"
