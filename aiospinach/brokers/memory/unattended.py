"""Jobs in memory that no workers look at: they are named in the log, and never vanish in silence."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
from weakref import WeakSet

from ...logs import Log

logger: Log = Log("aiospinach.broker")

WARN_AFTER = 5.0
"""Seconds that jobs wait before the log says that no workers run."""


class Unattended:
    """Warns once, after some seconds, and once more when the process ends.

    ``count`` returns how many jobs the broker has. Workers look at their queues every few seconds.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        if not _all:
            atexit.register(_log_lost_jobs)
        _all.add(self)

    def note_jobs(self) -> None:
        """Jobs were stored, and nobody has looked at the broker lately."""
        if self._timer is None or self._loop is None or self._loop.is_closed():
            self._loop = asyncio.get_running_loop()
            self._timer = self._loop.call_later(WARN_AFTER, self._warn)

    def note_look(self) -> None:
        """Workers have looked."""
        self.close()

    def close(self) -> None:
        """Warn no more of the jobs that wait now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def log_lost_jobs(self) -> None:
        """The process ends, and the jobs with it."""
        if count := self._count():
            logger.warning(
                "MemoryBroker: %d jobs are lost with the process: run them with engine.start_workers()"
                " first, or use a RedisBroker",
                count,
            )

    def _warn(self) -> None:
        self._timer = None
        if count := self._count():
            logger.warning(
                "MemoryBroker: %d jobs wait, and no workers of their engine run in this process: await"
                " engine.start_workers(block=False) of the engine that scheduled them, or use a RedisBroker"
                " for workers in another process",
                count,
            )


_all: WeakSet[Unattended] = WeakSet()


def _log_lost_jobs() -> None:
    for each in list(_all):
        each.log_lost_jobs()
