"""Counts and logs ticks that were skipped, since the job of the tick before still waited or ran."""

from __future__ import annotations

from collections import Counter

from ..logs import Log, LogThrottle

logger: Log = Log("aiospinach")

LOG_EVERY = 60.0
"""Seconds between two log lines about the same task."""


class SkippedTicks:
    """Counts skipped ticks by task."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._throttle = LogThrottle()

    def add(self, task: str) -> None:
        self.counts[task] += 1
        if self._throttle.allows(task, LOG_EVERY):
            logger.warning(
                "task %s: a tick is skipped, since the job of the tick before still waits or runs (%d skipped"
                " so far): give the task a longer period, or overlap=True",
                task,
                self.counts[task],
                fields={"task_name": task},
            )
