"""Faults of receivers: logs and counts them, and skips a receiver whose runs ignore their cancellation."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Final

from ..job import Job
from ..logs import Log, LogThrottle, fields_of
from ..redaction import REDACT_NOTHING, Redaction
from .receivers import Receiver, ReceiverRun, identity_of, name_of, safe_exc_info
from .stats import Counters

logger: Log = Log("aiospinach.signals")

LEFT_BEHIND_AT_MOST: Final = 100
"""A receiver is skipped while so many of its runs are left behind."""
REPORT_EVERY: Final = 60.0
"""Seconds between two reports of the same fault of a receiver."""


_redactions: dict[str, Redaction] = {}
"""By namespace: data that faults about its jobs leave out."""


def set_redaction(namespace: str, redaction: Redaction) -> None:
    """Leave this data out of faults about jobs of the namespace, in addition to earlier calls."""
    if redaction != REDACT_NOTHING:
        _redactions[namespace] = _redactions.get(namespace, REDACT_NOTHING) | redaction


class ReceiverFaults:
    """The faults of the receivers of one signal."""

    def __init__(self, signal: str, counters: Counters) -> None:
        self._signal = signal
        self._counters = counters
        self._left_behind: defaultdict[object, set[asyncio.Task[None]]] = defaultdict(set)
        self._throttle = LogThrottle()

    @property
    def has_any(self) -> bool:
        """A run of a receiver is left behind."""
        return bool(self._left_behind)

    def on_error(self, receiver: Receiver, kwargs: dict[str, Any], error: BaseException) -> None:
        """Log an error that a receiver raised."""
        self._counters.failed += 1
        job = kwargs.get("job")
        redaction = _redactions.get(job.namespace, REDACT_NOTHING) if isinstance(job, Job) else REDACT_NOTHING
        logger.error(
            "signal %s: receiver %s raised %s, %s%s",
            self._signal,
            name_of(receiver),
            type(error).__name__,
            _subject_of(kwargs),
            redaction.ending(error),
            exc_info=safe_exc_info(error, redaction),
            fields=_fields_of(kwargs),
        )

    def on_timeout(self, run: ReceiverRun, limit: float) -> None:
        """Log that a run took longer than ``limit`` seconds and was cancelled; it may go on all the same."""
        self._counters.timed_out += 1
        if run.task.done():
            fate = "was cancelled"
        else:
            fate = "ignores its cancellation and is left behind"
            self._leave_behind(run)
        logger.error(
            "signal %s: receiver %s took longer than %g s and %s, %s",
            self._signal,
            name_of(run.receiver),
            limit,
            fate,
            _subject_of(run.kwargs),
            fields=_fields_of(run.kwargs),
        )

    def on_blocked(self, receiver: Receiver, elapsed: float) -> None:
        """Log that a plain receiver took ``elapsed`` seconds."""
        if self._may_log("slow", receiver):
            logger.warning(
                "signal %s: receiver %s blocked the event loop for %.0f ms: make it async, or hand its"
                " work to a thread",
                self._signal,
                name_of(receiver),
                elapsed * 1000,
            )

    def is_skipped(self, receiver: Receiver) -> bool:
        """So many runs of a receiver are left behind that it is not called."""
        tasks = self._left_behind.get(identity_of(receiver))
        if tasks is None:
            return False
        tasks.difference_update([t for t in tasks if t.get_loop().is_closed()])
        if len(tasks) < LEFT_BEHIND_AT_MOST:
            return False
        self._counters.skipped += 1
        if self._may_log("skipped", receiver):
            logger.error(
                "signal %s: receiver %s is skipped: %d of its runs ignore their cancellation",
                self._signal,
                name_of(receiver),
                len(tasks),
            )
        return True

    def _leave_behind(self, run: ReceiverRun) -> None:
        key = identity_of(run.receiver)
        tasks = self._left_behind[key]
        tasks.add(run.task)

        def forget(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not tasks and self._left_behind.get(key) is tasks:
                del self._left_behind[key]

        run.task.add_done_callback(forget)

    def _may_log(self, about: str, receiver: Receiver) -> bool:
        return self._throttle.allows((about, identity_of(receiver)), REPORT_EVERY)


def _subject_of(kwargs: dict[str, Any]) -> str:
    job = kwargs.get("job")
    return f"of {job!r}" if isinstance(job, Job) else "outside of a job"


def _fields_of(kwargs: dict[str, Any]) -> dict[str, str]:
    job = kwargs.get("job")
    return fields_of(job) if isinstance(job, Job) else {}
