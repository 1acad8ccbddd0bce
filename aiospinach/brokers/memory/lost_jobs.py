"""Logging jobs in memory that end with their process."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from weakref import WeakMethod, ref

from ...logs import Log

logger: Log = Log("aiospinach.broker")

_counts: list[ref[Callable[[], int]]] = []


def warn_at_exit(count: Callable[[], int]) -> None:
    """Warn when the process ends, if ``count``, a method that is held weakly, returns more than 0 jobs."""
    if not _counts:
        atexit.register(_warn)
    _counts[:] = [each for each in _counts if each() is not None]
    _counts.append(WeakMethod(count))


def _warn() -> None:
    for each in _counts:
        count = each()
        if count is not None and (jobs := count()):
            logger.warning(
                "MemoryBroker: %d jobs are lost with the process: run them with engine.start_workers()"
                " first, or use a RedisBroker",
                jobs,
            )
